"""The lists of deliveries: a line for each, cut to the terminal, or every column for `--wide` and other programs."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from cli.command import run
from cli.test_api_json import MESSAGE, store_dead_letter

from builders import attempt, delivery
from rest.api_fixture import ApiFixture
from scorm_webhooks_cli import delivery_table, tables
from streams.core.deliveries.attempt import DeadLetter, NextStep
from streams.core.deliveries.delivery import DeathReason
from streams.core.deliveries.outcome import OutcomeKind

SHORT = ["id", "state", "when", "webhook", "event", "attempts", "next", "message"]
WIDE = ["state", "firstSeenAt", "changedAt", "account", "webhook", "event", "type", "trigger", "generation", "target"]


@pytest.fixture
def terminal_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets the width of the terminal that commands write to."""
    return lambda width: monkeypatch.setattr(delivery_table, "terminal_width", lambda: width)


async def lines_of(*command: str) -> list[str]:
    done = await run(*command)
    assert done.exit_code == 0, done.output
    return done.stdout.splitlines()


@pytest.mark.parametrize("command", ["deliveries", "dead-letters"])
@pytest.mark.parametrize("width", [40, 80, 160])
async def test_each_delivery_is_one_line_of_the_terminal(
    api: ApiFixture, terminal_of: Callable[[int], None], command: str, width: int
) -> None:
    await store_dead_letter(api)
    terminal_of(width)
    heading, row = await lines_of(command, "list")
    assert max(len(heading), len(row)) <= width
    assert row.split()[1:3] == ["dead", "exhausted"]
    assert row.endswith("…") == (width < 160)
    if width == 160:
        assert heading.split() == SHORT
        assert row.endswith(MESSAGE)


async def test_times_of_a_terminal_are_relative(api: ApiFixture, terminal_of: Callable[[int], None]) -> None:
    made = await api.acme.webhook()
    now = datetime.now(UTC)
    known = {"account_id": api.acme.account_id, "webhook_id": made["id"]}
    seen = now - timedelta(hours=5, seconds=30)
    failed = attempt(**known, next_step=NextStep.TIER, tier="2m", status=500, outcome=OutcomeKind.SERVER_ERROR)
    dead = delivery(**known, event_id="evt_2", first_seen_at=now - timedelta(days=3))
    await api.record(
        delivery(**known, first_seen_at=seen),
        failed._replace(first_seen_at=seen),
        DeadLetter(dead, DeathReason.GONE, MESSAGE),
        at=now,
    )
    terminal_of(200)
    _, newer, older = await lines_of("deliveries", "list")
    assert newer[10:].startswith("waiting 2m  5h ago")
    assert newer.split()[7:9] == ["1", "in"]
    assert older.split()[1:5] == ["dead", "gone", "3d", "ago"]


async def test_a_pipe_gets_the_columns_of_a_terminal(api: ApiFixture) -> None:
    dead = await store_dead_letter(api)
    heading, row = await lines_of("dead-letters", "list")
    assert heading.split() == SHORT
    assert row.split()[0] == dead[:8]
    assert row.endswith(MESSAGE)


async def test_wide_shows_every_column_in_full(api: ApiFixture, terminal_of: Callable[[int], None]) -> None:
    dead = await store_dead_letter(api)
    terminal_of(40)
    heading, row = await lines_of("deliveries", "list", "--wide")
    assert heading.split() == [*WIDE, "attempts", "dueAt", "id", "message"]
    assert dead in row
    assert row.endswith(MESSAGE)
    assert "2026-04-10T" in row


async def test_an_empty_list_says_none(api: ApiFixture, terminal_of: Callable[[int], None]) -> None:
    terminal_of(80)
    assert await lines_of("deliveries", "list") == ["none"]


async def test_a_delivery_is_found_by_the_id_of_its_event(api: ApiFixture) -> None:
    dead = await store_dead_letter(api)
    assert f'"id": "{dead}"' in (await run("deliveries", "show", "evt_1", "--json")).stdout
    assert f'"id": "{dead}"' in (await run("deliveries", "retry", "evt_1", "--json")).stdout
    other = delivery(account_id=api.acme.account_id, webhook_id="wh_other", event_id="evt_1")
    await api.record(other)
    for command in ("show", "retry"):
        refused = str((await run("deliveries", command, "evt_1")).exception)
        assert "evt_1 has several deliveries" in refused
        assert f"{dead} (webhook wh_" in refused
        assert f"{other.id} (webhook wh_other)" in refused


async def test_the_id_of_a_list_is_accepted(api: ApiFixture) -> None:
    dead = await store_dead_letter(api)
    _, row = await lines_of("dead-letters", "list")
    shown_id = row.split()[0]
    assert f'"id": "{dead}"' in (await run("deliveries", "show", shown_id, "--json")).stdout
    assert await lines_of("dead-letters", "retry", shown_id) == ["1 retried"]


async def test_a_dead_letter_is_found_by_the_id_of_its_event(api: ApiFixture) -> None:
    await store_dead_letter(api)
    # Another webhook's, which is not dead.
    await api.record(delivery(account_id=api.acme.account_id, webhook_id="wh_other", event_id="evt_1"))
    assert await lines_of("dead-letters", "discard", "evt_1") == ["1 discarded"]


async def test_an_event_with_several_dead_letters_is_not_guessed(api: ApiFixture) -> None:
    dead = await store_dead_letter(api)
    other = delivery(account_id=api.acme.account_id, webhook_id="wh_other", event_id="evt_1")
    await api.record(DeadLetter(other, DeathReason.GONE, MESSAGE))
    done = await run("dead-letters", "retry", "evt_1", "evt_2")
    assert (done.exit_code, done.stdout) == (1, "0 retried\n")
    assert "error: evt_1 has several deliveries" in done.stderr
    assert dead in done.stderr
    assert "error: there is no dead letter evt_2, and no event evt_2 that has one" in done.stderr


async def test_a_list_may_be_of_a_period(api: ApiFixture) -> None:
    now = datetime.now(UTC)
    for name, age in (("evt_new", timedelta(minutes=5)), ("evt_old", timedelta(hours=3))):
        await api.record(delivery(account_id=api.acme.account_id, event_id=name, first_seen_at=now - age))
    for option, name in (("--since", "evt_new"), ("--until", "evt_old")):
        for text in ("2h", (now - timedelta(hours=2)).isoformat()):
            rows = json.loads((await run("deliveries", "list", option, text, "--json")).stdout)
            assert [row["eventId"] for row in rows] == [name]
    refused = await run("deliveries", "list", "--until", "noon")
    assert "--until: must be a duration such as 10m" in str(refused.exception)


async def test_the_id_of_a_delivery_comes_before_that_of_an_event(api: ApiFixture) -> None:
    """Producers choose the ids of events: one may be the id of another account's delivery."""
    dead = await store_dead_letter(api)
    await api.record(delivery(account_id="globex", webhook_id="wh_other", event_id=dead))
    for command in ("show", "retry"):
        done = await run("deliveries", command, dead, "--json")
        assert (json.loads(done.stdout)["id"], done.exit_code) == (dead, 0)


def test_wide_characters_keep_the_columns(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"name": "日本", "note": "x" * 30}, {"name": "abcd", "note": "\x1b[2J"}]
    tables.print_lines(rows, {"name": "name", "note": "note"}, 10)
    assert capsys.readouterr().out.splitlines() == ["name  note", "日本  xxx…", "abcd  \\x1…"]
