"""The short scenarios: every acknowledged event is delivered, held, dead or discarded."""

import os
import random
from collections.abc import Callable, Iterator

import pytest

import parts
from chaos.scenario import KAFKA_3_7, KAFKA_3_9, Row, Scenario
from chaos.scenarios import scenarios
from chaos.selection import chosen_here
from chaos.servers import Servers
from conftest import left_out

pytestmark = [pytest.mark.chaos, pytest.mark.e2e, pytest.mark.real]

SEED = int(os.environ.get("CHAOS_SEED") or random.randrange(10**6))
SHORT = scenarios(long=False)
NEEDS: dict[str, Callable[[], object]] = {"Java": parts.java, "Kafka": parts.kafka, "PostgreSQL": parts.postgres}
OLDER: dict[str, str] = {KAFKA_3_7: "3.7", KAFKA_3_9: "3.9"}
BY_DAY = chosen_here([scenario.name for scenario in SHORT if scenario.on not in OLDER])


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    for part, place in NEEDS.items():
        if not place():
            left_out(part)
    print(f"CHAOS_SEED={SEED}")  # shown when a scenario fails
    with Servers(SEED) as servers:
        yield servers


@pytest.mark.parametrize(
    "scenario",
    [
        pytest.param(scenario, id=scenario.name, marks=() if scenario.name in BY_DAY else pytest.mark.night("slow"))
        for scenario in SHORT
    ],
)
def test_scenario(servers: Servers, rows: list[Row], scenario: Scenario) -> None:
    if (release := OLDER.get(scenario.on)) and not parts.kafka(release):
        left_out(f"Kafka {release}")
    row = servers.play(scenario)
    rows.append(row)
    assert row.complaints == ()
    assert row.lost == 0
    assert row.repeated <= row.allowed
