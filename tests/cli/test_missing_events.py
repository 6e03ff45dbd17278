"""`reconcile` compares what was delivered with the ids that the receiver has."""

import asyncio
import json
from datetime import timedelta

import pytest
from cli.command import run
from typer.testing import CliRunner

from builders import NOON, attempt, delivery
from rest.api_fixture import ApiFixture
from streams.cli.app import app
from streams.core.errors import Invalid, NotFound


async def store_delivered(api: ApiFixture, webhook_id: str, *event_ids: str) -> None:
    """Store delivered events, each a second after the one before."""
    for number, event_id in enumerate(event_ids):
        known = {"account_id": api.acme.account_id, "webhook_id": webhook_id, "event_id": event_id}
        seen = NOON + timedelta(seconds=number)
        await api.record(delivery(**known, first_seen_at=seen), attempt(**known, first_seen_at=seen), at=seen)


@pytest.fixture
async def webhook_id(api: ApiFixture) -> str:
    webhook_id: str = (await api.acme.webhook())["id"]
    await store_delivered(api, webhook_id, "evt_1", "evt_2", "evt_3")
    await api.record(
        delivery(account_id=api.acme.account_id, webhook_id=webhook_id, event_id="evt_4", first_seen_at=NOON)
    )
    return webhook_id


async def test_what_the_receiver_lacks_is_printed(webhook_id: str) -> None:
    done = await run("reconcile", "--webhook", webhook_id, answer="evt_2\n\n  evt_9 \n")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["event", "evt_3", "evt_1"]
    assert "3 events are delivered; standard input lacks 2 of them. --retry sends these again" in done.stderr
    assert done.exit_code == 1


async def test_a_receiver_that_has_all_lacks_nothing(webhook_id: str) -> None:
    rows = 'event,at\n"evt_1",2026\nevt_2,2026\nevt_3\n'
    done = await run("reconcile", "--webhook", webhook_id, answer=rows)
    assert (done.stdout, done.exit_code) == ("", 0)
    assert "standard input has them all" in done.stderr


async def test_what_is_missing_is_sent_again_and_nothing_else(api: ApiFixture, webhook_id: str) -> None:
    done = await run("reconcile", "--webhook", webhook_id, "--retry", "--json", answer="evt_1\nevt_3")
    [missing] = json.loads(done.stdout)
    assert (missing["eventId"], missing["state"], done.exit_code) == ("evt_2", "delivered", 0)
    assert "They are sent again" in done.stderr
    states = {row["eventId"]: row["state"] for row in (await api.acme.get("/v1/deliveries"))["data"]}
    assert states == {"evt_1": "delivered", "evt_2": "held", "evt_3": "delivered", "evt_4": "waiting"}


async def test_what_cannot_be_sent_again_is_said(api: ApiFixture, webhook_id: str) -> None:
    known = {"account_id": api.acme.account_id, "webhook_id": webhook_id, "event_id": "evt_5"}
    await api.record(attempt(**known))
    done = await run("reconcile", "--webhook", webhook_id, "--retry", answer="evt_1\nevt_2")
    assert "1 of these are sent again; the others have no payload any more" in done.stderr
    assert done.exit_code == 1


async def test_only_a_period_is_compared(webhook_id: str) -> None:
    period = ("--since", "2026-04-10T12:00:01Z", "--until", "2026-04-10T12:00:02Z")
    done = await run("reconcile", "--webhook", webhook_id, *period, "--json")
    assert [row["eventId"] for row in json.loads(done.stdout)] == ["evt_2"]


async def test_a_wrong_time_or_webhook_is_named(webhook_id: str) -> None:
    wrong_time = (await run("reconcile", "--webhook", webhook_id, "--since", "noon")).exception
    assert isinstance(wrong_time, Invalid)
    assert "--since" in str(wrong_time)
    assert isinstance((await run("reconcile", "--webhook", "wh_unknown")).exception, NotFound)


async def test_a_wrong_file_sends_nothing_again(api: ApiFixture, webhook_id: str) -> None:
    for text in ("", "name;id\n1;evt_1\n"):
        refused = await run("reconcile", "--webhook", webhook_id, "--retry", answer=text)
        assert isinstance(refused.exception, Invalid)
        assert "has none of the 3 delivered events. If it is the right file, add --yes" in str(refused.exception)
    states = {row["eventId"]: row["state"] for row in (await api.acme.get("/v1/deliveries"))["data"]}
    assert "held" not in states.values()
    done = await run("reconcile", "--webhook", webhook_id, "--retry", "--yes", answer="evt_8")
    assert (done.exit_code, "They are sent again" in done.stderr) == (0, True)


async def test_a_file_of_another_encoding_is_refused(webhook_id: str) -> None:
    mark = await run("reconcile", "--webhook", webhook_id, answer="\ufeffevt_1\nevt_2\nevt_3")
    assert mark.exit_code == 0
    done = await asyncio.to_thread(
        CliRunner().invoke, app, ["reconcile", "--webhook", webhook_id], input="evt_1\n".encode("utf-16")
    )
    assert "must be in UTF-8" in str(done.exception)
