"""The time limits of a deployment that follow from the timeout of an attempt. All are in seconds."""

from dataclasses import dataclass

from streams.core.decision import TEST_EXPIRES

MAX_ATTEMPT = 60.0
# With the default timeout of an attempt. Stages that make no attempt need as long to finish what they have begun.
MIN_DRAIN = 12.0
# After a drain, partitions are given back (3) and the producer waits for acknowledgements (10).
END_AFTER_DRAIN = 13.0
# A child that ends itself in time is not killed.
END_BEFORE_KILL = 5.0
# From the end of a test's attempt until it is stored.
STORED_AFTER = 3.0


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """How long a stop and a test take at most where an attempt takes up to `attempt`."""

    attempt: float

    @property
    def drain(self) -> float:
        """What is in hand may finish: an attempt that has just begun, and the records that follow from it."""
        return max(MIN_DRAIN, self.attempt + 2)

    @property
    def stop(self) -> float:
        """From the signal to the end of a process."""
        return self.drain + END_AFTER_DRAIN

    @property
    def kill(self) -> float:
        """From the signal until `up` kills a stage that did not end itself."""
        return self.stop + END_BEFORE_KILL

    @property
    def test_outcome(self) -> float:
        """From the append of a test until its outcome is stored: its attempt begins before it expires."""
        return TEST_EXPIRES.total_seconds() + self.attempt + STORED_AFTER
