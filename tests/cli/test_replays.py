"""`deliveries replay` counts, asks, and waits for its job, `webhooks retry-waiting` too; `jobs` shows and cancels."""

import json
from datetime import timedelta

import pytest
from cli.command import run, run_with_jobs

from builders import NOON, attempt, delivery
from rest.api_fixture import ApiFixture
from streams.adapters.sql.deliveries.jobs import SqlJobs
from streams.core.deliveries.attempt import NextStep
from streams.core.deliveries.delivery import State
from streams.core.deliveries.outcome import OutcomeKind
from streams.core.errors import NotFound, Unavailable

SINCE = "2026-04-10T11:00:00Z"


async def webhook_with(api: ApiFixture, *minutes: int) -> str:
    """A webhook that got an event this many minutes before noon."""
    made = await api.acme.webhook()
    for number in minutes:
        seen = NOON - timedelta(minutes=number)
        known = {"account_id": api.acme.account_id, "webhook_id": made["id"], "event_id": f"evt_{number}"}
        await api.record(delivery(**known, first_seen_at=seen), attempt(**known, first_seen_at=seen), at=seen)
    return str(made["id"])


async def test_a_replay_shows_its_count_and_asks(api: ApiFixture) -> None:
    webhook = await webhook_with(api, 10, 20, 300)
    done = await run("deliveries", "replay", webhook, "--since", SINCE, answer="n\n")
    assert done.exit_code == 1
    assert "2 deliveries match, first seen from 2026-04-10T11:40:00Z to 2026-04-10T11:50:00Z" in done.stdout
    assert "Send them again?" in done.stderr
    assert await api.jobs.list_unfinished("") == []
    done = await run_with_jobs(api, "deliveries", "replay", webhook, "--since", SINCE, answer="y\n")
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, "2 to be sent again")


async def test_a_replay_takes_its_webhook_as_an_option_too(api: ApiFixture) -> None:
    webhook = await webhook_with(api, 10)
    done = await run("deliveries", "replay", "--webhook", webhook, "--since", SINCE, answer="n\n")
    assert "1 delivery matches" in done.stdout


@pytest.mark.parametrize("webhooks", [[], ["wh_1", "--webhook", "wh_2"]])
async def test_a_replay_needs_one_webhook(webhooks: list[str]) -> None:
    refused = await run("deliveries", "replay", *webhooks, "--since", SINCE, "--yes")
    assert "give one webhook's id, as an argument or by --webhook" in str(refused.exception)


async def test_a_program_gets_the_finished_job(api: ApiFixture) -> None:
    webhook = await webhook_with(api, 10, 20)
    chosen = (
        "--since",
        SINCE,
        "--until",
        "2026-04-10T11:45:00Z",
        "--type",
        "session.completed",
        "--state",
        "delivered",
    )
    done = await run_with_jobs(api, "deliveries", "replay", webhook, *chosen, "--yes", "--json")
    job = json.loads(done.stdout)
    assert (job["status"], job["total"], job["done"]) == ("finished", 1, 1)
    assert job == json.loads((await run("jobs", "show", job["id"], "--json")).stdout)
    held = (await api.acme.get("/v1/deliveries", state=State.HELD))["data"]
    assert [row["eventId"] for row in held] == ["evt_20"]
    refused = await run("jobs", "cancel", job["id"])
    assert (type(refused.exception).__name__, "the job is finished" in str(refused.exception)) == ("Conflict", True)


async def test_deliveries_of_a_filter_are_retried(api: ApiFixture) -> None:
    webhook = await webhook_with(api, 10, 20, 300)
    chosen = ("deliveries", "retry", "--all", "--account", api.acme.account_id, "--webhook", webhook, "--since", SINCE)
    done = await run(*chosen, answer="n\n")
    assert (done.exit_code, "Send them again?" in done.stderr) == (1, True)
    assert "2 deliveries match, of 1 webhook, since 2026-04-10T11:40:00Z" in done.stdout
    assert await api.jobs.list_unfinished("") == []
    done = await run_with_jobs(api, *chosen, answer="y\n")
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, "2 to be sent again")
    job = json.loads((await run_with_jobs(api, *chosen, "--state", "delivered", "--yes", "--json")).stdout)
    assert (job["status"], job["total"]) == ("finished", 0)
    none = await run(*chosen, "--outcome", "timeout")
    assert (none.exit_code, none.stdout) == (0, "nothing to send; test events are left out\n")


