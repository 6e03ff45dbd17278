"""Open the API's routes in this process, for the system that the environment configures."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

from streams.cli.deployment import current_actor, import_without_gc, open_deployment, require_kafka

with import_without_gc():
    from api.local import LocalApp
    from streams.adapters.kafka.producing.record_producer import KafkaRecordProducer
    from streams.ports.kafka import Outgoing
    from streams.runtime.bootstrap import SqlDeployment
    from streams.telemetry import PrometheusTelemetry

KAFKA_TIMEOUT_SECONDS = 5.0


@asynccontextmanager
async def open_local_app() -> AsyncIterator[LocalApp]:
    """Open the routes. Closes their database and producer at the end. Raises `Misconfigured` without a system."""
    async with open_deployment() as deployment:
        telemetry = PrometheusTelemetry("cli")
        producer = LazyProducer(deployment, telemetry)
        try:
            services = deployment.services(telemetry, producer, _no_readiness_problems)
            yield LocalApp(services, current_actor())
        finally:
            await producer.close()


async def _no_readiness_problems() -> list[str]:
    return []


class LazyProducer:
    """A producer that connects at its first use."""

    def __init__(self, deployment: SqlDeployment, telemetry: PrometheusTelemetry) -> None:
        self._deployment = deployment
        self._telemetry = telemetry
        self._producer: KafkaRecordProducer | None = None

    async def produce(self, records: Sequence[Outgoing]) -> Sequence[datetime]:
        if self._producer is None:
            # Fails earlier than the service's own timeout, and its error names the broker.
            await asyncio.to_thread(require_kafka, self._deployment, KAFKA_TIMEOUT_SECONDS)
            self._producer = self._deployment.producer(self._telemetry)
        return await self._producer.produce(records)

    async def close(self) -> None:
        if self._producer is not None:
            await self._producer.close()
