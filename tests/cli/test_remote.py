"""With SCORM_WEBHOOKS_API_URL commands use that API over HTTP, with a key, and no database of their own."""

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from cli.command import run, run_with_jobs, served
from cli.test_api_json import store_dead_letter
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send
from typer.testing import Result

from builders import EXAMPLE
from rest.api_fixture import OPERATOR_KEY, URL, ApiFixture, open_api
from scorm_webhooks_cli import client
from streams.core.errors import Forbidden, Invalid, Misconfigured, NotFound, Unavailable
from streams.topics import SESSION_EVENTS

Use = Callable[[str], None]


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiFixture]:
    async with open_api(f"sqlite:///{tmp_path}/db.sqlite") as api:
        yield api


@pytest.fixture
async def use(api: ApiFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Use]:
    """Lets commands use the API with a key, in a folder without a system."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody:secret@127.0.0.1:1/none")
    async with served(api.app) as url:
        monkeypatch.setenv("SCORM_WEBHOOKS_API_URL", url)
        yield lambda key: monkeypatch.setenv("SCORM_WEBHOOKS_API_KEY", key)


async def printed(*arguments: str) -> Any:
    done = await run(*arguments, "--json")
    assert done.exit_code == 0, (done.output, done.exception)
    return json.loads(done.stdout)


async def test_a_webhook_is_registered_changed_and_deleted(api: ApiFixture, use: Use) -> None:
    use(str(api.acme.key))
    made = await printed("webhooks", "create", "--url", URL, "--filter", '{"successStatus": "passed"}')
    assert (made["accountId"], made["filter"]) == (api.acme.account_id, {"successStatus": "passed"})
    assert (
        await printed("webhooks", "list", "--account", api.acme.account_id)
        == (await api.acme.get("/v1/webhooks"))["data"]
    )
    assert (await printed("webhooks", "pause", made["id"]))["status"] == "paused"
    assert (await printed("webhooks", "secret", made["id"])) == {"secret": made["secret"]}
    no = await run("webhooks", "delete", made["id"], answer="n\n")
    assert (no.exit_code, "0 waiting and 0 held deliveries" in no.stdout) == (1, True)
    assert (await run("webhooks", "delete", made["id"], "--yes")).exit_code == 0
    assert isinstance((await run("webhooks", "show", made["id"])).exception, NotFound)
    [entry] = (await api.acme.get("/v1/account/audit", action="webhook.deleted"))["data"]
    assert entry["actor"].startswith("key:")


async def test_the_source_addresses_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"SCORM_WEBHOOKS_SOURCE_ADDRESSES": "203.0.113.7,198.51.100.0/24"}
    async with open_api(f"sqlite:///{tmp_path}/other.sqlite", settings=settings) as other, served(other.app) as url:
        monkeypatch.setenv("SCORM_WEBHOOKS_API_URL", url)
        monkeypatch.setenv("SCORM_WEBHOOKS_API_KEY", str(other.acme.key))
        addresses = {"addresses": ["203.0.113.7", "198.51.100.0/24"], "userAgent": "scorm-webhooks/1.0"}
        assert await printed("webhooks", "source-addresses") == addresses
        assert (await run("webhooks", "source-addresses")).stdout.split() == [
            *("address", "userAgent"),
            *("203.0.113.7", "scorm-webhooks/1.0"),
            *("198.51.100.0/24", "scorm-webhooks/1.0"),
        ]


async def test_a_list_has_more_rows_than_one_page(api: ApiFixture, use: Use, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MAX_PAGE_ROWS", 2)
    use(OPERATOR_KEY)
    for number in range(3):
        await api.operator.post("/v1/accounts", {"name": f"Customer {number}"})
    assert await printed("accounts", "list") == (await api.operator.get("/v1/accounts"))["data"]
    assert len(await printed("accounts", "list")) == 5
    assert len(await printed("accounts", "list", "--limit", "3")) == 3


async def test_retries_are_an_option_of_their_own(api: ApiFixture, use: Use) -> None:
    use(str(api.acme.key))
    made = await printed("webhooks", "create", "--url", URL, "--retries", "30s, 2m,1h")
    assert made["retries"] == ["30s", "2m", "1h"]
    assert (await printed("webhooks", "update", made["id"], "--retries", ""))["retries"] == []
    assert (await printed("webhooks", "update", made["id"], "--description", "CRM"))["retries"] == []


async def test_an_accounts_key_and_an_operators_see_their_audit_log(api: ApiFixture, use: Use) -> None:
    use(str(api.acme.key))
    await printed("webhooks", "create", "--url", URL)
    assert await printed("audit", "list") == (await api.acme.get("/v1/account/audit"))["data"]
    use(OPERATOR_KEY)
    assert await printed("audit", "list") == (await api.operator.get("/v1/audit"))["data"]
    [opened] = await printed("audit", "list", "--account", api.globex.account_id)
    assert opened["action"] == "account.opened"


async def test_dead_letters_of_the_keys_account_are_retried(api: ApiFixture, use: Use) -> None:
    dead = await store_dead_letter(api)
    use(str(api.globex.key))
    assert "0 dead letters of 0 webhooks in this account" in (await run("dead-letters", "retry", "--all")).stdout
    use(str(api.acme.key))
    done = await run_with_jobs(api, "dead-letters", "retry", "--all", answer="y\n")
    assert "1 dead letter of 1 webhook in this account" in done.stdout
    assert done.stdout.endswith("1 retried\n")
    assert (await api.acme.get(f"/v1/deliveries/{dead}"))["state"] == "held"


async def test_a_learner_is_erased(api: ApiFixture, use: Use) -> None:
    await store_dead_letter(api)
    use(OPERATOR_KEY)
    done = await run("learners", "erase", api.acme.account_id, str(EXAMPLE["learnerId"]), answer="y\n")
    assert "1 delivery of this learner's events" in done.stdout
    assert "finished" in done.stdout


EVENT = {"type": "package.updated", "createdAt": "2026-04-10T14:32:00Z", "data": {"packageId": "p", "version": "2"}}


def file_of(folder: Path, *events: dict[str, Any]) -> str:
    file = folder / "events"
    file.write_text("\n\n".join(map(json.dumps, events)))
    return str(file)


async def test_events_go_through_the_api(api: ApiFixture, use: Use, tmp_path: Path) -> None:
    await api.acme.webhook()
    use(str(api.acme.key))
    file = file_of(tmp_path, {**EVENT, "id": "evt_1"}, {**EVENT, "accountId": api.acme.account_id})
    accepted = await printed("events", "publish", file)
    assert accepted["ids"][0] == "evt_1"
    assert [event["webhooks"] for event in accepted["events"]] == [1, 1]
    assert len(api.kafka.topic(SESSION_EVENTS)) == 2


@pytest.mark.parametrize(("failures", "said"), [(1, "1 event published"), (2, "lines 1 to 1 may be published")])
async def test_after_an_outage_the_same_events_are_sent_once_more(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, failures: int, said: str
) -> None:
    bodies: list[bytes] = []

    async def kafka_is_away(scope: Scope, receive: Receive, send: Send) -> None:
        bodies.append(await Request(scope, receive).body())
        response = JSONResponse({"type": "urn:x", "title": "Kafka is away", "status": 503}, 503)
        if len(bodies) > failures:
            response = JSONResponse({"ids": ["evt_1"], "events": [{"id": "evt_1", "webhooks": 1}]}, 202)
        await response(scope, receive, send)

    done = await _run_at(kafka_is_away, monkeypatch, "events", "publish", file_of(tmp_path, EVENT))
    assert said in f"{done.stdout} {done.exception}"
    assert len(bodies) == 2
    assert bodies[0] == bodies[1]


async def test_large_events_go_in_several_requests(api: ApiFixture, use: Use, tmp_path: Path) -> None:
    use(str(api.acme.key))
    metadata = {f"name-{number}": "é" * 400 for number in range(20)}
    of_a_launch = {name: value for name, value in EXAMPLE.items() if name.endswith("Id")}
    large = {**EVENT, "type": "session.launched", "data": {**of_a_launch, "metadata": metadata}}
    accepted = await printed("events", "publish", file_of(tmp_path, *[large] * 200))
    assert len(set(accepted["ids"])) == 200
    assert len(api.kafka.topic(SESSION_EVENTS)) == 200


async def test_an_event_of_another_account_names_its_line(api: ApiFixture, use: Use, tmp_path: Path) -> None:
    use(str(api.acme.key))
    refused = await run("events", "publish", file_of(tmp_path, EVENT, {**EVENT, "accountId": api.globex.account_id}))
    assert isinstance(refused.exception, Invalid)
    assert str(refused.exception).startswith("line 3: accountId: ")


async def test_a_key_has_one_account_and_its_scopes(api: ApiFixture, use: Use) -> None:
    use(str(api.acme.key))
    other = await run("usage", "list", api.globex.account_id)
    assert str(other.exception) == "account: must be the account of SCORM_WEBHOOKS_API_KEY"
    assert isinstance((await run("accounts", "list")).exception, Forbidden)
    use(str((await api.with_scopes(api.acme.account_id, "deliveries:read")).key))
    assert await printed("dead-letters", "list", "--account", api.acme.account_id) == []
    reader = await api.with_scopes(api.acme.account_id, "webhooks:read")
    use(str(reader.key))
    refused = await run("webhooks", "create", "--url", URL)
    assert "this needs the scope webhooks:write" in str(refused.exception)


async def test_a_wrong_field_is_named(api: ApiFixture, use: Use) -> None:
    use(str(api.acme.key))
    refused = await run("webhooks", "create", "--url", "http://crm.example.com", "--max-concurrency", "0")
    assert isinstance(refused.exception, Invalid)
    assert {error.field for error in refused.exception.errors} >= {"maxConcurrency"}


async def test_a_text_of_another_form_is_said_in_words(api: ApiFixture, use: Use) -> None:
    use(str(api.acme.key))
    month = await run("usage", "show", api.acme.account_id, "2026-4")
    assert str(month.exception) == "month: must be a month such as 2026-04"
    event_type = await run("deliveries", "list", "--type", "Completed")
    assert str(event_type.exception) == "eventType: must be a type of event such as session.completed"


@pytest.mark.parametrize("text", ["..", "../accounts", "a/b", "wh_1?x=1", ""])
async def test_an_id_cannot_lead_to_another_resource(api: ApiFixture, use: Use, text: str) -> None:
    use(str(api.acme.key))
    assert isinstance((await run("webhooks", "show", text)).exception, Invalid)


async def test_a_command_waits_for_its_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    async def busy(scope: Scope, receive: Receive, send: Send) -> None:
        calls.append(scope["path"])
        response: Response = JSONResponse({"data": []})
        if len(calls) == 1:
            response = JSONResponse({"type": "urn:x", "title": "Too many", "status": 429}, 429, {"Retry-After": "0"})
        await response(scope, receive, send)

    assert (await _run_at(busy, monkeypatch)).stdout == "none\n"
    assert calls == ["/v1/webhooks", "/v1/webhooks"]


@pytest.mark.parametrize(
    ("response", "said"),
    [
        (HTMLResponse("<h1>Welcome</h1>"), "responded with 200: is SCORM_WEBHOOKS_API_URL the URL of the API?"),
        (HTMLResponse("<h1>Away</h1>", 502), "responded with 502: is SCORM_WEBHOOKS_API_URL"),
        (RedirectResponse("https://elsewhere.example/"), "responded with 307 to https://elsewhere.example/"),
        (JSONResponse({"status": "UP"}), "sent no list: is SCORM_WEBHOOKS_API_URL the URL of the API?"),
        (JSONResponse({"data": [5]}), "sent no list: is SCORM_WEBHOOKS_API_URL the URL of the API?"),
        (JSONResponse({"detail": "no problem"}, 404), "responded with 404"),
        (JSONResponse({"type": "urn:x", "title": "Not Found", "status": 404}, 404), "responded with 404: is SCORM"),
        (JSONResponse({"type": "urn:x", "title": "Broken", "errors": {"a": ["b"]}}, 500), "Broken (request None)"),
        (
            JSONResponse({"type": "urn:x", "title": "Kafka is away", "status": 503, "requestId": "req_1"}, 503),
            "Kafka is away (request req_1)",
        ),
    ],
)
async def test_a_strange_response_says_what_to_look_at(
    monkeypatch: pytest.MonkeyPatch, response: Response, said: str
) -> None:
    failed = await _run_at(response, monkeypatch)
    assert isinstance(failed.exception, Unavailable)
    assert said in str(failed.exception)
    assert "sk_secret" not in str(failed.exception)


@pytest.mark.parametrize("command", ["webhooks pull wh_1", "webhooks ack wh_1 dlv_1", "webhooks source-addresses"])
@pytest.mark.parametrize("answer", [{}, [], 5])
async def test_the_json_of_another_server_is_named(
    monkeypatch: pytest.MonkeyPatch, command: str, answer: object
) -> None:
    failed = await _run_at(JSONResponse(answer), monkeypatch, *command.split())
    assert isinstance(failed.exception, Unavailable)
    assert "answered as this API does not" in str(failed.exception)


async def test_a_server_that_is_away_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCORM_WEBHOOKS_API_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("SCORM_WEBHOOKS_API_KEY", "sk_secret")
    failed = await run("webhooks", "list")
    assert isinstance(failed.exception, Unavailable)
    assert str(failed.exception).startswith("SCORM_WEBHOOKS_API_URL: http://127.0.0.1:1 does not answer: ")


@pytest.mark.parametrize(
    ("url", "key", "named"),
    [
        ("webhooks.example.com", "sk_secret", "SCORM_WEBHOOKS_API_URL"),
        ("http://user:secret@127.0.0.1:1", "sk_secret", "SCORM_WEBHOOKS_API_URL"),
        ("http://[::1", "sk_secret", "SCORM_WEBHOOKS_API_URL"),
        ("http://127.0.0.1:99999", "sk_secret", "SCORM_WEBHOOKS_API_URL"),
        ("https://\u00fc..com", "sk_secret", "SCORM_WEBHOOKS_API_URL"),
        ("http://127.0.0.1:1/?x=1", "sk_secret", "SCORM_WEBHOOKS_API_URL"),
        ("", "sk_secret", "SCORM_WEBHOOKS_API_KEY is set without SCORM_WEBHOOKS_API_URL"),
        ("http://127.0.0.1:1", "", "SCORM_WEBHOOKS_API_KEY"),
        ("http://127.0.0.1:1", "sk_secr\u00e9t", "SCORM_WEBHOOKS_API_KEY"),
        ("http://127.0.0.1:1", "sk_secret ", "SCORM_WEBHOOKS_API_KEY"),
        ("http://127.0.0.1:1", "sk_\n1", "SCORM_WEBHOOKS_API_KEY"),
    ],
)
async def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, url: str, key: str, named: str) -> None:
    monkeypatch.setenv("SCORM_WEBHOOKS_API_URL", url)
    monkeypatch.setenv("SCORM_WEBHOOKS_API_KEY", key)
    failed = await run("webhooks", "list")
    assert isinstance(failed.exception, Misconfigured)
    assert str(failed.exception).startswith(named)
    assert "secret" not in str(failed.exception)


async def test_a_proxy_that_cannot_be_used_is_a_wrong_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCORM_WEBHOOKS_API_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("SCORM_WEBHOOKS_API_KEY", "sk_secret")
    monkeypatch.setenv("ALL_PROXY", "nonsense://127.0.0.1:1")
    failed = await run("webhooks", "list")
    assert isinstance(failed.exception, Misconfigured)
    assert "cannot be used" in str(failed.exception)


async def test_an_unknown_key_is_said(api: ApiFixture, use: Use) -> None:
    use("sk_unknown")
    failed = await run("webhooks", "list")
    assert isinstance(failed.exception, Misconfigured)
    assert str(failed.exception).startswith("SCORM_WEBHOOKS_API_KEY: ")


async def _run_at(app: ASGIApp, monkeypatch: pytest.MonkeyPatch, *command: str) -> Result:
    """Run a command, or `webhooks list`, at a server."""
    async with served(app) as url:
        monkeypatch.setenv("SCORM_WEBHOOKS_API_URL", url)
        monkeypatch.setenv("SCORM_WEBHOOKS_API_KEY", "sk_secret")
        return await run(*(command or ("webhooks", "list")))
