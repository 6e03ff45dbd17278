"""A command that changes much shows how much, and asks; without a terminal it needs --yes."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cli.command import run, run_with_jobs
from cli.test_api_json import store_dead_letter

from builders import NOON, delivery
from rest.api_fixture import ApiFixture
from scorm_webhooks_cli.jobs import report_unfinished_jobs, warn_if_stalled
from streams.core.deliveries.attempt import DeadLetter
from streams.core.deliveries.delivery import DeathReason, HoldReason
from streams.core.errors import NotFound, Unavailable
from streams.core.limits import MAX_UNFINISHED_JOBS_PER_ACCOUNT

SINCE = "2026-04-10T11:00:00Z"


async def state_of(api: ApiFixture, delivery_id: str) -> str:
    return str((await api.acme.get(f"/v1/deliveries/{delivery_id}"))["state"])


async def test_all_dead_letters_are_retried_after_a_question(api: ApiFixture) -> None:
    dead = await store_dead_letter(api)
    no = await run("dead-letters", "retry", "--all", answer="n\n")
    assert no.exit_code == 1
    assert "1 dead letter of 1 webhook in all accounts" in no.output
    assert "Send them again?" in no.stderr
    assert await state_of(api, dead) == "dead"
    assert (await run_with_jobs(api, "dead-letters", "retry", "--all", answer="y\n")).stdout.endswith("1 retried\n")
    assert await state_of(api, dead) != "dead"


async def test_without_an_account_each_that_has_some_gets_a_job(api: ApiFixture) -> None:
    dead = [await store_dead_letter(api)]
    theirs = await api.globex.webhook()
    lost = delivery(account_id=api.globex.account_id, webhook_id=theirs["id"])
    await api.record(DeadLetter(lost, DeathReason.GONE, "gone"), at=NOON)
    done = await run_with_jobs(api, "dead-letters", "discard", "--all", "--yes", "--json")
    jobs = json.loads(done.stdout)
    assert [(job["kind"], job["status"], job["done"]) for job in jobs] == [("discard", "finished", 1)] * 2
    assert [await state_of(api, one) for one in dead] == ["discarded"]
    assert (await api.globex.get(f"/v1/deliveries/{lost.id}"))["state"] == "discarded"


async def test_an_account_with_too_many_jobs_stops_no_other(api: ApiFixture) -> None:
    await store_dead_letter(api)
    theirs = await api.globex.webhook()
    lost = delivery(account_id=api.globex.account_id, webhook_id=theirs["id"])
    await api.record(DeadLetter(lost, DeathReason.GONE, "gone"), at=NOON)
    for _ in range(MAX_UNFINISHED_JOBS_PER_ACCOUNT):
        await api.acme.post("/v1/dead-letters/retry", {"filter": {"eventId": "another"}})
    done = await run_with_jobs(api, "dead-letters", "discard", "--all", "--yes", account=api.globex.account_id)
    assert (done.exit_code, done.stdout) == (1, "1 discarded\n")
    assert f"error: account {api.acme.account_id} is skipped: " in done.stderr
    assert (await api.globex.get(f"/v1/deliveries/{lost.id}"))["state"] == "discarded"


async def test_a_webhook_says_whose_dead_letters_are_retried(api: ApiFixture) -> None:
    dead = await store_dead_letter(api)
    [webhook] = (await api.acme.get("/v1/webhooks"))["data"]
    done = await run_with_jobs(api, "dead-letters", "retry", "--all", "--yes", "--webhook", webhook["id"])
    assert done.stdout == "1 retried\n"
    assert await state_of(api, dead) != "dead"


async def test_dead_letters_of_a_deleted_webhook_are_discarded(api: ApiFixture) -> None:
    dead = await store_dead_letter(api)
    [webhook] = (await api.acme.get("/v1/webhooks"))["data"]
    await api.acme.delete(f"/v1/webhooks/{webhook['id']}")
    done = await run_with_jobs(api, "dead-letters", "discard", "--all", "--yes", "--webhook", webhook["id"])
    assert done.stdout == "1 discarded\n"
    assert await state_of(api, dead) == "discarded"


async def test_without_dead_letters_no_job_starts(api: ApiFixture) -> None:
    assert (await run("dead-letters", "retry", "--all", "--yes", "--webhook", "wh_none")).stdout == "0 retried\n"
    assert await api.jobs.list_unfinished("") == []


async def test_an_unknown_account_is_said(api: ApiFixture) -> None:
    for command in (("dead-letters", "retry", "--all", "--yes"), ("webhooks", "list")):
        refused = await run(*command, "--account", "acc_unknown")
        assert isinstance(refused.exception, NotFound)


def test_started_jobs_are_named_if_a_command_ends_early(capsys: pytest.CaptureFixture[str]) -> None:
    jobs = [{"id": "job_1", "status": "running"}, {"id": "job_2", "status": "finished"}]
    with pytest.raises(Unavailable), report_unfinished_jobs(jobs):
        raise Unavailable("the database is away")
    said = capsys.readouterr().err
    assert "see `jobs show job_1`" in said
    assert "job_2" not in said


def test_a_job_that_does_not_begin_names_maintain_once(capsys: pytest.CaptureFixture[str]) -> None:
    with warn_if_stalled(has_work=True, after_seconds=0) as note:
        note(0)
        note(0)
    assert capsys.readouterr().err == "no progress yet: check that `maintain` is running\n"
    with warn_if_stalled(has_work=True, after_seconds=0) as note:
        note(1)
        note(0)
    assert capsys.readouterr().err == ""


async def test_named_dead_letters_are_retried_without_a_question(api: ApiFixture) -> None:
    dead = await store_dead_letter(api)
    assert (await run("dead-letters", "retry", dead)).stdout == "1 retried\n"


async def webhook_that_owes(api: ApiFixture) -> str:
    """A webhook with a waiting and two held deliveries."""
    made = await api.acme.webhook()
    known = {"account_id": api.acme.account_id, "webhook_id": made["id"]}
    held = [delivery(**known, event_id=f"evt_{n}", hold_reason=HoldReason.PAUSED, pause_id="p") for n in range(2)]
    await api.record(delivery(**known, event_id="evt_waits"), *held, at=NOON + timedelta(seconds=1))
    return str(made["id"])


async def test_a_webhook_is_deleted_after_a_question(api: ApiFixture) -> None:
    webhook = await webhook_that_owes(api)
    no = await run("webhooks", "delete", webhook, answer="n\n")
    assert no.exit_code == 1
    assert "1 waiting and 2 held deliveries become dead letters" in no.stdout
    assert "https://crm.example.com/hooks" in no.stderr
    assert (await api.acme.get(f"/v1/webhooks/{webhook}"))["id"] == webhook
    assert (await run("webhooks", "delete", webhook, answer="y\n")).exit_code == 0
    assert (await api.acme.request("GET", f"/v1/webhooks/{webhook}")).status_code == 404


async def test_yes_deletes_a_webhook_without_a_question(api: ApiFixture) -> None:
    webhook = await webhook_that_owes(api)
    done = await run("webhooks", "delete", webhook, "--yes", "--json")
    assert (done.exit_code, "become dead letters" in done.output) == (0, False)


QUESTIONS = [
    ("dead-letters", "retry", "--all"),
    ("dead-letters", "discard", "--all"),
    ("webhooks", "delete", "wh_1"),
    ("deliveries", "replay", "wh_1", "--since", SINCE),
    ("learners", "erase", "acc_1", "learner-42"),
    ("restore", "--since", SINCE),
    ("topics", "skip", "record", "deliveries", "0", "1"),
]


@pytest.mark.parametrize("command", QUESTIONS, ids=" ".join)
async def test_without_a_terminal_a_question_needs_yes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_at_terminal: Callable[[bool], None], command: tuple[str, ...]
) -> None:
    # Nothing is opened before: there is no database here.
    monkeypatch.chdir(tmp_path)
    is_at_terminal(False)
    refused = await run(*command, answer="y\n")
    assert "--yes: is required without a terminal" in str(refused.exception)
    assert refused.output == ""


@pytest.mark.parametrize("command", QUESTIONS[:5], ids=" ".join)
async def test_with_json_a_question_needs_yes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    refused = await run(*command, "--json")
    assert "--json: needs --yes" in str(refused.exception)


async def test_a_restore_needs_a_fixed_time() -> None:
    refused = await run("restore", "--since", "2h", "--plan")
    assert "--since: must be a time with a zone" in str(refused.exception)


@pytest.mark.parametrize(
    ("command", "names"),
    [
        (("deliveries", "list", "--outcome", "delivered"), ["'redirect'", "'unsendable'"]),
        (("deliveries", "list", "--outcome", "oops"), ["'redirect'", "'unsendable'"]),
        (("deliveries", "list", "--state", "paused"), ["'waiting'", "'held'", "'failed'"]),
        (
            ("deliveries", "replay", "wh_1", "--since", SINCE, "--state", "held"),
            ["'delivered'", "'dead'", "'discarded'"],
        ),
        (("dead-letters", "list", "--reason", "paused"), ["'exhausted'", "'gone'"]),
    ],
)
async def test_an_option_names_the_values_that_can_match(
    api: ApiFixture, command: tuple[str, ...], names: list[str]
) -> None:
    refused = await run(*command)
    assert refused.exit_code == 2
    said = " ".join(refused.stderr.replace("│", " ").split())
    assert all(name in said for name in names), said
    assert f"'{command[-1]}' is not one of" in said
