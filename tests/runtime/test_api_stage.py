"""The process `api` ends when it cannot go on."""

import asyncio
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError

from contract.clusters import numbered
from contract.refusing_broker import INIT_PRODUCER_ID_REQUEST, RefusingBroker
from fakes import until
from streams.adapters.http_server.connection_limits import ConnectionLimits, ConnectionObserver
from streams.adapters.http_server.server import server_config
from streams.adapters.kafka.producing.record_producer import KafkaRecordProducer, ProducerFailed
from streams.ports.runtime import Telemetry
from streams.runtime.api_stage import GracefulServer, api, url_on_this_machine
from streams.runtime.bootstrap import SqlDeployment
from streams.runtime.sockets import listen
from streams.telemetry import PrometheusTelemetry
from streams.topics import SESSION_EVENTS, Topic

SECONDS = 20.0


class OneProducer(SqlDeployment):
    """Lets a test use the producer of a stage."""

    @cached_property
    def producers(self) -> list[KafkaRecordProducer]:
        return []

    def producer(self, telemetry: Telemetry, linger_ms: float = 0) -> KafkaRecordProducer:
        self.producers.append(super().producer(telemetry, linger_ms))
        return self.producers[-1]


def url_of(host: str) -> str:
    return url_on_this_machine(host, 8080)


def test_a_command_beside_the_api_finds_its_address() -> None:
    assert [url_of("0.0.0.0"), url_of("::"), url_of("10.0.0.5"), url_of("fd00::1")] == [
        "http://127.0.0.1:8080",
        "http://[::1]:8080",
        "http://10.0.0.5:8080",
        "http://[fd00::1]:8080",
    ]


async def test_the_api_ends_when_its_producer_has_failed_for_good(tmp_path: Path) -> None:
    with RefusingBroker([Topic(SESSION_EVENTS, "session id", 1)]) as broker:
        broker.refuse(INIT_PRODUCER_ID_REQUEST, [KafkaError.CLUSTER_AUTHORIZATION_FAILED] * 3)
        environ = {
            "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap,
            "SCORM_WEBHOOKS_API_PORT": "0",
            "SCORM_WEBHOOKS_DATA_DIR": str(tmp_path),
        }
        deployment = OneProducer.from_environment(environ)
        running = asyncio.create_task(api(deployment, PrometheusTelemetry("api")).run())
        await until(lambda: (tmp_path / "api.json").exists())
        with pytest.raises(ProducerFailed):
            await deployment.producers[0].produce(numbered(SESSION_EVENTS, 1))
        with pytest.raises(ProducerFailed):
            await asyncio.wait_for(running, SECONDS)
        assert not (tmp_path / "api.json").exists()


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
