"""Restarts each stage when it ends, and measures its progress."""

import signal
import threading
import time
from collections import Counter
from functools import partial

from confluent_kafka import Consumer, KafkaException, TopicPartition

from e2e.system import STAGES, System, until

WATCH_SECONDS = 0.1
# The topics that each stage commits; `publish` is measured by its records.
READS = {
    "fan-out": ("session-events",),
    "deliver": ("deliveries", "deliveries.bulk"),
    "record": ("deliveries", "deliveries.bulk", "delivery-attempts"),
}
# What runs in each scenario; nobody measures the progress of `maintain`.
WORLD = (*STAGES, "maintain")
START_SECONDS = 90.0


class StageSupervisor:
    """Runs each stage under a static member name, as a StatefulSet does; `background` without one."""

    def __init__(self, system: System, bootstrap: str, prefix: str) -> None:
        self.system = system
        self.exits: Counter[tuple[str, int]] = Counter()
        self._prefix = prefix
        self._bootstrap = bootstrap
        self._env = {stage: {"SCORM_WEBHOOKS_INSTANCE_ID": f"{stage}-0"} for stage in WORLD}
        self._partitions = dict.fromkeys(("session-events", *READS["record"]), 4)
        self._consumers = {
            stage: Consumer({"bootstrap.servers": bootstrap, "group.id": f"{prefix}{stage}", "log_level": 2})
            for stage in STAGES
        }
        self._running: set[str] = set()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        threading.Thread(target=self._restart_ended, daemon=True).start()

    def start(self, *stages: str, **env: str) -> None:
        """Launch stages (default: all) with more settings, and restart them when they end."""
        with self._lock:
            for stage in stages or WORLD:
                self.system.launch(stage, **self._env.get(stage, {}), **env)
                self._running.add(stage)

    def wait_until_ready(self) -> None:
        for stage in WORLD:
            until(partial(self.system.is_ready, stage), START_SECONDS, f"{stage} ready, see {self.system.folder}")

    def count_partitions(self, events: int, deliveries: int) -> None:
        """The topics have more partitions now."""
        self._partitions = {"session-events": events, **dict.fromkeys(READS["record"], deliveries)}

    def kill(self, stage: str) -> float:
        """kill -9; the stage restarts by itself. Returns the time of the kill."""
        with self._lock:
            self.system.kill(stage)
            return time.time()

    def stop(self, stage: str) -> int:
        """SIGTERM without a restart; returns the exit code."""
        with self._lock:
            self._running.discard(stage)
            return self.system.stop(stage)

    def freeze(self, stage: str) -> float:
        """SIGSTOP; returns its time."""
        self.system.send(stage, signal.SIGSTOP)
        return time.time()

    def resume(self, stage: str) -> None:
        self.system.send(stage, signal.SIGCONT)

    def progress(self, stage: str, first: int = 0) -> int:
        """Number of records committed, from partition `first` on, or, for `publish`, written; 0 without a broker."""
        consumer = self._consumers[stage]
        try:
            if stage == "publish":
                return consumer.get_watermark_offsets(TopicPartition(f"{self._prefix}subscriptions", 0), timeout=2)[1]
            partitions = [
                TopicPartition(self._prefix + topic, number)
                for topic in READS[stage]
                for number in range(first, self._partitions[topic])
            ]
            return sum(max(0, found.offset) for found in consumer.committed(partitions, timeout=2))
        except KafkaException:
            return 0

    def close(self) -> None:
        self._closing.set()
        with self._lock:
            self._running.clear()
        self.system.close()
        for consumer in self._consumers.values():
            consumer.close()

    def _restart_ended(self) -> None:
        while not self._closing.wait(WATCH_SECONDS):
            with self._lock:
                for stage in self._running:
                    code = self.system.exit_code(stage)
                    if code is not None:
                        self.exits[stage, code] += 1
                        self.system.launch(stage, **self._env.get(stage, {}))
