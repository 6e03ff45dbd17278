"""The stages that stand on SQL, `publish` and `notify`, with their parts."""

from collections.abc import Callable, Sequence

from ulid import ULID

from streams.ports import Telemetry
from streams.runtime.bootstrap import SqlDeployment
from streams.runtime.startup_checks import together
from streams.stages.consuming.partition_consumer import DRAIN_SECONDS
from streams.stages.maintenance import prune_regularly, run_jobs
from streams.stages.notify import Notify
from streams.stages.publish import Publish, Reconciled
from streams.stages.release_held import ReleaseHeld


class PublishProcess:
    """`publish`."""

    def __init__(self, deployment: SqlDeployment, report: Telemetry) -> None:
        self._view = deployment.view_reader(report)
        self._log = deployment.log(report)
        self._database = deployment.database
        self._stage = Publish(
            deployment.outbox(),
            deployment.lease("publish"),
            self._log,
            deployment.codec,
            report,
            deployment.encryption_check,
            deployment.clock,
            new_incarnation=lambda: str(ULID()),
        )
        self._deployment, self._report = deployment, report
        self._drain = ReleaseHeld(
            deployment.held(),
            deployment.recorder(report),
            self._view,
            self._log,
            deployment.codec,
            deployment.clock,
            report,
            deployment.settings.held_rate,
        )

    async def run(self) -> None:
        try:
            await together(self._deployment.encryption_check.watch, self._work)
        finally:
            await self._log.close()
            await self._database.close()

    async def _work(self) -> None:
        # The topic is read only once nobody else writes to it.
        await self._stage.take_lease()
        await together(self._view.run, self._publish, self._send_on, self._do_jobs, self._prune)

    async def _publish(self) -> None:
        await self._view.wait_until_read()
        await self._stage.run(self._view.view)

    async def _send_on(self) -> None:
        await self._view.wait_until_ready()
        await self._drain.run()

    async def _do_jobs(self) -> None:
        await run_jobs(self._deployment.jobs(), self._report)

    async def _prune(self) -> None:
        deployment = self._deployment
        await prune_regularly(deployment.pruning(), deployment.keep(), deployment.clock, self._report)

    async def reconcile(self, may_delete: Callable[[Sequence[str]], bool]) -> Reconciled:
        """Make the topic what SQL says, once, as the only publisher."""
        await self._stage.take_lease()
        done: list[Reconciled] = []

        async def once() -> None:
            await self._view.wait_until_read()
            done.append(await self._stage.reconcile(self._view.view, may_delete))

        try:
            await together(self._view.run, once)
        finally:
            await self._stage.give_lease_back()
            await self._log.close()
            await self._database.close()
        return done[0]

    async def drain(self) -> None:
        return

    def troubles(self) -> list[str]:
        return [*self._deployment.encryption_check.problems(), *self._database.troubles(), *self._log.troubles()]


class NotifyProcess:
    """`notify`."""

    def __init__(self, deployment: SqlDeployment, report: Telemetry) -> None:
        self._database = deployment.database
        self._stage = Notify(
            deployment.mails(),
            deployment.post(report),
            deployment.lease("notify"),
            deployment.clock,
            report,
            deployment.settings.url,
        )

    async def run(self) -> None:
        try:
            await self._stage.run()
        finally:
            await self._database.close()

    async def drain(self) -> None:
        await self._stage.drain(DRAIN_SECONDS)

    def troubles(self) -> list[str]:
        return self._database.troubles()
