"""The time limits of a deployment that follow from the timeout of an attempt. All are in seconds."""

from dataclasses import dataclass

from streams.core.deliveries.decision import TEST_EXPIRY

MAX_ATTEMPT_SECONDS = 60.0
# Stages without attempts need this long to finish their work.
MIN_DRAIN_SECONDS = 12.0
# At a stop of `deliver`: attempts that end within this time are committed before the partitions go to another process.
REQUESTS_DRAIN_SECONDS = 1.5
# Until then requests go on without their partitions, so that their attempts are recorded. Longer ones are cut off.
DELIVER_DRAIN_SECONDS = 5.0
# For the records that follow from an attempt.
DRAIN_MARGIN_SECONDS = 2.0
# After a drain, partitions are given back (3) and the producer waits for acknowledgements (10).
SHUTDOWN_AFTER_DRAIN_SECONDS = 13.0
# A child that ends itself in time is not killed.
KILL_MARGIN_SECONDS = 5.0
# From the end of a test's attempt until it is stored.
STORAGE_DELAY_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """The longest times of a stop. `attempt_seconds` is the deployment's timeout of an attempt."""

    attempt_seconds: float

    @property
    def drain_seconds(self) -> float:
        """The time of any other stage to finish its current work: `api` waits for the attempt of a test."""
        return max(MIN_DRAIN_SECONDS, self.attempt_seconds + DRAIN_MARGIN_SECONDS)

    @property
    def stop_seconds(self) -> float:
        """The time from the signal to the end of a process."""
        return self.drain_seconds + SHUTDOWN_AFTER_DRAIN_SECONDS

    @property
    def kill_seconds(self) -> float:
        """The time from the signal until `up` kills a stage that did not end itself."""
        return self.stop_seconds + KILL_MARGIN_SECONDS


def seconds_until_outcome(attempt_seconds: float) -> float:
    """The time from the append of a test until its outcome is stored: its attempt begins before it expires."""
    return TEST_EXPIRY.total_seconds() + attempt_seconds + STORAGE_DELAY_SECONDS
