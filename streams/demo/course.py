"""A simulated course: learners launch it, score, and complete it."""

import asyncio
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from streams.producer import EventProducer

EVENTS_A_SECOND = 20.0


def happenings(account_id: str, dice: random.Random) -> Iterator[dict[str, Any]]:
    """Events of one learner after the other, without end: launched, scored, completed.

    Every fourth learner completes the course before it is scored: completed and passed are two events then.
    """
    learner = 0
    while True:
        learner += 1
        session = {
            "sessionId": f"sess_{learner}",
            "packageId": f"pkg_{learner % 3 + 1}",
            "learnerId": f"learner-{learner}",
        }
        score = dice.randint(40, 100)
        scores = {"scoreRaw": score, "scoreMin": 0, "scoreMax": 100}
        time_spent = {"totalTime": f"PT{dice.randint(2, 59)}M"}
        unknown = {"completionStatus": "completed", "successStatus": "unknown"}
        result = {"completionStatus": "completed", "successStatus": "passed" if score >= 60 else "failed"}
        events: list[tuple[str, dict[str, Any]]] = [("session.launched", session)]
        if learner % 4 == 0:
            events.append(("session.completed", {**session, **unknown, **time_spent}))
        events.append(("session.scored", {**session, **scores}))
        # A failure is not a transition: who has completed before hears of a pass only.
        if learner % 4 or score >= 60:
            events.append(("session.completed", {**session, **result, **scores, **time_spent}))
        for event_type, data in events:
            yield {"type": event_type, "accountId": account_id, "data": data}


class Course:
    """Publishes events as a platform does; `published_at` has the time of each acknowledged event."""

    def __init__(self, bootstrap: str, account_id: str, seed: int) -> None:
        self._producer = EventProducer(bootstrap)
        self._happenings = happenings(account_id, random.Random(seed))
        self.published_at: dict[str, float] = {}

    async def run(self, events: int | None, pace: float = EVENTS_A_SECOND) -> None:
        """Publish this many events, or until cancelled."""
        while events is None or len(self.published_at) < events:
            started = time.monotonic()
            fields = {**next(self._happenings), "createdAt": datetime.now(UTC).isoformat()}
            ack = await asyncio.wrap_future(self._producer.publish(fields))
            self.published_at[ack.event_id] = started
            await asyncio.sleep(max(0.0, started + 1 / pace - time.monotonic()))

    async def close(self) -> None:
        await asyncio.to_thread(self._producer.close)
