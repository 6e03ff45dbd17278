"""Each class of log line is JSON with its event, level and stage."""

import asyncio
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from builders import NOON, delivery, webhook
from contract.stores import failed, sql_store
from fakes import FakeClock, FakeEncryption, FakeErasedLearners, FakeKafka, FakeRecorder, FakeSubscriptions
from streams.adapters.avro.codec import AvroCodec
from streams.adapters.http.sender import HttpSender
from streams.adapters.kafka.connection.config import producer_config
from streams.adapters.kafka.producing.record_producer import KafkaRecordProducer
from streams.adapters.replay_lookup import replay_lookup
from streams.adapters.sql.deliveries.recorder import SqlRecorder
from streams.adapters.sql.engine.database import database_url
from streams.core.deliveries.decision import SendNow
from streams.core.deliveries.delivery_state import merge_records
from streams.core.deliveries.outcome import OutcomeKind
from streams.core.deliveries.schedule import parse_schedule
from streams.core.errors import Misconfigured, ScormWebhooksError
from streams.log_lines import configure_logging
from streams.outage import Outages
from streams.ports.kafka import Outgoing, Partition, Record
from streams.runtime.fatal_errors import log_fatal_errors
from streams.stages.attempt import AttemptSender, DeliverPorts, DeliveryPolicy, record_metrics
from streams.stages.invalid_records import store_invalid
from streams.telemetry import PrometheusTelemetry
from streams.topics import ATTEMPTS, SESSION_EVENTS

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("logging_as_it_was")]

SECONDS = 20
CRASH = """
from streams.cli import stages
def crash(work):
    raise RuntimeError("a bug")
stages._run_async = crash
stages.run_stage("deliver", None)
"""

Line = dict[str, Any]
Lines = Callable[[], list[Line]]


@pytest.fixture
def lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lines]:
    """The log lines of a stage `deliver` so far, at level debug."""
    # Not `capfd`: between a fixture and its test pytest opens other files, and the handler keeps a descriptor.
    log = tmp_path / "stderr"
    with log.open("w") as stream:
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stderr", stream)
            configure_logging("json", "debug", "deliver")
        yield lambda: [json.loads(line) for line in log.read_text().splitlines()]


def summary(line: Line) -> tuple[str, str, str]:
    return line["event"], line["level"], line["stage"]


async def test_a_broker_that_is_away_is_a_warning(lines: Lines) -> None:
    config = producer_config({"bootstrap.servers": "127.0.0.1:1"})
    telemetry = PrometheusTelemetry("deliver")
    producer = KafkaRecordProducer(config, "", telemetry, Outages(telemetry), flush_timeout_seconds=0.1)
    producing = asyncio.create_task(producer.produce([Outgoing(ATTEMPTS, b"key", b"value")]))
    found: list[Line] = []
    async with asyncio.timeout(SECONDS):
        while not found:
            await asyncio.sleep(0.01)
            found = [line for line in lines() if "logger" not in line]
    producing.cancel()
    await producer.close()
    assert [summary(line) for line in found] == [("broker_unreachable", "warning", "deliver")]
    assert "refused" in found[0]["why"]


async def test_a_database_that_is_away_is_a_warning(lines: Lines) -> None:
    lookup = replay_lookup("postgresql://someone:canary@127.0.0.1:1/none", Outages(PrometheusTelemetry("deliver")))
    await lookup.newest_generation("dlv_1")
    [line] = lines()
    assert summary(line) == ("database_unreachable", "warning", "deliver")
    assert "canary" not in str(line)


async def test_an_invalid_record_is_a_warning_with_its_place(lines: Lines) -> None:
    record = Record(Partition(SESSION_EVENTS, 3), 42, b"key", b"canary", NOON)
    await store_invalid(FakeKafka(FakeClock()), PrometheusTelemetry("deliver"), [(record, "no schema fits")])
    [line] = lines()
    assert summary(line) == ("invalid_record_stored", "warning", "deliver")
    assert (line["topic"], line["partition"], line["offset"]) == (SESSION_EVENTS, 3, 42)
    assert "canary" not in str(line)


