"""Jobs take turns, and continue after an outage."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import replace

from builders import NOON
from fakes import FakeTelemetry, cancel_others, postponed_work, quiet, until
from streams.core.accounts.account import DeliveryFilter
from streams.core.deliveries.job import Job, JobKind
from streams.core.errors import Unavailable
from streams.core.failed_work import FailedRows
from streams.features.replays.stage import run_jobs

DISCARD = Job("job_1", "acme", JobKind.DISCARD, DeliveryFilter("acme"), NOON)


class FakeJobs:
    """`Jobs`. Those in `stuck` cannot go on, those in `waiting` have nothing to do yet.

    `advanced` has the ids of the others, in turn. The first `away` looks fail. An id begins with its account.
    """

    def __init__(self, *ids: str, stuck: Collection[str] = (), waiting: Collection[str] = (), away: int = 0) -> None:
        self.ids, self.stuck, self.waiting, self.advanced = ids, set(stuck), set(waiting), list[str]()
        self.away = away

    async def list_unfinished(self, after: str, failed_rows: FailedRows = None) -> Sequence[Job]:
        await asyncio.sleep(0)
        if self.away:
            self.away -= 1
            raise Unavailable("the database is away")
        unfinished = [one for one in self.ids if one not in self.advanced and _account(one) > after]
        following = min(map(_account, unfinished), default="")
        return [replace(DISCARD, id=one, account_id=following) for one in unfinished if _account(one) == following][:20]

    async def do_next_portion(self, job_id: str) -> Job:
        await asyncio.sleep(0)
        if job_id in self.stuck:
            raise Unavailable("a query took too long")
        if job_id in self.waiting:
            return replace(DISCARD, id=job_id, account_id=_account(job_id))
        self.advanced.append(job_id)
        return replace(DISCARD, id=job_id, finished_at=NOON)


def _account(job_id: str) -> str:
    return job_id.partition("_")[0]


def start(jobs: FakeJobs, telemetry: FakeTelemetry, portion_pause_seconds: float = 0) -> None:
    asyncio.create_task(  # noqa: RUF006
        run_jobs(
            jobs,  # type: ignore[arg-type]
            None,  # type: ignore[arg-type]
            telemetry,
            postponed_work(telemetry),
            poll_interval_seconds=0,
            portion_pause_seconds=portion_pause_seconds,
        )
    )


async def test_a_job_that_cannot_go_on_delays_no_other() -> None:
    jobs, telemetry = FakeJobs("job_1", "job_2", stuck={"job_1"}), FakeTelemetry()
    start(jobs, telemetry)
    await until(lambda: jobs.advanced == ["job_2"])
    await quiet()
    assert [ids for event, ids in telemetry.logged if event == "job_postponed"] == [
        {"why": "a query took too long", "job_id": "job_1"}
    ]
    jobs.stuck.clear()
    await until(lambda: jobs.advanced == ["job_2", "job_1"])
    await quiet()
    assert telemetry.logged_count("job_resumed") == 1
    await cancel_others()


async def test_jobs_of_an_account_delay_no_other() -> None:
    jobs = FakeJobs(*(f"acme_{number}" for number in range(1200)))
    start(jobs, FakeTelemetry())
    await until(lambda: len(jobs.advanced) == 3)
    jobs.ids = (*jobs.ids, "zeta_1")
    await until(lambda: "zeta_1" in jobs.advanced)
    assert jobs.advanced.index("zeta_1") <= 4
    await cancel_others()


async def test_jobs_go_on_after_an_outage() -> None:
    jobs = FakeJobs("job_1", away=1)
    start(jobs, FakeTelemetry())
    await until(lambda: jobs.advanced == ["job_1"])
    await cancel_others()


async def test_a_job_that_waits_gives_its_turn_to_others() -> None:
    # A job that waits is no reason to look again at once.
    jobs, telemetry = FakeJobs("job_1", waiting={"job_1"}), FakeTelemetry()
    start(jobs, telemetry, portion_pause_seconds=1000)
    await quiet()
    jobs.ids = ("job_1", "job_2")
    await until(lambda: jobs.advanced == ["job_2"])
    await cancel_others()
