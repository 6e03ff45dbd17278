"""Invalid records on every topic, wrong settings and missing resources."""

import resource
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import psycopg
from confluent_kafka import Producer

from builders import attempt, dead_letter, delivery
from chaos.kills import invalid_count
from chaos.scenario import ScenarioRun
from e2e.system import System, until
from real.strange_producer import produce_strange_records
from streams.adapters.avro.codec import AvroCodec
from streams.adapters.encryption import generate_key

CODEC = AvroCodec()
WRITE_EVERY_SECONDS = 0.2
# Nothing that a stage could accept: the checker would not expect it.
ANYWHERE = (b"", b"junk", b"\xc3\x01", b"[" * 100_000, bytes(900_000), CODEC.encode(delivery())[:-3])
DELIVERIES = (
    *ANYWHERE,
    CODEC.encode(delivery(step=2**62)),
    CODEC.encode(delivery(webhook_id="wh\r\n")),
    CODEC.encode(delivery(body=bytes(200_000))),
    CODEC.encode(attempt()),
)
INVALID = {
    "deliveries": DELIVERIES,
    "deliveries.retry.1s": DELIVERIES,
    "delivery-attempts": (*ANYWHERE, CODEC.encode(attempt(number=2**62)), CODEC.encode(attempt(tier="9999999d"))),
    "deliveries.held": (*ANYWHERE, CODEC.encode(delivery(generation=0))),
    "deliveries.dead-letter": (*ANYWHERE, CODEC.encode(dead_letter())[:-2]),
    "subscriptions": (*ANYWHERE, CODEC.encode(delivery())),
}


def records(scenario_run: ScenarioRun, times: int) -> None:
    """Write invalid events and invalid records to every other topic, while each stage is killed."""
    loaded = scenario_run.loaded
    produce_strange_records(loaded.kafka.bootstrap, f"{loaded.prefix}session-events")
    with invalid_records(scenario_run) as written:
        for stage in ("fan-out", "deliver", "record") * times:
            scenario_run.kill(stage)
        until(lambda: loaded.load.invalid_written >= 5 and len(written) >= 20, 60, "some invalid records")
    scenario_run.end()
    until(lambda: invalid_count(scenario_run) >= loaded.load.invalid_written, 60, "all stored as invalid")


@contextmanager
def invalid_records(scenario_run: ScenarioRun) -> Iterator[list[str]]:
    """Write invalid records in a thread; yields the list of their topics."""
    loaded, enough, written = scenario_run.loaded, threading.Event(), list[str]()
    producer = Producer({"bootstrap.servers": loaded.kafka.bootstrap, "message.max.bytes": 10**7, "log_level": 2})

    def write() -> None:
        while not enough.wait(WRITE_EVERY_SECONDS):
            topic = scenario_run.random.choice(sorted(INVALID))
            producer.produce(loaded.prefix + topic, scenario_run.random.choice(INVALID[topic]), b"untrusted")
            producer.flush(30)
            written.append(topic)

    writing = threading.Thread(target=write, daemon=True)
    writing.start()
    try:
        yield written
    finally:
        enough.set()
        writing.join()


def wrong_key(scenario_run: ScenarioRun, seconds: float) -> None:
    """With a wrong encryption key `deliver` and `publish` say so and make no attempts."""
    system = scenario_run.loaded.system
    sent = scenario_run.supervisor.progress("deliver")
    until(lambda: scenario_run.supervisor.progress("deliver") > sent + 50, 60, "deliveries before")
    for stage in ("deliver", "publish"):
        assert scenario_run.supervisor.stop(stage) == 0
        scenario_run.supervisor.start(stage, SCORM_WEBHOOKS_ENCRYPTION_KEYS=generate_key())
    for stage in ("deliver", "publish"):
        until(partial(names_the_setting, system, stage), 60, f"{stage} names the setting")
    sent = scenario_run.supervisor.progress("deliver")
    scenario_run.hold_for(seconds)
    assert scenario_run.supervisor.progress("deliver") == sent, "deliver continued with a wrong key"
    for stage in ("deliver", "publish"):
        scenario_run.supervisor.stop(stage)
        scenario_run.supervisor.start(stage)
    scenario_run.await_progress("deliver", sent, time.time())
    assert count(scenario_run, b"SELECT count(*) FROM attempts WHERE outcome = 'unsendable'") == 0


def names_the_setting(system: System, stage: str) -> bool:
    return "ENCRYPTION_KEYS" in system.problem(stage)


def file_descriptors(scenario_run: ScenarioRun, seconds: float) -> None:
    """`deliver` cannot open files for a while: deliveries wait, and no endpoint is blamed."""
    pid = scenario_run.loaded.system.pid("deliver")
    sent = scenario_run.supervisor.progress("deliver")
    until(lambda: scenario_run.supervisor.progress("deliver") > sent + 50, 60, "deliveries before")
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (8, before[1]))
    try:
        # Its health port cannot respond either, so read its log.
        until(lambda: "attempts_postponed" in scenario_run.loaded.system.log("deliver"), 90, "attempts postponed")
        scenario_run.hold_for(seconds)
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    scenario_run.await_progress("deliver", scenario_run.supervisor.progress("deliver"), time.time())
    assert count(scenario_run, b"SELECT count(*) FROM attempts WHERE strpos(message, 'open files') > 0") == 0


def missing_topic(scenario_run: ScenarioRun) -> None:
    """One topic of the schedule is missing: `deliver` names it, and continues once it exists."""
    system, longer = scenario_run.loaded.system, {"SCORM_WEBHOOKS_RETRY_SCHEDULE": "1s,2s,3s,4s"}
    flaky = scenario_run.customer("refusing", "refuse=20")
    assert scenario_run.supervisor.stop("deliver") == 0
    began_at, sent = time.time(), scenario_run.supervisor.progress("deliver")
    scenario_run.supervisor.start("deliver", **longer)
    until(lambda: "deliveries.retry.4s" in system.problem("deliver"), 60, "deliver names the missing topic")
    assert "topics apply" in system.problem("deliver")
    with scenario_run.member("planner") as planner:
        planner.env |= longer
        planner.run("topics", "apply")
    until(lambda: system.is_ready("deliver"), 10, "deliver is ready without a restart")
    scenario_run.await_progress("deliver", sent, began_at)
    query = b"SELECT count(*) FROM attempts WHERE webhook_id = %s AND number = 5"
    until(lambda: count(scenario_run, query, flaky) > 0, 60, "attempts after the wait of the new topic")
    assert scenario_run.supervisor.stop("deliver") == 0
    scenario_run.supervisor.start("deliver")


def count(scenario_run: ScenarioRun, query: bytes, *parameters: str) -> int:
    with psycopg.connect(scenario_run.loaded.database_url) as connection:
        [found] = connection.execute(query, parameters).fetchone() or [0]
        return int(found)
