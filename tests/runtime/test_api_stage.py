"""The process `api` ends when it cannot go on."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError

from contract.clusters import numbered
from contract.refusing_broker import INIT_PRODUCER_ID_REQUEST, RefusingBroker
from streams.adapters.http_server.connection_limits import ConnectionLimits, ConnectionObserver
from streams.adapters.http_server.server import server_config
from streams.adapters.kafka.producing.record_producer import ProducerFailed
from streams.runtime.api_stage import ApiProcess, GracefulServer
from streams.runtime.bootstrap import SqlDeployment
from streams.runtime.sockets import listen
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


@pytest.mark.parametrize("is_cut", [True, False])
async def test_the_server_knows_which_requests_it_cut(is_cut: bool) -> None:
    arrived, answer = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        arrived.set()
        await answer.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    observer = ConnectionObserver(on_close=lambda reason: None, on_count=lambda count: None)
    listening = listen("127.0.0.1", 0, "API")
    server = GracefulServer(server_config(app, ConnectionLimits(), observer, timeout_graceful_shutdown=1))
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    _, writer = await asyncio.open_connection("127.0.0.1", listening.getsockname()[1])
    writer.write(b"GET / HTTP/1.1\r\nHost: api\r\n\r\n")
    async with asyncio.timeout(SECONDS):
        await arrived.wait()
        server.should_exit = True
        if not is_cut:
            answer.set()
        await serving
    writer.close()
    assert server.cut_request_count == is_cut
