"""What SCORM players commit becomes events once, whatever dies in the middle."""

from functools import partial
from pathlib import Path

import pytest

from e2e.players import Players, expect_all
from e2e.receiver import Receiver
from e2e.system import STAGES, System, until
from real.kafka import Kafka
from real.postgres import Postgres
from real.process import free_ports

pytestmark = pytest.mark.e2e

SESSIONS = 60


def prepared(system: System, receiver: Receiver) -> Players:
    """A running system with an API, and players of an account with one webhook."""
    [port] = free_ports(1)
    system.env["SCORM_WEBHOOKS_API_PORT"] = str(port)
    system.start((*STAGES, "api"))
    opened = system.run("accounts", "create", "Acme", "--json")
    system.webhook(opened["id"], receiver.url("/scorm"))
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
