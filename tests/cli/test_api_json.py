"""`--json` prints the API's JSON of each object."""

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import typer
from cli.command import run, run_with_jobs
from typer.testing import Result

from builders import NOON, attempt, delivery
from rest.api_fixture import ApiFixture
from streams.adapters.sql.deliveries.jobs import SqlJobs
from streams.core.accounts.audit import AuditEntry
from streams.core.accounts.usage import UnknownAccount
from streams.core.deliveries.attempt import DeadLetter, NextStep
from streams.core.deliveries.delivery import DeathReason
from streams.core.deliveries.job import Job
from streams.core.deliveries.outcome import OutcomeKind
from streams.features.usage.unknown_accounts import SqlUnknownAccounts

Command = Callable[..., Awaitable[Result]]
MESSAGE = "The endpoint responded with 500: its server failed."


async def printed(*arguments: str) -> Any:
    done = await run(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


async def store_dead_letter(api: ApiFixture) -> str:
    """Store a failed attempt and a dead letter of `acme`; return its id."""
    webhook = await api.acme.webhook(description="The CRM", packages=["pkg_1"], fallbackUrl="https://b.example/x")
    known = {"account_id": api.acme.account_id, "webhook_id": webhook["id"], "event_id": "evt_1"}
    failed = attempt(
        **known,
        status=500,
        response_body=b"oops",
        outcome=OutcomeKind.SERVER_ERROR,
        message=MESSAGE,
        next_step=NextStep.TIER,
        tier="30s",
    )
    waiting = delivery(**known, step=7, attempt=7)
    await api.record(failed, waiting, at=NOON)
    dead = DeadLetter(waiting._replace(step=8), DeathReason.EXHAUSTED, MESSAGE)
    await api.record(dead, at=NOON + timedelta(seconds=1))
    return waiting.id


async def test_accounts_keys_and_users_have_the_apis_json(api: ApiFixture) -> None:
    acme = api.acme.account_id
    added = await printed("users", "add", acme, "ada@acme.example")
    await printed("accounts", "update", acme, "--plan-limit", "10")
    path = f"/v1/accounts/{acme}"
    assert await printed("accounts", "list") == (await api.operator.get("/v1/accounts"))["data"]
    assert await printed("api-keys", "list", acme) == await api.operator.get(f"{path}/keys")
    assert [added] == await printed("users", "list", acme) == await api.operator.get(f"{path}/users")
    audit = (await api.operator.get("/v1/audit"))["data"]
    assert await printed("audit", "list") == audit


async def test_accounts_that_do_not_exist_are_listed(api: ApiFixture) -> None:
    assert await printed("accounts", "list", "--unknown") == []
    later = NOON + timedelta(minutes=5)
    await SqlUnknownAccounts(api.database).add([UnknownAccount("acc_lost", 3, NOON, later)])
    [lost] = await printed("accounts", "list", "--unknown")
    assert lost == {
        "account": "acc_lost",
        "events": 3,
        "firstAt": "2026-04-10T12:00:00Z",
        "lastAt": "2026-04-10T12:05:00Z",
    }
    assert "acc_lost" in (await run("accounts", "list", "--unknown")).stdout


async def test_new_accounts_and_keys_have_the_apis_fields(api: ApiFixture) -> None:
    opened = await printed("accounts", "create", "Initech", "--email", "a@b.example")
    by_api = await api.operator.post("/v1/accounts", {"name": "Initech", "emails": ["a@b.example"]})
    assert opened.keys() == by_api.keys()
    made = await printed("api-keys", "create", opened["id"], "--name", "export")
    path = f"/v1/accounts/{opened['id']}/keys"
    scopes = ["webhooks:read", "deliveries:read"]
    assert made.keys() == (await api.operator.post(path, {"name": "export", "scopes": scopes})).keys()


async def test_webhooks_have_the_apis_json(api: ApiFixture) -> None:
    await store_dead_letter(api)
    [listed] = await printed("webhooks", "list", "--account", api.acme.account_id)
    assert [listed] == (await api.acme.get("/v1/webhooks"))["data"]
    assert listed["packagesCount"] == 1
    assert await api.acme.get(f"/v1/webhooks/{listed['id']}") == await printed("webhooks", "show", listed["id"])


async def test_deliveries_have_the_apis_json(api: ApiFixture) -> None:
    dead = await store_dead_letter(api)
    for command, path in (("deliveries", "/v1/deliveries"), ("dead-letters", "/v1/dead-letters")):
        assert await printed(command, "list") == (await api.acme.get(path))["data"]
    shown = await printed("deliveries", "show", dead)
    assert shown == await api.acme.get(f"/v1/deliveries/{dead}")
    assert shown["attempts"][0]["responseBody"] == "oops"


async def test_a_delivery_says_how_many_attempts_are_not_shown(api: ApiFixture) -> None:
    theirs = {"account_id": api.acme.account_id, "webhook_id": (await api.acme.webhook())["id"]}
    await api.record(delivery(**theirs), *(attempt(**theirs, number=number) for number in range(1, 53)))
    done = await run("deliveries", "show", delivery(**theirs).id)
    assert "2 earlier attempts not shown: see the dashboard, or GET /v1/deliveries/" in done.stderr


async def test_a_retry_names_the_ids_that_do_not_exist(api: ApiFixture) -> None:
    dead = await store_dead_letter(api)
    done = await run("dead-letters", "discard", dead, "lost-1", "lost-2", "--json")
    assert json.loads(done.stdout) == {"ids": [dead], "unknown": ["lost-1", "lost-2"]}
    assert done.exit_code == 1
    again = await api.acme.post("/v1/dead-letters/discard", {"ids": [dead, "lost-1", "lost-1"]})
    assert again == {"ids": [], "unknown": ["lost-1"]}
    retried = await run("dead-letters", "retry", "lost-1")
    assert retried.stdout == "0 retried\n"
    assert retried.stderr == "error: there is no dead letter lost-1, and no event lost-1 that has one\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("x" * 201,), "name: must have at most 200 characters"),
        (("a\udcff",), "name: must not contain half of a surrogate pair"),
        (("Initech", "--plan-limit", str(2**63)), "planLimit: must be less than 9223372036854775808"),
    ],
)
async def test_a_command_refuses_what_no_database_stores(
    api: ApiFixture, arguments: tuple[str, ...], message: str
) -> None:
    assert message in str((await run("accounts", "create", *arguments)).exception)


