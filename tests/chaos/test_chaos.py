"""Whatever fails, every acknowledged event is delivered or visibly held, dead or discarded: the scenarios, for CI."""

import os
import random
from collections.abc import Iterator

import pytest

import parts
from chaos.scenarios import scenarios
from chaos.table import table
from chaos.theatre import Theatre
from chaos.world import Row, Scenario
from conftest import left_out

pytestmark = [pytest.mark.e2e, pytest.mark.real]

SEED = int(os.environ.get("CHAOS_SEED") or random.randrange(10**6))
NEEDS = {"Java": parts.java, "Kafka": parts.kafka, "PostgreSQL": parts.postgres}


@pytest.fixture(scope="module")
def rows(pytestconfig: pytest.Config) -> Iterator[list[Row]]:
    """Of the scenarios that were played; the table is shown at the end whether they failed or not."""
    rows: list[Row] = []
    yield rows
    reporter = pytestconfig.pluginmanager.get_plugin("terminalreporter")
    if reporter and rows:
        reporter.write_line(f"\n{table(rows)}\nCHAOS_SEED={SEED}")


@pytest.fixture(scope="module")
def theatre(rows: list[Row]) -> Iterator[Theatre]:
    for part, place in NEEDS.items():
        if not place():
            left_out(part)
    with Theatre(SEED) as theatre:
        yield theatre


@pytest.mark.parametrize("scenario", scenarios(patient=False), ids=lambda scenario: scenario.name)
def test_nothing_is_lost_and_no_more_is_doubled_than_was_in_doubt(
    theatre: Theatre, rows: list[Row], scenario: Scenario
) -> None:
    row = theatre.play(scenario)
    rows.append(row)
    assert row.complaints == ()
    assert row.lost == 0
    assert row.doubled <= row.allowed
