"""An outage is logged once for each topic, and readiness names the topic."""

from confluent_kafka import KafkaError

from fakes import FakeTelemetry
from streams.adapters.kafka.producing.produce_outages import ProduceOutages
from streams.outage import BROKER_AWAY, Outages
from streams.ports.runtime import Telemetry

DENIED = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
DOWN = KafkaError(KafkaError._ALL_BROKERS_DOWN)
TIMED_OUT = KafkaError(KafkaError._MSG_TIMED_OUT)


def produce_outages(telemetry: Telemetry) -> ProduceOutages:
    return ProduceOutages(telemetry, Outages(telemetry))


def test_another_topics_success_ends_no_outage() -> None:
    telemetry = FakeTelemetry()
    outages = produce_outages(telemetry)
    for _ in range(3):
        outages.record_failure("delivery-attempts", DENIED, 0.0)
        outages.record_success("deliveries")
        assert outages.problems(0.0, is_idle=False) == [f"the topic delivery-attempts takes no records: {DENIED.str()}"]
    assert len(telemetry.logged) == 1
    outages.record_success("delivery-attempts")
    assert outages.problems(0.0, is_idle=False) == []
    assert telemetry.logged[1:] == [("topic_writable", {"topic": "delivery-attempts", "seconds": 0.0})]


def test_each_topic_has_an_outage_of_its_own() -> None:
    telemetry = FakeTelemetry()
    outages = produce_outages(telemetry)
    for topic in ["b", "a", "b"]:
        outages.record_failure(topic, DENIED, 0.0)
    assert [about["topic"] for _, about in telemetry.logged] == ["b", "a"]
    outages.record_success("b")
    assert outages.problems(0.0, is_idle=False) == [f"the topic a takes no records: {DENIED.str()}"]
    outages.record_failure("b", DENIED, 0.0)
    assert telemetry.logged_count("topic_unwritable") == 3


def test_topics_that_fail_alike_are_one_problem() -> None:
    outages = produce_outages(FakeTelemetry())
    outages.record_failure("b", DENIED, 0.0)
    outages.record_failure("a", DENIED, 0.0)
    outages.record_failure("c", TIMED_OUT, 0.0)
    assert outages.problems(0.0, is_idle=False) == [
        f"the topics a, b take no records: {DENIED.str()}",
        f"the topic c takes no records: {TIMED_OUT.str()}",
    ]


def test_an_outage_of_the_broker_blames_no_topic() -> None:
    telemetry = FakeTelemetry()
    outages = produce_outages(telemetry)
    outages.record_outage(DOWN)
    outages.record_outage(DOWN)
    outages.record_failure("a", TIMED_OUT, 0.0)
    assert outages.problems(0.0, is_idle=False) == [BROKER_AWAY]
    outages.record_success("a")
    assert outages.problems(0.0, is_idle=False) == []
    assert [fact for fact, _ in telemetry.logged] == ["broker_unreachable", "broker_reachable"]


def test_a_broker_that_refuses_a_topic_is_there_again() -> None:
    outages = produce_outages(FakeTelemetry())
    outages.record_outage(DOWN)
    outages.record_failure("a", DENIED, 0.0)
    assert outages.problems(0.0, is_idle=False) == [f"the topic a takes no records: {DENIED.str()}"]


def test_an_outage_is_a_warning_and_its_end_is_not() -> None:
    class Warnings(FakeTelemetry):
        def warning(self, fact: str, /, **ids: object) -> None:
            warned.append(fact)

    warned: list[str] = []
    outages = produce_outages(Warnings())
    outages.record_outage(DOWN)
    outages.record_success("a")
    outages.record_failure("a", DENIED, 0.0)
    outages.record_success("a")
    assert warned == ["broker_unreachable", "topic_unwritable"]


def test_an_idle_producer_forgets_an_outage() -> None:
    outages = produce_outages(FakeTelemetry())
    outages.record_failure("session-events", DENIED, 100.0)
    assert outages.problems(105.0, is_idle=True)
    assert outages.problems(115.0, is_idle=False)
    assert outages.problems(115.0, is_idle=True) == []
