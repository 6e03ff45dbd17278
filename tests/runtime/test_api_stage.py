"""The process `api` ends when it cannot go on."""

import asyncio
from pathlib import Path

import pytest
from confluent_kafka import KafkaError

from contract.clusters import numbered
from contract.refusing_broker import INIT_PRODUCER_ID_REQUEST, RefusingBroker
from streams.adapters.kafka.record_producer import ProducerFailed
from streams.runtime.api_stage import ApiProcess
from streams.runtime.bootstrap import SqlDeployment
from streams.telemetry import PrometheusTelemetry
from streams.topics import SESSION_EVENTS, Topic

SECONDS = 20.0


async def test_the_api_ends_when_its_producer_has_failed_for_good(tmp_path: Path) -> None:
    with RefusingBroker([Topic(SESSION_EVENTS, "session id", 1)]) as broker:
        broker.refuse(INIT_PRODUCER_ID_REQUEST, [KafkaError.CLUSTER_AUTHORIZATION_FAILED] * 3)
        environ = {
            "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap,
            "SCORM_WEBHOOKS_API_PORT": "0",
            "SCORM_WEBHOOKS_DATA_DIR": str(tmp_path),
        }
        process = ApiProcess(SqlDeployment.from_environment(environ), PrometheusTelemetry("api"))
        running = asyncio.create_task(process.run())
        with pytest.raises(ProducerFailed):
            await process._producer.produce(numbered(SESSION_EVENTS, 1))
        with pytest.raises(ProducerFailed):
            await asyncio.wait_for(running, SECONDS)
