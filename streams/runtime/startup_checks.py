"""What must be there before a stage starts, its topics and a database of this version; and its parts side by side."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from streams.adapters.threads import in_daemon_thread
from streams.core.errors import Misconfigured, Unavailable
from streams.runtime.deployment import Deployment

START_SECONDS = 60.0
ASK_SECONDS = 2.0
ASK_EVERY_SECONDS = 0.5

Check = Callable[[], None]


class MissingPrerequisite(Unavailable):
    """Something that a person creates is missing; the text names the command."""


@dataclass(frozen=True)
class StartupChecks:
    """The topics, by name, and the database that a stage needs before it starts."""

    topics: Sequence[str] = ()
    database: bool = False

    def checks(self, deployment: Deployment) -> Iterator[Check]:
        """One check for each; each raises `Unavailable` while it is not met. Raises `Misconfigured` at once."""
        if self.database:
            _ = deployment.database_url
        if self.topics:
            # One client for all checks: its connection may take longer than one check.
            existing = partial(deployment.topics_admin().existing, ASK_SECONDS)
            yield partial(_check_topics, existing, self.topics, deployment.settings.topic_prefix)
        if self.database:
            yield partial(_check_database, deployment)

    async def wait(self, deployment: Deployment, tell: Callable[[str], None]) -> None:
        """Wait until all are met, however long that takes; `tell` hears why. Raises `Misconfigured`.

        An orchestrator restarts a process that ends, with a growing delay. One that waits, not ready, starts the
        moment Kafka and the database are there, and its probe says what is missing until then.
        """
        for check in list(self.checks(deployment)):
            while True:
                try:
                    await in_daemon_thread(check)
                    break
                except Unavailable as away:
                    tell(str(away))
                await asyncio.sleep(ASK_EVERY_SECONDS)

    def require(self, deployment: Deployment) -> None:
        """The same for a command: wait a minute at most.

        Raises `Misconfigured` for what a person must create, `Unavailable` for what does not answer by then.
        """
        deadline = time.monotonic() + START_SECONDS
        for check in self.checks(deployment):
            while True:
                try:
                    check()
                    break
                except MissingPrerequisite as missing:
                    raise Misconfigured(str(missing)) from None
                except Unavailable as away:
                    if time.monotonic() >= deadline:
                        raise Unavailable(f"{away}; gave up after {START_SECONDS:g} seconds") from None
                time.sleep(ASK_EVERY_SECONDS)


def missing_topics(missing: Sequence[str], prefix: str) -> str:
    """The message for topics that do not exist, with the command that creates them."""
    names = ", ".join(prefix + name for name in missing)
    return f"missing topics: {names}; run `scorm-webhooks topics apply` (and check SCORM_WEBHOOKS_TOPIC_PREFIX)"


def _check_topics(ask: Callable[[], Mapping[str, int]], wanted: Sequence[str], prefix: str) -> None:
    existing = ask()
    if missing := [name for name in wanted if name not in existing]:
        raise MissingPrerequisite(missing_topics(missing, prefix))


def _check_database(deployment: Deployment) -> None:
    # Megabytes, which the stages without a database do without.
    from streams.adapters.sql.migrate import SchemaDiffers, require_head

    try:
        require_head(deployment.database_url)
    except SchemaDiffers as old:
        raise MissingPrerequisite(str(old)) from None


async def together(*parts: Callable[[], Awaitable[None]]) -> None:
    """Run all parts until one ends or fails; then end the others and pass its failure on."""
    tasks = [asyncio.ensure_future(part()) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            await task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
