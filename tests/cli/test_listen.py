"""A developer sees events as they happen, and gets them at a receiver that no request can reach from outside."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from standardwebhooks import Webhook
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from builders import NOON, SECRET, delivery, event
from rest.api_fixture import ApiFixture, open_api
from scorm_webhooks_cli.listen import ForwardResult, Listener, Receiver, sign_again
from scorm_webhooks_cli.output import parse_time_option
from streams.core.deliveries.delivery import HoldReason
from streams.core.errors import FieldError, Invalid, NotFound, Unavailable
from streams.core.events.event import render
from streams.core.times import format_time, parse_time

pytestmark = pytest.mark.slow
SECONDS = 20


class LocalReceiver:
    """A developer's server. It keeps what it got, and responds with the next of `statuses`, then with 204."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.statuses: list[int] = []
        self.app = Starlette(routes=[Route("/hook", self._take, methods=["POST"])])

    async def _take(self, request: Request) -> Response:
        self.got.append((dict(request.headers), await request.body()))
        return Response(status_code=self.statuses.pop(0) if self.statuses else 204)

    @property
    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in self.got]


@asynccontextmanager
async def served(app: Any, port: int = 0) -> AsyncIterator[str]:
    listener = socket.create_server(("127.0.0.1", port))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=1))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        listener.close()


