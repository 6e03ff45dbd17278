"""Brokers that die, and a topic that is made anew."""

import time
from itertools import cycle, islice

from confluent_kafka.admin import AdminClient

from chaos.scenario import ScenarioRun
from e2e.system import STAGES, until
from real.kafka import Kafka
from real.kafka_cluster import KafkaCluster


def kill(act: ScenarioRun, times: int) -> None:
    """kill -9 of the only one, and back on the same data."""
    kafka = act.world.kafka
    assert isinstance(kafka, Kafka)
    for _ in range(times):
        before = {stage: act.crew.progress(stage) for stage in ("deliver", "record")}
        at = time.time()
        kafka.kill()
        act.kills += 1
        until(lambda: not act.world.system.is_ready("deliver"), 30, "deliver says that it cannot work")
        kafka.start()
        for stage, done in before.items():
            act.await_progress(stage, done, at)


def kill_leader(act: ScenarioRun, times: int) -> None:
    """Whoever leads `subscriptions`, or the first of `deliveries`, of three with two copies in sync at least."""
    cluster = act.world.kafka
    assert isinstance(cluster, KafkaCluster)
    for topic in islice(cycle(("subscriptions", "deliveries")), times):
        before = {stage: act.crew.progress(stage) for stage in ("fan-out", "deliver", "record")}
        leader = leader_of(act, topic)
        at = time.time()
        cluster.kill_node(leader)
        act.kills += 1
        for stage, done in before.items():
            act.await_progress(stage, done, at)
        cluster.start_node(leader)
        until(lambda: all_in_sync(act), 60, "every copy in sync again")


def make_subscriptions_anew(act: ScenarioRun) -> None:
    """Deleted and created empty: a stage that goes on would match nothing and lose every event in silence."""
    topic = f"{act.world.prefix}subscriptions"
    # A restart raises the epochs of the leaders: to consumers a new topic, which begins at the first, seems old.
    kill(act, times=1)
    before = {stage: act.crew.progress(stage) for stage in ("fan-out", "deliver", "record")}
    admin = AdminClient({"bootstrap.servers": act.world.kafka.bootstrap})
    at = time.time()
    admin.delete_topics([topic])[topic].result(30)
    until(lambda: topic not in admin.list_topics(timeout=10).topics, 30, "the topic gone")
    act.world.system.run("topics", "apply")
    act.crew.wait_until_ready()
    for stage in STAGES:
        if stage != "publish":
            act.await_progress(stage, before[stage], at)


def leader_of(act: ScenarioRun, topic: str) -> int:
    admin = AdminClient({"bootstrap.servers": act.world.kafka.bootstrap})
    found = admin.list_topics(f"{act.world.prefix}{topic}", timeout=10)
    return int(found.topics[f"{act.world.prefix}{topic}"].partitions[0].leader)


def all_in_sync(act: ScenarioRun) -> bool:
    admin = AdminClient({"bootstrap.servers": act.world.kafka.bootstrap})
    topics = admin.list_topics(timeout=10).topics.values()
    return all(len(p.isrs) == len(p.replicas) for topic in topics for p in topic.partitions.values())
