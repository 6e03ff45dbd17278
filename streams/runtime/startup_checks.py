"""Check a stage's prerequisites before it starts: its topics, and a database of this version."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from streams.adapters.kafka.admin.group_members import FAUST_CLIENT_PREFIX
from streams.adapters.threads import run_in_daemon_thread
from streams.core.errors import Misconfigured, ScormWebhooksError, Unavailable
from streams.outage import BROKER, DATABASE, KAFKA_TOKEN, OutageKind, Outages
from streams.runtime.deployment import Deployment

START_TIMEOUT_SECONDS = 60.0
REQUEST_TIMEOUT_SECONDS = 2.0
RETRY_INTERVAL_SECONDS = 0.5
# The time for a client to reach Kafka: on a busy machine one client never did, although all others had.
CLIENT_RENEWAL_SECONDS = 20.0
# A check that takes longer will not end.
CHECK_TIMEOUT_SECONDS = 60.0

Check = Callable[[], None]


class MissingPrerequisite(Unavailable):
    """A topic or a table is missing. The message names the command that creates it."""


PREREQUISITE_OUTAGE = OutageKind("prerequisite_missing", "prerequisite_met", MissingPrerequisite)


@dataclass(frozen=True)
class StartupChecks:
    """The topics, by name, and the database that a stage needs before it starts."""

    topics: Sequence[str] = ()
    needs_database: bool = False
    request_timeout_seconds: float = REQUEST_TIMEOUT_SECONDS
    client_renewal_seconds: float = CLIENT_RENEWAL_SECONDS

    def checks(self, deployment: Deployment) -> Iterator[tuple[OutageKind, Check]]:
        """One check for the topics and one for the database, each with the outage that it may find.

        A check raises `Unavailable` while its prerequisite is missing. Raises `Misconfigured` at once.
        """
        if self.needs_database:
            _ = deployment.database_url
        if self.topics:
            existing_topics = self._existing_topics_query(deployment)
            yield BROKER, partial(_check_topics, existing_topics, self.topics, deployment.settings.topic_prefix)
        if self.needs_database:
            yield DATABASE, partial(_check_database, deployment)

    async def wait_until_met(self, deployment: Deployment, outages: Outages, on_wait: Callable[[str], None]) -> None:
        """Wait until all checks pass, however long that takes. `on_wait` takes the reason.

        Raises `Misconfigured`, and `ScormWebhooksError` if a check hangs: the process should then start again.

        If the process ended instead, its orchestrator would restart it with a growing delay. A process that waits
        starts as soon as Kafka and the database are there. Its probe shows the problem.
        """
        for kind, check in list(self.checks(deployment)):
            await wait_until_met(check, kind, outages, on_wait)

    def wait_or_raise(self, deployment: Deployment, timeout_seconds: float = START_TIMEOUT_SECONDS) -> None:
        """Wait up to a minute, for a command.

        Raises `Misconfigured` for what a person must create, and `Unavailable` if Kafka or the database is away.
        """
        deadline = time.monotonic() + timeout_seconds
        for _, check in self.checks(deployment):
            while True:
                try:
                    check()
                    break
                except MissingPrerequisite as error:
                    raise Misconfigured(str(error)) from None
                except Unavailable as error:
                    if time.monotonic() >= deadline:
                        raise Unavailable(f"{error}; gave up after {timeout_seconds:g} seconds") from None
                time.sleep(RETRY_INTERVAL_SECONDS)

    def _existing_topics_query(self, deployment: Deployment) -> Callable[[], Mapping[str, int]]:
        """A function that queries the topics, with one client for many checks: connecting may take several checks."""
        admin, client_made_at = deployment.topics_admin(), time.monotonic()

        def query_topics() -> Mapping[str, int]:
            nonlocal admin, client_made_at
            try:
                return admin.partition_counts(self.request_timeout_seconds)
            except Unavailable:
                if time.monotonic() - client_made_at >= self.client_renewal_seconds:
                    admin, client_made_at = deployment.topics_admin(), time.monotonic()
                raise

        return query_topics


async def wait_until_met(
    check: Check,
    kind: OutageKind,
    outages: Outages,
    on_wait: Callable[[str], None],
    timeout_seconds: float = CHECK_TIMEOUT_SECONDS,
) -> None:
    """Repeat a check while it raises `MissingPrerequisite`, or the errors of an outage of this kind."""
    run_check = partial(_run_check, check, on_wait, timeout_seconds)
    await outages.retry(run_check, RETRY_INTERVAL_SECONDS, PREREQUISITE_OUTAGE, KAFKA_TOKEN, kind)


async def _run_check(check: Check, on_wait: Callable[[str], None], timeout_seconds: float) -> None:
    try:
        async with asyncio.timeout(timeout_seconds):
            await run_in_daemon_thread(check)
    except TimeoutError:
        raise ScormWebhooksError(f"a check before the start did not end within {timeout_seconds:g} seconds") from None
    except Unavailable as error:
        on_wait(str(error))
        raise


def missing_topics_message(topics: Sequence[str], prefix: str) -> str:
    """The message for topics that do not exist, with the command that creates them."""
    names = ", ".join(prefix + name for name in topics)
    return f"missing topics: {names}; run `scorm-webhooks topics apply` (and check SCORM_WEBHOOKS_TOPIC_PREFIX)"


def check_group(client_ids: Callable[[], Sequence[str]], group: str, client_name: str) -> None:
    """Raise `MissingPrerequisite` while the group has members of the other client, which cannot share it."""
    other_clients = [
        client_id for client_id in client_ids() if client_id.startswith(FAUST_CLIENT_PREFIX) != (client_name == "faust")
    ]
    if other_clients:
        names = ", ".join(sorted(set(other_clients)))
        raise MissingPrerequisite(
            f"the group {group} has members of another client ({names}), and SCORM_WEBHOOKS_FAN_OUT_CONSUMER is "
            f"{client_name}; stop every fan-out process that is set otherwise; this one goes on when they have left"
        )


def _check_topics(query_topics: Callable[[], Mapping[str, int]], topics: Sequence[str], prefix: str) -> None:
    existing_topics = query_topics()
    if absent_topics := [name for name in topics if name not in existing_topics]:
        raise MissingPrerequisite(missing_topics_message(absent_topics, prefix))


def _check_database(deployment: Deployment) -> None:
    if problem := deployment.schema_problem():
        raise MissingPrerequisite(problem)
