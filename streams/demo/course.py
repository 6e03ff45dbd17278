"""A simulated course: learners launch it, score, and complete it."""

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from streams.producer import EventProducer

EVENTS_A_SECOND = 20.0
LEARNERS = 200
PACKAGES = 3
DISPATCHES = 4


def generate_events(account_id: str, rng: random.Random) -> Iterator[dict[str, Any]]:
    """An endless stream of events, one session after another: launched, scored, completed.

    Every fourth learner completes the course before it is scored: completed and passed are then separate events.
    """
    for number in itertools.count():
        session = {
            "sessionId": f"sess_{number + 1}",
            "packageId": f"pkg_{number % PACKAGES + 1}",
            "learnerId": f"learner-{number % LEARNERS + 1}",
        }
        if dispatch := number % DISPATCHES:  # the others are opened by the platform itself
            session["dispatchId"] = f"dsp_{dispatch}"
        score = rng.randint(40, 100)
        scores = {"scoreRaw": score, "scoreMin": 0, "scoreMax": 100}
        time_spent = {"totalTime": f"PT{rng.randint(2, 59)}M"}
        unknown = {"completionStatus": "completed", "successStatus": "unknown"}
        result = {"completionStatus": "completed", "successStatus": "passed" if score >= 60 else "failed"}
        events: list[tuple[str, dict[str, Any]]] = [("session.launched", session)]
        completes_first = number % 4 == 3
        if completes_first:
            events.append(("session.completed", {**session, **unknown, **time_spent}))
        events.append(("session.scored", {**session, **scores}))
        # A failure is not a transition: after a completion only a pass is reported.
        if not completes_first or score >= 60:
            events.append(("session.completed", {**session, **result, **scores, **time_spent}))
        for event_type, data in events:
            yield {"type": event_type, "accountId": account_id, "data": data}


class Course:
    """Publishes events as a platform does; `published_at` and `types` have each acknowledged event."""

    def __init__(self, bootstrap: str, account_id: str, seed: int) -> None:
        self.on_published: Callable[[str, dict[str, Any]], None] = lambda event_id, fields: None
        self._producer = EventProducer(bootstrap)
        self._events_to_come = generate_events(account_id, random.Random(seed))
        self.published_at: dict[str, float] = {}
        self.types: Counter[str] = Counter()

    async def run(self, events: int | None, pace: float = EVENTS_A_SECOND) -> None:
        """Publish this many events, or until cancelled."""
        while events is None or len(self.published_at) < events:
            started_at = time.monotonic()
            fields = {**next(self._events_to_come), "createdAt": datetime.now(UTC).isoformat()}
            ack = await asyncio.wrap_future(self._producer.publish(fields))
            self.published_at[ack.event_id] = started_at
            self.types[fields["type"]] += 1
            self.on_published(ack.event_id, fields)
            await asyncio.sleep(max(0.0, started_at + 1 / pace - time.monotonic()))

    async def close(self) -> None:
        await asyncio.to_thread(self._producer.close)