async def test_all_dead_letters_are_discarded_after_a_question(api: ApiFixture) -> None:
    dead = await store_dead_letter(api)
    refused = await run("dead-letters", "discard", "--all", "--json")
    assert "--json: needs --yes" in str(refused.exception)
    no = await run("dead-letters", "discard", "--all", answer="n\n")
    assert no.exit_code == 1
    assert "1 dead letter of 1 webhook in all accounts" in no.output
    assert [row["id"] for row in await printed("dead-letters", "list")] == [dead]
    assert (await run_with_jobs(api, "dead-letters", "discard", "--all", answer="y\n")).stdout.endswith("1 discarded\n")
    assert (await run("dead-letters", "discard", "--all", "--yes")).stdout == "0 discarded\n"


async def test_what_comes_during_the_question_is_not_discarded(
    api: ApiFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead, asked_at = await store_dead_letter(api), list[datetime]()
    untils, add = list[datetime | None](), SqlJobs.add

    async def noted(self: SqlJobs, job: Job, audit_entry: AuditEntry) -> Job:
        untils.append(job.filter.changed_until)
        return await add(self, job, audit_entry)

    monkeypatch.setattr(typer, "confirm", lambda *_, **__: asked_at.append(datetime.now(UTC)))
    monkeypatch.setattr(SqlJobs, "add", noted)
    assert (await run_with_jobs(api, "dead-letters", "discard", "--all")).stdout.endswith("1 discarded\n")
    [limit], [asked] = untils, asked_at
    assert limit
    assert limit <= asked
    assert (await api.acme.get(f"/v1/deliveries/{dead}"))["state"] == "discarded"


@pytest.mark.parametrize("command", ["webhooks", "accounts", "audit"])
async def test_a_list_fits_100_columns_with_whole_ids(api: ApiFixture, command: str) -> None:
    await store_dead_letter(api)
    rows = await printed(command, "list")
    text = (await run(command, "list")).stdout
    assert max(map(len, text.splitlines())) <= 100
    for row in rows:
        assert row["objectId" if command == "audit" else "id"] in text
