"""Python imports this at start from its path: it shifts a stage's clock by `WRONG_CLOCK_SECONDS`.

A shift for the whole process would stop librdkafka, which waits until absolute times.
"""

import os
from datetime import datetime, timedelta, tzinfo

from streams.adapters import clock

OFFSET = timedelta(seconds=float(os.environ["WRONG_CLOCK_SECONDS"]))


class WrongDatetime(datetime):
    """A `datetime` whose `now` is shifted."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "WrongDatetime":
        return super().now(tz) + OFFSET


clock.datetime = WrongDatetime  # type: ignore[attr-defined]
