"""Brokers that are killed, and a topic that is recreated."""

import time
from itertools import cycle, islice

from confluent_kafka.admin import AdminClient

from chaos.scenario import ScenarioRun
from e2e.system import STAGES, until
from real.kafka import Kafka
from real.kafka_cluster import KafkaCluster


def kill(scenario_run: ScenarioRun, times: int) -> None:
    """kill -9 of the only broker, and a start on the same data."""
    kafka = scenario_run.loaded.kafka
    assert isinstance(kafka, Kafka)
    for _ in range(times):
        before = {stage: scenario_run.supervisor.progress(stage) for stage in ("deliver", "record")}
        at = time.time()
        kafka.kill()
        scenario_run.kills += 1
        until(lambda: not scenario_run.loaded.system.is_ready("deliver"), 30, "deliver is not ready")
        kafka.start()
        for stage, done in before.items():
            scenario_run.await_progress(stage, done, at)


def kill_leader(scenario_run: ScenarioRun, times: int) -> None:
    """kill -9 of the leader of `subscriptions` or `deliveries`, of three brokers with at least two in-sync replicas."""
    cluster = scenario_run.loaded.kafka
    assert isinstance(cluster, KafkaCluster)
    for topic in islice(cycle(("subscriptions", "deliveries")), times):
        before = {stage: scenario_run.supervisor.progress(stage) for stage in ("fan-out", "deliver", "record")}
        leader = leader_of(scenario_run, topic)
        at = time.time()
        cluster.kill_node(leader)
        scenario_run.kills += 1
        for stage, done in before.items():
            scenario_run.await_progress(stage, done, at)
        cluster.start_node(leader)
        until(lambda: all_in_sync(scenario_run), 60, "every replica in sync again")


def recreate_subscriptions(scenario_run: ScenarioRun) -> None:
    """Delete and create `subscriptions`: a stage that continued with the empty topic would lose every event."""
    topic = f"{scenario_run.loaded.prefix}subscriptions"
    # A restart raises leader epochs; to consumers the new topic, at its first epoch, seems stale.
    kill(scenario_run, times=1)
    before = {stage: scenario_run.supervisor.progress(stage) for stage in ("fan-out", "deliver", "record")}
    admin = AdminClient({"bootstrap.servers": scenario_run.loaded.kafka.bootstrap})
    at = time.time()
    admin.delete_topics([topic])[topic].result(30)
    until(lambda: topic not in admin.list_topics(timeout=10).topics, 30, "the topic deleted")
    scenario_run.loaded.system.run("topics", "apply")
    scenario_run.supervisor.wait_until_ready()
    for stage in STAGES:
        if stage != "publish":
            scenario_run.await_progress(stage, before[stage], at)


def leader_of(scenario_run: ScenarioRun, topic: str) -> int:
    admin = AdminClient({"bootstrap.servers": scenario_run.loaded.kafka.bootstrap})
    found = admin.list_topics(f"{scenario_run.loaded.prefix}{topic}", timeout=10)
    return int(found.topics[f"{scenario_run.loaded.prefix}{topic}"].partitions[0].leader)


def all_in_sync(scenario_run: ScenarioRun) -> bool:
    admin = AdminClient({"bootstrap.servers": scenario_run.loaded.kafka.bootstrap})
    topics = admin.list_topics(timeout=10).topics.values()
    return all(len(p.isrs) == len(p.replicas) for topic in topics for p in topic.partitions.values())
