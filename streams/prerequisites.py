"""What must be there before a stage starts, its topics and a database of this version; and its parts side by side."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from streams.core.errors import Misconfigured, Unavailable
from streams.products import Products

Answer = TypeVar("Answer")

START_SECONDS = 60.0
ASK_EVERY_SECONDS = 0.5


def require_topics(deployment: Products, wanted: Sequence[str]) -> dict[str, int]:
    """The topics that exist; waits a minute for the broker. Raises `Misconfigured` for what is missing."""
    servers = str(deployment.kafka["bootstrap.servers"])
    existing = _patiently(deployment.topics_admin().existing, "KAFKA_BOOTSTRAP_SERVERS", servers)
    if missing := [name for name in wanted if name not in existing]:
        raise Misconfigured(
            f"the topics {', '.join(missing)} do not exist: run `scorm-webhooks topics apply` "
            "(and check SCORM_WEBHOOKS_TOPIC_PREFIX)"
        )
    return existing


def require_database(deployment: Products) -> None:
    """Raises `Misconfigured` unless the database answers within a minute and has this version's schema."""
    from streams.adapters.sql.migrate import require_head  # megabytes, which the stages without a database do without

    url = deployment.database_url
    _patiently(lambda: require_head(url), "DATABASE_URL", url.render_as_string(hide_password=True))


def _patiently(ask: Callable[[], Answer], setting: str, place: str) -> Answer:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return ask()
        except Unavailable as away:
            if time.monotonic() >= deadline:
                raise Misconfigured(
                    f"{setting}: {place} did not answer for {START_SECONDS:g} seconds ({away})"
                ) from None
            time.sleep(ASK_EVERY_SECONDS)


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
