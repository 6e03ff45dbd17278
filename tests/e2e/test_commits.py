"""What SCORM players commit becomes events once, whatever dies in the middle."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from e2e.players import Players, expect_all
from e2e.receiver import Receiver
from e2e.system import STAGES, System, until
from real.kafka import Kafka
from real.postgres import Postgres
from real.process import free_ports

pytestmark = pytest.mark.e2e

SESSIONS = 60


def prepared(system: System, receiver: Receiver, *events: str) -> Players:
    """A running system with an API, and players of an account with one webhook."""
    [port] = free_ports(1)
    system.env["SCORM_WEBHOOKS_API_PORT"] = str(port)
    system.start((*STAGES, "api"))
    opened = system.run("accounts", "create", "Acme", "--json")
    system.webhook(opened["id"], receiver.url("/scorm"), *events)
    return Players(f"http://127.0.0.1:{port}", opened["apiKey"], SESSIONS)


def test_each_transition_is_reported_once_through_kills(system: System, receiver: Receiver) -> None:
    players = prepared(system, receiver)
    players.start()
    for kill in range(1, 5):
        until(partial(players.have_committed, kill * SESSIONS * 3 // 2), 60, "commits")
        # Some requests are between their storage and their answer now: their players repeat them.
        for stage in ("api", "publish")[: 1 + kill % 2]:
            system.kill(stage)
            system.launch(stage)
    players.wait()
    expect_all(players, lambda: {one.body for one in receiver.at("/scorm")})


def test_each_session_ends_once_through_kills(system: System, receiver: Receiver) -> None:
    players = prepared(system, receiver, "--events", "*,session.ended,session.reset")
    ends_at = datetime.now(UTC) + timedelta(seconds=25)
    metadata = {"department": "sales"}
    players.launch = {"expiresAt": ends_at.isoformat(), "metadata": metadata}
    players.start()
    players.wait()

    def received() -> list[dict[str, Any]]:
        return [json.loads(body) for body in {one.body for one in receiver.at("/scorm")}]

    def ended() -> Counter[str]:
        return Counter(one["data"]["sessionId"] for one in received() if one["type"] == "session.ended")

    # `publish` looks for ends every five seconds: kill it before, and in the middle of its turns.
    for some in (0, 1):
        until(lambda some=some: len(ended()) >= some, 60, "ends")  # type: ignore[misc]
        system.kill("publish")
        system.launch("publish")
    until(lambda: len(ended()) == SESSIONS, 60, lambda: str(ended()))
    assert set(ended().values()) == {1}
    for number in range(SESSIONS):
        events = [one for one in received() if one["data"]["sessionId"] == players.session_id(number)]
        events.sort(key=lambda one: one["data"]["sequence"])
        assert len({one["data"]["sequence"] for one in events}) == len(events)
        assert all(one["data"]["metadata"] == metadata for one in events)
        assert [one["type"] for one in events].count("session.reset") == 1
        assert (events[0]["type"], events[-1]["type"]) == ("session.launched", "session.ended")
        assert events[-1]["data"]["reported"] == "completed"


def test_commits_are_stored_while_kafka_is_away(
    own_kafka: Kafka, postgres: Postgres, receiver: Receiver, tmp_path: Path
) -> None:
    system = System(tmp_path, {"KAFKA_BOOTSTRAP_SERVERS": own_kafka.bootstrap, "DATABASE_URL": postgres.url()})
    system.prepare()
    try:
        players = prepared(system, receiver)
        own_kafka.kill()
        players.start()
        players.wait()
        assert receiver.at("/scorm") == []
        own_kafka.start()
        expect_all(players, lambda: {one.body for one in receiver.at("/scorm")})
    finally:
        system.close()