async def test_a_paused_webhook_is_a_warning_with_its_id(lines: Lines, tmp_path: Path) -> None:
    async with sql_store(database_url(f"sqlite:///{tmp_path}/db.sqlite")) as store:
        recorder = SqlRecorder(
            store.database,
            store.clock,
            PrometheusTelemetry("deliver"),
            FakeEncryption(),
        )
        await recorder.record(merge_records([failed(number) for number in range(1, 6)]))
    [line] = [line for line in lines() if "logger" not in line]
    assert summary(line) == ("webhook_paused", "warning", "deliver")
    assert line["webhook_id"] == webhook().id


async def test_a_refused_address_is_a_debug_line_of_its_attempt(lines: Lines) -> None:
    kafka, codec, clock = FakeKafka(FakeClock()), AvroCodec(), FakeClock()
    sender = HttpSender(
        connections=2, timeout_seconds=1, allowed_networks=(), ca_file=None, dns_probe_host="probe.example.com"
    )
    ports = DeliverPorts(
        codec,
        FakeSubscriptions(kafka, codec),
        FakeRecorder(),
        FakeErasedLearners(),
        FakeEncryption(),
        sender,
        kafka,
        clock,
        PrometheusTelemetry("deliver"),
    )
    policy = DeliveryPolicy(parse_schedule("30s"))
    send_now = SendNow(webhook(), "http://127.0.0.1:1/hooks")
    attempt, _ = await AttemptSender(ports, policy).attempt(delivery(), send_now, lambda: None)
    record_metrics(ports.telemetry, attempt)
    await sender.close()
    [line] = [line for line in lines() if "logger" not in line]
    assert summary(line) == ("delivery_attempt_failed", "debug", "deliver")
    assert line["outcome"] == OutcomeKind.FORBIDDEN_ADDRESS
    assert line["webhook_id"] == webhook().id


@pytest.mark.parametrize(
    ("error", "event", "code"),
    [
        (Misconfigured("SCORM_WEBHOOKS_SLOTS: must be 2 or more"), "misconfigured", 2),
        (ScormWebhooksError("the topic was recreated"), "process_failed", 3),
        (PermissionError(13, "Permission denied", "/data"), "process_failed", 3),
        (RuntimeError("a bug"), "process_crashed", 1),
    ],
)
def test_a_fatal_error_is_critical(error: Exception, event: str, code: int, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, log_fatal_errors("deliver", "json"):
        raise error
    line = json.loads(capfd.readouterr().err)
    assert summary(line) == (event, "critical", "deliver")
    assert ended.value.code == code
    assert ("Traceback" in line.get("exception", "")) == (code == 1)


def test_on_a_console_a_fatal_error_passes_on(lines: Lines) -> None:
    with pytest.raises(Misconfigured), log_fatal_errors("deliver", "console"):
        raise Misconfigured("SCORM_WEBHOOKS_SLOTS: must be 2 or more")
    assert lines() == []


def test_a_thread_that_crashes_is_an_error(lines: Lines) -> None:
    def crash() -> None:
        raise RuntimeError("a bug")

    with log_fatal_errors("deliver", "json"):
        thread = threading.Thread(target=crash, name="kafka-consumer")
        thread.start()
        thread.join()
    [line] = lines()
    assert summary(line) == ("thread_crashed", "error", "deliver")
    assert line["thread"] == "kafka-consumer"
    assert "RuntimeError: a bug" in line["exception"]


def test_a_line_of_a_library_has_stage_and_logger(lines: Lines) -> None:
    logging.getLogger("librdkafka").error("connection refused")
    try:
        raise ValueError("a bug")
    except ValueError:
        logging.getLogger("asyncio").exception("task failed")
    librdkafka, task = lines()
    assert summary(librdkafka) == ("connection refused", "error", "deliver")
    assert librdkafka["logger"] == "librdkafka"
    assert "ValueError: a bug" in task["exception"]


def test_a_stage_that_crashes_ends_in_a_json_line(tmp_path: Path) -> None:
    environ = {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "SCORM_WEBHOOKS_HEALTH_PORT": "0"}
    command = [sys.executable, "-c", CRASH]
    done = subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    [line] = [json.loads(line) for line in done.stderr.splitlines()]
    assert summary(line) == ("process_crashed", "critical", "deliver")