class Listening:
    """The command `listen` in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        assert process.stdout
        assert process.stderr
        self._tasks = [asyncio.create_task(self._read(stream)) for stream in (process.stdout, process.stderr)]

    async def _read(self, stream: asyncio.StreamReader) -> None:
        async for line in stream:
            self.lines.append(line.decode().rstrip())

    async def said(self, words: str) -> str:
        """Wait for a line with these words."""
        await until(lambda: any(words in line for line in self.lines), lambda: f"{words!r} in {self.lines}")
        return next(line for line in self.lines if words in line)

    async def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """Ctrl-C, or another signal."""
        self.process.send_signal(number)
        code = await asyncio.wait_for(self.process.wait(), SECONDS)
        await asyncio.gather(*self._tasks)
        return code


async def until(
    condition: Callable[[], bool | Awaitable[bool]], what: Callable[[], str] = lambda: "the condition"
) -> None:
    try:
        async with asyncio.timeout(SECONDS):
            while True:
                result = condition()
                if result if isinstance(result, bool) else await result:
                    return
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"not in time: {what()}")


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiFixture]:
    async with open_api(f"sqlite:///{tmp_path}/db.sqlite") as api:
        yield api


@pytest.fixture
async def receiver() -> AsyncIterator[tuple[LocalReceiver, str]]:
    local = LocalReceiver()
    async with served(local.app) as url:
        yield local, f"{url}/hook"


@asynccontextmanager
async def listening(api: ApiFixture, url: str, *options: str, folder: Path) -> AsyncIterator[Listening]:
    environ = {"SCORM_WEBHOOKS_API_URL": url, "SCORM_WEBHOOKS_API_KEY": str(api.acme.key), "PATH": os.environ["PATH"]}
    command = [sys.executable, "-m", "streams", "listen", *options]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, env=environ, cwd=folder)
    listener = Listening(process)
    try:
        await listener.said("listening as webhook")
        yield listener
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def only_webhook(api: ApiFixture) -> dict[str, Any]:
    [webhook] = (await api.acme.get("/v1/webhooks"))["data"]
    return dict(webhook)


async def happen(api: ApiFixture, *event_ids: str) -> None:
    """Events happen, and are held for the readers of the only webhook."""
    webhook = await only_webhook(api)
    for event_id in event_ids:
        owed = delivery(
            account_id=api.acme.account_id,
            webhook_id=webhook["id"],
            event_id=event_id,
            body=render(event(id=event_id)),
        )
        await api.record(owed.to_held(HoldReason.PULL, None, is_attempted=False))


async def state(api: ApiFixture, event_id: str) -> str:
    [row] = (await api.acme.get("/v1/deliveries", eventId=event_id))["data"]
    return str(row["state"])


async def test_events_reach_the_local_receiver(
    api: ApiFixture, receiver: tuple[LocalReceiver, str], tmp_path: Path
) -> None:
    local, hook = receiver
    async with served(api.app) as url, listening(api, url, "--forward-to", hook, folder=tmp_path) as listener:
        webhook = await only_webhook(api)
        assert (webhook["delivery"], "expiresAt" in webhook) == ("pull", True)
        secret = (await listener.said("signing secret")).split()[2]
        await happen(api, "evt_1")
        line = await listener.said("evt_1")
        assert "session.completed" in line
        assert "204 in" in line
        await happen(api, "evt_2")
        await listener.said("evt_2")
        assert local.ids == ["evt_1", "evt_2"]
        headers, body = local.got[0]
        # The fixture's clock stands still: the age of the request is not what this is about.
        assert sign_again(headers, body, secret)["webhook-signature"] == headers["webhook-signature"]
        await until(lambda: _is(api, "evt_2", "delivered"))
        assert await listener.end() == 130
        assert (await api.acme.get("/v1/webhooks"))["data"] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_each_signal_deletes_the_webhook(api: ApiFixture, tmp_path: Path, number: signal.Signals) -> None:
    async with served(api.app) as url, listening(api, url, folder=tmp_path) as listener:
        assert await listener.end(number) == 130
        assert (await api.acme.get("/v1/webhooks"))["data"] == []
        assert not any("Traceback" in line for line in listener.lines)


async def _is(api: ApiFixture, event_id: str, wanted: str) -> bool:
    return await state(api, event_id) == wanted


async def test_what_the_receiver_refuses_comes_again(
    api: ApiFixture, receiver: tuple[LocalReceiver, str], tmp_path: Path
) -> None:
    local, hook = receiver
    local.statuses = [500]
    async with served(api.app) as url, listening(api, url, "--forward-to", hook, folder=tmp_path) as listener:
        await happen(api, "evt_1")
        assert "500 in" in await listener.said("comes again in 10 s")
        assert await state(api, "evt_1") == "held"

        def comes_in_time() -> bool:
            # It is given back after its line.
            api.clock.advance(10)
            return any("attempt 2" in line for line in listener.lines)

        await until(comes_in_time)
        await until(lambda: _is(api, "evt_1", "delivered"))
        assert local.ids == ["evt_1", "evt_1"]


async def test_a_restart_of_the_api_loses_nothing(
    api: ApiFixture, receiver: tuple[LocalReceiver, str], tmp_path: Path
) -> None:
    local, hook = receiver
    async with served(api.app) as url:
        port = int(url.rpartition(":")[2])
        starting = listening(api, url, "--forward-to", hook, folder=tmp_path)
        listener = await starting.__aenter__()
    try:
        assert "last contact" in await listener.said("reconnecting")
        await happen(api, "evt_1")
        async with served(api.app, port):
            await listener.said("connected again after")
            await listener.said("evt_1")
            assert local.ids == ["evt_1"]
            assert await listener.end() == 130
    finally:
        await starting.__aexit__(None, None, None)


async def test_a_webhook_that_a_person_deletes_ends_the_listener(api: ApiFixture, tmp_path: Path) -> None:
    async with served(api.app) as url, listening(api, url, folder=tmp_path) as listener:
        await api.acme.delete(f"/v1/webhooks/{(await only_webhook(api))['id']}")
        api.app.state.services.pulls.end_waits()
        await listener.said("is gone: a person or a program deleted it")
        assert await asyncio.wait_for(listener.process.wait(), SECONDS) == 1


class ScriptedApi:
    """An API with one response or error for each call, in order; Ctrl-C after the last one."""

    def __init__(self, *script: Any) -> None:
        self.script = list(script)
        self.calls: list[tuple[str, Any]] = []

    def post(self, *path: str, body: Any = None, **more: Any) -> Any:
        self.calls.append((path[-1], body))
        if not self.script:
            raise KeyboardInterrupt
        step = self.script.pop(0)
        if isinstance(step, Exception):
            raise step
        return step

    def delete(self, *path: str) -> None:
        self.calls.append(("delete", path[-1]))


def made(webhook_id: str) -> dict[str, str]:
    return {"id": webhook_id, "secret": SECRET, "createdAt": format_time(datetime.now(UTC))}


def item(number: int) -> dict[str, Any]:
    headers = {"webhook-id": f"evt_{number}", "webhook-attempt": "1"}
    return {"items": [{"id": f"dlv_{number}", "headers": headers, "body": "{}"}]}


def listen(api: ScriptedApi, monkeypatch: pytest.MonkeyPatch, accepts: bool = True) -> None:
    monkeypatch.setattr("scorm_webhooks_cli.listen.MIN_BACKOFF_SECONDS", 0.001)
    # As after a night.
    monkeypatch.setattr("scorm_webhooks_cli.listen.MIN_EXPIRY", timedelta())
    monkeypatch.setattr(Receiver, "send", lambda self, item: ForwardResult(accepts, "", 0))
    with pytest.raises(KeyboardInterrupt):
        Listener(api, {}, Receiver(None, None, None), as_json=False).run(None)  # type: ignore[arg-type]


def since(api: ScriptedApi) -> datetime:
    [body] = [body for route, body in api.calls if route == "replays"]
    moment = parse_time(body["since"])
    assert moment
    return moment


def test_after_a_night_another_webhook_gets_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    began_at = datetime.now(UTC)
    # The webhook expires while the receiver works: nothing of it is settled.
    api = ScriptedApi(made("wh_1"), item(1), NotFound("gone"), made("wh_2"), {})
    listen(api, monkeypatch)
    assert [route for route, _ in api.calls] == ["webhooks", "pull", "ack", "webhooks", "replays", "pull", "delete"]
    assert since(api) <= began_at
    assert api.calls[-1] == ("delete", "wh_2")


def test_what_was_refused_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    began_at = datetime.now(UTC)
    empty: dict[str, Any] = {"items": []}
    api = ScriptedApi(made("wh_1"), item(1), {}, *[empty] * 3, NotFound("gone"), made("wh_2"), {})
    listen(api, monkeypatch, accepts=False)
    assert since(api) <= began_at


def test_an_outage_makes_no_second_webhook(monkeypatch: pytest.MonkeyPatch) -> None:
    away = Unavailable("away")
    api = ScriptedApi(made("wh_1"), NotFound("gone"), away, made("wh_2"), away, away, {})
    listen(api, monkeypatch)
    routes = [route for route, _ in api.calls]
    assert routes == ["webhooks", "pull", "webhooks", "webhooks", "replays", "replays", "replays", "pull", "delete"]


def test_a_start_that_fails_leaves_no_webhook() -> None:
    api = ScriptedApi(made("wh_1"), Invalid(FieldError("since", "must be in the past")))
    with pytest.raises(Invalid):
        Listener(api, {}, Receiver(None, None, None), as_json=False).run(NOON)  # type: ignore[arg-type]
    assert api.calls[-1] == ("delete", "wh_1")


async def test_a_receiver_that_is_away_is_named(api: ApiFixture, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        closed = f"http://127.0.0.1:{taken.getsockname()[1]}/hook"
    async with served(api.app) as url, listening(api, url, "--forward-to", closed, folder=tmp_path) as listener:
        await happen(api, "evt_1")
        await listener.said("comes again in 10 s")
        assert await state(api, "evt_1") == "held"


def test_a_request_can_be_signed_with_the_secret_of_the_receiver() -> None:
    body = render(event(id="evt_1"))
    timestamp = str(int(datetime.now(UTC).timestamp()))
    headers = {
        "webhook-id": "evt_1",
        "webhook-timestamp": timestamp,
        "webhook-signature": "v1,other",
        "X-AllureConnect-Signature": "other",
    }
    signed = {**headers, **sign_again(headers, body, SECRET)}
    assert Webhook(SECRET).verify(body, signed)["id"] == "evt_1"
    assert signed["X-AllureConnect-Signature"] != "other"


@pytest.mark.parametrize(
    ("text", "ago"),
    [("90s", timedelta(seconds=90)), ("10m", timedelta(minutes=10)), ("3d", timedelta(days=3))],
)
def test_since_is_a_duration_or_a_time(text: str, ago: timedelta) -> None:
    assert parse_time_option("--since", text, NOON) == NOON - ago
    assert parse_time_option("--since", "2026-04-10T14:32:00Z") == datetime(2026, 4, 10, 14, 32, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "10", "0m", "yesterday", "9999999d", "999999d"])
def test_another_since_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="--since: must be a duration"):
        parse_time_option("--since", text, NOON)


def test_without_a_receiver_every_event_is_accepted() -> None:
    assert Receiver(None, None, None).send({}) == ForwardResult(True, "", 0)  # type: ignore[arg-type]
