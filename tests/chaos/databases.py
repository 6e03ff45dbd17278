"""The database goes away, or comes back as it was some time ago."""

import subprocess
import time
from pathlib import Path

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

import parts
from chaos.scenario import ScenarioRun
from e2e.system import until


def stop(act: ScenarioRun, seconds: float) -> None:
    """Events are delivered all the same, and recorded afterwards."""
    act.world.postgres.stop()
    began_at = time.time()
    until(lambda: not act.world.system.is_ready("record"), 30, "record says that it cannot work")
    sent, recorded = act.crew.progress("deliver"), act.crew.progress("record")
    until(lambda: act.crew.progress("deliver") > sent + 100, 30, "deliveries without a database")
    act.last(max(0, began_at + seconds - time.time()))
    act.world.postgres.start()
    act.await_progress("record", recorded, time.time())


def restore(act: ScenarioRun) -> None:
    """An older dump: what was recorded since is read again, and the topic is made what the database says."""
    act.customer("known")
    young = act.world.account()
    dump = act.world.folder / f"{act.name}.dump"
    _run("pg_dump", "-Fc", "-f", dump, act.world.database_url)
    act.world.webhook(young, f"{act.name}-forgotten")
    recorded = act.crew.progress("record")
    until(lambda: act.crew.progress("record") > recorded + 100, 60, "work that the dump does not know")

    began_at = time.time()
    for stage in ("publish", "record"):
        assert act.crew.stop(stage) == 0
    _run("pg_restore", "--clean", "--if-exists", "-d", act.world.database_url, dump)
    read_again(act)
    said = act.world.system.run("publish", "--reconcile", "--yes")
    assert ", 1 deleted" in said, said
    act.crew.start("record", "publish")
    act.await_progress("record", 0, began_at)


def restore_with_deletions(act: ScenarioRun) -> None:
    """A webhook that was deleted after the dump is back, with events, though the topic's tombstone is newer."""
    account, run = act.world.account(), act.world.system.run
    webhook = act.world.webhook(account, f"{act.name}-back")
    dump = act.world.folder / f"{act.name}.dump"
    _run("pg_dump", "-Fc", "-f", dump, act.world.database_url)
    assert run("webhooks", "delete", webhook, "--json")["propagated"]
    recorded, began_at = act.crew.progress("record"), time.time()
    until(lambda: act.crew.progress("record") > recorded + 100, 60, "work after the deletion")
    for stage in ("publish", "record"):
        assert act.crew.stop(stage) == 0
    _run("pg_restore", "--clean", "--if-exists", "-d", act.world.database_url, dump)
    read_again(act)
    run("publish", "--reconcile", "--yes")
    act.crew.start("record", "publish")
    act.await_progress("record", 0, began_at)
    act.crew.wait_until_ready()
    act.add(account)
    until(lambda: act.world.system.states(webhook).get("delivered", 0) > 0, 60, "events of the webhook that is back")


def read_again(act: ScenarioRun) -> None:
    """What `kafka-consumer-groups --reset-offsets --to-earliest` does for the group of record."""
    admin = AdminClient({"bootstrap.servers": act.world.kafka.bootstrap})
    group = f"{act.world.prefix}record"
    found = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group].result(30)
    begin = [TopicPartition(tp.topic, tp.partition, 0) for tp in found.topic_partitions or []]

    def is_done() -> bool:
        """Refused as long as the group keeps the place of a member that has a static name."""
        altered = admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, begin)])[group]
        try:
            return not any(tp.error for tp in altered.result(30).topic_partitions or [])
        except KafkaException:
            return False

    until(is_done, 30, "the group of record is back at the beginning")


def _run(program: str, *arguments: str | Path) -> None:
    folder = parts.postgres()
    assert folder
    done = subprocess.run([folder / program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