@pytest.mark.parametrize(
    ("words", "field"),
    [
        ([], "DELIVERY"),
        (["some-id", "--all"], "DELIVERY"),
        (["some-id", "--state", "dead"], "DELIVERY"),
        (["--all"], "filter: must have a field"),
        (["--all", "--state", "held"], "filter.state: must not be held"),
        (["--all", "--since", "yesterday"], "--since"),
    ],
)
async def test_a_retry_without_a_clear_choice_is_refused(api: ApiFixture, words: list[str], field: str) -> None:
    refused = await run("deliveries", "retry", *words, "--account", api.acme.account_id, "--yes")
    assert refused.exit_code
    assert field in str(refused.exception)


async def test_a_retry_by_a_filter_needs_an_account(api: ApiFixture) -> None:
    assert "--account: is required" in str(
        (await run("deliveries", "retry", "--all", "--state", "dead", "--yes")).exception
    )


async def test_an_outage_while_a_job_runs_names_the_job(api: ApiFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    webhook_id = await webhook_with(api, 10)

    async def fail(jobs: SqlJobs, job_id: str) -> None:
        raise Unavailable("the database does not answer")

    monkeypatch.setattr(SqlJobs, "find", fail)
    ended = await run("deliveries", "replay", webhook_id, "--since", SINCE, "--yes")
    [job] = await api.jobs.list_unfinished("")
    assert f"still running: see `jobs show {job.id}`" in ended.stderr
    assert isinstance(ended.exception, Unavailable)


async def test_nothing_to_send_starts_nothing(api: ApiFixture) -> None:
    webhook = await webhook_with(api, 300)
    done = await run("deliveries", "replay", webhook, "--since", SINCE)
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, "nothing to send; test events are left out")
    assert await api.jobs.list_unfinished("") == []


async def test_a_job_is_cancelled_by_its_id(api: ApiFixture) -> None:
    webhook = await webhook_with(api, 10)
    job = await api.acme.post(f"/v1/webhooks/{webhook}/replays", {"since": SINCE})
    cancelled = json.loads((await run("jobs", "cancel", job["id"], "--json")).stdout)
    assert cancelled["status"] == "cancelled"
    assert "cancelled" in (await run("jobs", "show", job["id"])).stdout


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (["--since", "yesterday"], "--since"),
        (["--since", SINCE, "--until", "now"], "--until"),
        (["--since", SINCE, "--json"], "--json"),
        (["--since", SINCE, "--type", "nonsense"], "eventTypes"),
    ],
)
async def test_a_wrong_option_is_named(api: ApiFixture, options: list[str], field: str) -> None:
    webhook = await webhook_with(api)
    wrong = await run("deliveries", "replay", webhook, *options)
    assert field in str(wrong.exception)
    assert await api.jobs.list_unfinished("") == []


async def test_what_waits_for_a_retry_is_sent_now(api: ApiFixture) -> None:
    made = await api.acme.webhook()
    known = {"account_id": api.acme.account_id, "webhook_id": made["id"]}
    waiting = attempt(**known, next_step=NextStep.TIER, tier="30s", outcome=OutcomeKind.TIMEOUT)
    await api.record(delivery(**known), waiting)
    done = await run_with_jobs(api, "webhooks", "retry-waiting", made["id"])
    assert (done.exit_code, done.stdout) == (0, "1 to be sent again\n")
    unknown = await run("webhooks", "retry-waiting", "wh_unknown")
    assert isinstance(unknown.exception, NotFound)
