"""Work that failed, in memory."""

from dataclasses import dataclass, field

from fakes.clock import FakeClock
from streams.core.failed_work import FailedWork, WorkKind
from streams.ports.runtime import Telemetry
from streams.stages.postponed_work import PostponedWork


@dataclass
class FakeFailedWork:
    """A `FailedWorkLog`: the last failure of each unit of work, by kind and id."""

    failures: dict[tuple[WorkKind, str], FailedWork] = field(default_factory=dict)

    async def note(self, failure: FailedWork) -> None:
        self.failures[failure.kind, failure.work_id] = failure

    async def remove(self, kind: WorkKind, work_id: str) -> None:
        self.failures.pop((kind, work_id), None)


def postponed_work(
    telemetry: Telemetry, clock: FakeClock | None = None, log: FakeFailedWork | None = None
) -> PostponedWork:
    """Work that is tried again when this clock is advanced."""
    clock = clock or FakeClock()
    return PostponedWork(log or FakeFailedWork(), clock, telemetry, now=lambda: clock.now().timestamp())
