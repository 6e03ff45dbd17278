"""A replay with a backfill survives kill -9 of `maintain`, and sends each delivery once more, not twice."""

from collections import Counter
from functools import partial
from typing import Any

import pytest

from e2e.learning_platform import Platform, launched
from e2e.receiver import Receiver
from e2e.system import STAGES, System, until

pytestmark = pytest.mark.e2e

EVENTS = 3000
SINCE = "2026-04-10T14:32:00Z"


def job_row(system: System, webhook_id: str) -> dict[str, Any]:
    """The row of a webhook's only job; empty before it is there."""
    rows = [row for row in system._rows("SELECT * FROM jobs") if row["filter"]["webhook_id"] == webhook_id]
    return rows[0] if rows else {}


def progress(system: System, webhook_id: str) -> int:
    row = job_row(system, webhook_id)
    return int(row["done"] + row["backfill"]["added"]) if row else 0


def is_finished(system: System, webhook_id: str) -> bool:
    return job_row(system, webhook_id).get("finished_at") is not None


def is_delivered(system: System, webhook_id: str) -> bool:
    return system.states(webhook_id) == {"delivered": EVENTS}


def test_a_killed_maintainer_replays_each_delivery_once(system: System, platform: Platform, receiver: Receiver) -> None:
    system.start((*STAGES, "maintain"))
    account = system.account()
    known = system.webhook(account, receiver.url("/known"))["id"]
    for number in range(EVENTS):
        platform.publish(f"evt_{number}", launched(f"evt_{number}", account, f"sess_{number}"), f"sess_{number}")
    platform.flush()
    until(lambda: system.states(known) == {"delivered": EVENTS}, 120, lambda: f"delivered: {system.states(known)}")
    late = system.webhook(account, receiver.url("/late"))["id"]
    for webhook_id in (known, late):
        start(system, webhook_id)
        until(partial(progress, system, webhook_id), 60, "a portion is done", 0.01)
        system.kill("maintain")
        system.launch("maintain")
    for webhook_id in (known, late):
        until(partial(is_finished, system, webhook_id), 120, lambda: str(system._rows("SELECT * FROM jobs")))
        until(partial(is_delivered, system, webhook_id), 120, lambda: f"delivered again: {system.states()}")
    done = job_row(system, known)
    assert (done["done"], done["failed"], done["backfill"]["added"]) == (EVENTS, 0, 0)
    added = job_row(system, late)["backfill"]
    assert (added["added"], added["skipped"]) == (EVENTS, 0)
    assert {row["generation"] for row in system.deliveries(known)} == {2}
    assert {row["generation"] for row in system.deliveries(late)} == {1}
    assert set(Counter(receiver.ids("/late"))) == {f"evt_{number}" for number in range(EVENTS)}
    bodies = {one.body for path in ("/known", "/late") for one in receiver.at(path)}
    assert len(bodies) == EVENTS


def start(system: System, webhook_id: str) -> None:
    """Start a replay with a backfill, as the API does; its command would wait for the end."""
    command = ("deliveries", "replay", webhook_id, "--since", SINCE, "--backfill", "--yes", "--json")
    system.launch_command(*command)
