"""A developer sends test events to the terminal that listens, and follows deliveries."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from cli.command import run, served

from builders import delivery, event
from rest.api_fixture import ApiFixture
from rest.api_fixture import open_api as open_api_fixture
from scorm_webhooks_cli.client import open_api
from scorm_webhooks_cli.listen import listener_name
from scorm_webhooks_cli.tail import Tail
from streams.adapters.avro.codec import AvroCodec
from streams.core.deliveries.delivery import Delivery, HoldReason
from streams.core.errors import Invalid, NotFound
from streams.core.events.event import render
from streams.topics import TEST_DELIVERIES

pytestmark = pytest.mark.slow
CODEC = AvroCodec()


@asynccontextmanager
async def delivering(api: ApiFixture) -> AsyncIterator[list[dict[str, Any]]]:
    """`deliver` holds tests of pull webhooks. Yields the bodies of those that it got."""
    bodies: list[dict[str, Any]] = []

    async def hold() -> None:
        done = 0
        while True:
            for record in api.kafka.topic(TEST_DELIVERIES)[done:]:
                done += 1
                owed = CODEC.decode(record.value or b"")
                assert isinstance(owed, Delivery)
                bodies.append(json.loads(owed.body))
                await api.record(owed.to_held(HoldReason.PULL, None, is_attempted=False))
            await asyncio.sleep(0.01)

    task = asyncio.create_task(hold())
    try:
        yield bodies
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def write_data(text: str) -> None:
    Path("data.json").write_text(text)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiFixture]:
    async with open_api_fixture(f"sqlite:///{tmp_path}/db.sqlite") as api:
        yield api


@pytest.fixture
async def use_acme(api: ApiFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Commands use the API over HTTP, with Acme's key."""
    monkeypatch.chdir(tmp_path)
    async with served(api.app) as url:
        monkeypatch.setenv("SCORM_WEBHOOKS_API_URL", url)
        monkeypatch.setenv("SCORM_WEBHOOKS_API_KEY", str(api.acme.key))
        yield


async def test_a_test_event_reaches_the_terminal_that_listens(
    api: ApiFixture, use_acme: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scorm_webhooks_cli.trigger.LISTENER_SECONDS", 0.3)
    listens = {"delivery": "pull", "temporary": True, "description": listener_name()}
    webhook = await api.acme.post("/v1/webhooks", listens)
    await api.acme.webhook(description="The CRM")
    async with delivering(api) as bodies:
        done = await run("trigger", "session.completed", "--failed", "--json")
    assert (done.exit_code, json.loads(done.stdout)["webhookId"]) == (0, webhook["id"])
    assert "does `listen` still run?" in done.stderr
    [body] = bodies
    assert (body["test"], body["data"]["successStatus"], body["data"]["scoreScaled"]) == (True, "failed", 0.34)


async def test_own_data_replaces_that_of_the_example(api: ApiFixture, use_acme: None) -> None:
    webhook = await api.acme.post("/v1/webhooks", {"delivery": "pull"})
    write_data('{"scoreRaw": 1, "scoreScaled": null, "metadata": {"department": "hr"}}')
    async with delivering(api) as bodies:
        options = "--webhook", webhook["id"], "--data", "data.json"
        assert (await run("trigger", "session.scored", *options)).exit_code == 0
    data = bodies[0]["data"]
    assert (data["scoreRaw"], "scoreScaled" in data, data["metadata"]) == (1, False, {"department": "hr"})


async def test_wrong_data_names_its_field_and_sends_nothing(api: ApiFixture, use_acme: None) -> None:
    webhook = await api.acme.post("/v1/webhooks", {"delivery": "pull"})
    write_data('{"scoreRaw": "high", "colour": 1}')
    refused = await run("trigger", "session.scored", "--webhook", webhook["id"], "--data", "data.json")
    assert isinstance(refused.exception, Invalid)
    assert {error.field for error in refused.exception.errors} == {"data.scoreRaw", "data.colour"}
    assert api.kafka.topic(TEST_DELIVERIES) == []
    write_data("[]")
    assert "must be a JSON object" in str((await run("trigger", "session.scored", "--data", "data.json")).exception)


async def test_without_a_listener_it_says_how_to_get_one(api: ApiFixture, use_acme: None) -> None:
    refused = await run("trigger", "session.completed")
    assert isinstance(refused.exception, NotFound)
    assert "start `scorm-webhooks listen`" in str(refused.exception)
    for name in ("ada", "grace"):
        await api.acme.post("/v1/webhooks", {"delivery": "pull", "temporary": True, "description": f"listen: {name}"})
    assert "several people listen" in str((await run("trigger", "session.completed")).exception)
    assert "has none" in str((await run("trigger", "package.updated", "--passed")).exception)
    assert "must be one of" in str((await run("trigger", "session.flown")).exception)


async def test_a_tail_prints_each_change_once(
    api: ApiFixture, use_acme: None, capsys: pytest.CaptureFixture[str]
) -> None:
    webhook = await api.acme.webhook()
    owner = {"account_id": api.acme.account_id, "webhook_id": webhook["id"]}
    await api.record(delivery(**owner, event_id="evt_old", body=render(event())))
    loop = asyncio.get_running_loop()

    def follow() -> list[str]:
        with open_api() as client:
            tail = Tail(client, {}, as_json=False)
            tail.print_changes()
            happened = api.record(delivery(**owner, event_id="evt_new", body=render(event())))
            asyncio.run_coroutine_threadsafe(happened, loop).result(10)
            for _ in range(2):
                tail.print_changes()
        return capsys.readouterr().out.splitlines()

    lines = await asyncio.to_thread(follow)
    assert [line.split()[1:4] for line in lines] == [["waiting", "session.completed", "evt_new"]]
