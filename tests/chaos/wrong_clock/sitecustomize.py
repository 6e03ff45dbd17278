"""Python reads this when it starts with this folder on its path: then a stage's clock is off by `WRONG_CLOCK_SECONDS`.

A library that lies to the whole process would stop librdkafka, which waits until absolute times.
"""

import os
from datetime import datetime, timedelta, tzinfo

from streams.adapters import clock

OFFSET = timedelta(seconds=float(os.environ["WRONG_CLOCK_SECONDS"]))


class WrongDatetime(datetime):
    """Right but for what time it is now."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "WrongDatetime":
        return super().now(tz) + OFFSET


clock.datetime = WrongDatetime  # type: ignore[attr-defined]
