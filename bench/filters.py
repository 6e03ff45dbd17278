"""What filters of webhooks cost `fan-out`: time to compare an event, and memory."""

import gc
import time
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from bench.stack import say
from streams.adapters.avro.codec import AvroCodec
from streams.adapters.compact_subscriptions import CompactSubscriptions
from streams.core.events.event import Data, Event
from streams.core.events.event_filter import parse_filter
from streams.core.webhooks.webhook import EncryptedSecret, Webhook, mismatch_reason

THREE = {"successStatus": "passed", "scoreScaled": {"gte": 0.8}, "metadata.department": {"in": ["sales", "hr"]}}
FILTERS: dict[str, dict[str, Any] | None] = {
    "none": None,
    "one condition": {"successStatus": "passed"},
    "three conditions": THREE,
    "ten conditions": {
        **THREE,
        "completionStatus": {"in": ["completed", "unknown"]},
        "scoreRaw": {"gte": 10, "lte": 100},
        "sessionId": {"exists": True},
        "learnerId": {"eq": "learner-42"},
        "metadata.site": "north",
        "metadata.contractor": {"exists": False},
    },
}
DATA: Data = {
    "sessionId": "sess_1",
    "packageId": "pkg_1",
    "learnerId": "learner-42",
    "totalTime": "PT12M34S",
    "completionStatus": "completed",
    "successStatus": "passed",
    "scoreRaw": 92.0,
    "scoreScaled": 0.92,
    "metadata": {"department": "sales", "site": "north"},
}
EVENT = Event("evt_1", "session.completed", "acme", datetime(2026, 4, 10, tzinfo=UTC), DATA)


def filters(
    webhooks: Annotated[int, typer.Option(help="Webhooks in memory.")] = 100_000,
    comparisons: Annotated[int, typer.Option(help="Comparisons of a run; the fastest of five counts.")] = 200_000,
) -> dict[str, object]:
    """Microseconds to compare an event with a webhook that wants it, and megabytes of many webhooks."""
    known = {name: _webhook("wh_1", conditions) for name, conditions in FILTERS.items()}
    assert all(mismatch_reason(webhook, EVENT) is None for webhook in known.values())
    return say(
        {},
        experiment="filters",
        webhooks=webhooks,
        compare_us={name: round(_microseconds(webhook, comparisons), 2) for name, webhook in known.items()},
        memory_mb={name: round(_megabytes(FILTERS[name], webhooks)) for name in ("none", "three conditions")},
    )


def _webhook(webhook_id: str, conditions: dict[str, Any] | None) -> Webhook:
    url, secrets = "https://crm.example.com/hooks", (EncryptedSecret("s" * 140),)
    return Webhook(webhook_id, "acme", url, secrets, filter=parse_filter(conditions) if conditions else None)


def _microseconds(webhook: Webhook, comparisons: int) -> float:
    def run() -> float:
        began = time.perf_counter()
        for _ in range(comparisons):
            mismatch_reason(webhook, EVENT)
        return time.perf_counter() - began

    return _least(run) * 1e6 / comparisons


def _least(run: Callable[[], float]) -> float:
    return min(run() for _ in range(5))


def _megabytes(conditions: dict[str, Any] | None, webhooks: int) -> float:
    table = CompactSubscriptions(AvroCodec())
    gc.collect()
    tracemalloc.start()
    for number in range(webhooks):
        table[f"wh_{number:026}"] = _webhook(f"wh_{number:026}", conditions)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return used / 1e6
