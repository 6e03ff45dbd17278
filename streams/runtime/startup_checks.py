"""Check what a stage needs before it starts: its topics, and a database of this version."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from streams.adapters.kafka.group_members import FAUST_CLIENT_PREFIX
from streams.adapters.threads import run_in_daemon_thread
from streams.core.errors import Misconfigured, ScormWebhooksError, Unavailable
from streams.outage import BROKER, DATABASE, KAFKA_TOKEN, OutageKind, Outages
from streams.runtime.deployment import Deployment

START_SECONDS = 60.0
REQUEST_SECONDS = 2.0
RETRY_SECONDS = 0.5
# A client has so long to reach Kafka: one was seen that never did, on a busy machine, where every other one had.
CLIENT_SECONDS = 20.0
# A check that takes longer does not end.
HANGING_SECONDS = 60.0

Check = Callable[[], None]


class MissingPrerequisite(Unavailable):
    """A topic or a table is missing. The message names the command that creates it."""


PREREQUISITE = OutageKind("prerequisite_missing", "prerequisite_met", MissingPrerequisite)


@dataclass(frozen=True)
class StartupChecks:
    """The topics, by name, and the database that a stage needs before it starts."""

    topics: Sequence[str] = ()
    database: bool = False

    def checks(self, deployment: Deployment) -> Iterator[tuple[OutageKind, Check]]:
        """One check for the topics and one for the database, each with the outage that it may meet.

        A check raises `Unavailable` while it is not met. Raises `Misconfigured` at once.
        """
        if self.database:
            _ = deployment.database_url
        if self.topics:
            existing = _existing_topics(deployment)
            yield BROKER, partial(_check_topics, existing, self.topics, deployment.settings.topic_prefix)
        if self.database:
            yield DATABASE, partial(_check_database, deployment)

    async def wait(self, deployment: Deployment, outages: Outages, note: Callable[[str], None]) -> None:
        """Wait until all are met, however long that takes. `note` takes the reason.

        Raises `Misconfigured`, and `ScormWebhooksError` when a check hangs: then the process should start again.

        If the process ended instead, its orchestrator would restart it with a growing delay. A process that waits
        starts as soon as Kafka and the database are there. Its probe says what is missing.
        """
        for kind, check in list(self.checks(deployment)):
            await wait_until_met(check, kind, outages, note)

    def require(self, deployment: Deployment) -> None:
        """Wait up to a minute, for a command.

        Raises `Misconfigured` for what a person must create, and `Unavailable` when Kafka or the database is away.
        """
        deadline = time.monotonic() + START_SECONDS
        for _, check in self.checks(deployment):
            while True:
                try:
                    check()
                    break
                except MissingPrerequisite as error:
                    raise Misconfigured(str(error)) from None
                except Unavailable as error:
                    if time.monotonic() >= deadline:
                        raise Unavailable(f"{error}; gave up after {START_SECONDS:g} seconds") from None
                time.sleep(RETRY_SECONDS)


async def wait_until_met(check: Check, kind: OutageKind, outages: Outages, note: Callable[[str], None]) -> None:
    """Repeat a check while it raises `MissingPrerequisite`, or what an outage of this kind raises."""
    await outages.retry(partial(_attempt, check, note), RETRY_SECONDS, PREREQUISITE, KAFKA_TOKEN, kind)


async def _attempt(check: Check, note: Callable[[str], None]) -> None:
    try:
        async with asyncio.timeout(HANGING_SECONDS):
            await run_in_daemon_thread(check)
    except TimeoutError:
        raise ScormWebhooksError(f"a check before the start did not end within {HANGING_SECONDS:g} seconds") from None
    except Unavailable as error:
        note(str(error))
        raise


def missing_topics(topics: Sequence[str], prefix: str) -> str:
    """The message for topics that do not exist, with the command that creates them."""
    names = ", ".join(prefix + name for name in topics)
    return f"missing topics: {names}; run `scorm-webhooks topics apply` (and check SCORM_WEBHOOKS_TOPIC_PREFIX)"


def check_group(client_ids: Callable[[], Sequence[str]], group: str, client: str) -> None:
    """Raises `MissingPrerequisite` while the group has members of the other client, with which it cannot be shared."""
    other_clients = [
        client_id for client_id in client_ids() if client_id.startswith(FAUST_CLIENT_PREFIX) != (client == "faust")
    ]
    if other_clients:
        names = ", ".join(sorted(set(other_clients)))
        raise MissingPrerequisite(
            f"the group {group} has members of another client ({names}), and SCORM_WEBHOOKS_FAN_OUT_CONSUMER is "
            f"{client}; stop every fan-out process that is set otherwise; this one goes on when they have left"
        )


def _existing_topics(deployment: Deployment) -> Callable[[], Mapping[str, int]]:
    """A function that asks for the topics, by one client for many checks: it may take several to connect."""
    admin, since = deployment.topics_admin(), time.monotonic()

    def ask() -> Mapping[str, int]:
        nonlocal admin, since
        try:
            return admin.partition_counts(REQUEST_SECONDS)
        except Unavailable:
            if time.monotonic() - since >= CLIENT_SECONDS:
                admin, since = deployment.topics_admin(), time.monotonic()
            raise

    return ask


def _check_topics(ask: Callable[[], Mapping[str, int]], topics: Sequence[str], prefix: str) -> None:
    existing = ask()
    if absent_topics := [name for name in topics if name not in existing]:
        raise MissingPrerequisite(missing_topics(absent_topics, prefix))


def _check_database(deployment: Deployment) -> None:
    if problem := deployment.schema_problem():
        raise MissingPrerequisite(problem)
