"""The system of this environment, for commands that need its settings."""

import asyncio
import gc
import getpass
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, TypeVar

from streams.core.errors import Unavailable

if TYPE_CHECKING:
    from streams.runtime.bootstrap import SqlDeployment

Result = TypeVar("Result")

KAFKA_TIMEOUT_SECONDS = 10.0


def current_actor() -> str:
    """The actor for the audit log."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # A container may run with a user id that has no name.
        return f"cli:uid-{os.getuid()}"


@contextmanager
def import_without_gc() -> Iterator[None]:
    """Disable garbage collection during imports: they make no garbage, and the search takes a fifth of their time."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@asynccontextmanager
async def open_deployment() -> AsyncIterator["SqlDeployment"]:
    """This environment's deployment; its database is closed at the end.

    Raises `Misconfigured` when there is no system, or the database does not have this version's schema.
    """
    with import_without_gc():
        from streams.runtime.bootstrap import SqlDeployment

    deployment = SqlDeployment.from_environment()
    deployment.require_system()
    try:
        yield deployment
    except Unavailable:
        from streams.adapters.sql.engine.schema_check import require_schema

        # The database's own error of a missing table does not say what to do.
        await asyncio.to_thread(require_schema, deployment.database_url)
        raise
    finally:
        await deployment.database.close()


def run_in_deployment(work: Callable[["SqlDeployment"], Awaitable[Result]]) -> Result:
    """Run `work` on this environment's deployment. Raises the errors of `open_deployment`."""

    async def run() -> Result:
        async with open_deployment() as deployment:
            return await work(deployment)

    return asyncio.run(run())


def require_kafka(deployment: "SqlDeployment", seconds: float = KAFKA_TIMEOUT_SECONDS) -> None:
    """Raises `Unavailable`, with the servers and the reason, when no broker answers."""
    deployment.topics_admin().partition_counts(seconds)
