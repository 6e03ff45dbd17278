"""The stages, each started again when it ends, as a supervisor would; and how far each of them has come."""

import signal
import threading
import time
from collections import Counter
from functools import partial

from confluent_kafka import Consumer, KafkaException, TopicPartition

from e2e.system import STAGES, System, until

WATCH_SECONDS = 0.1
# What each stage commits; `publish` is known by what it appends.
READS = {"fan-out": ("session-events",), "deliver": ("deliveries",), "record": ("deliveries", "delivery-attempts")}
START_SECONDS = 90.0


class StageSupervisor:
    """Static names bring a killed member back at once, as they do in a StatefulSet."""

    def __init__(self, system: System, bootstrap: str, prefix: str) -> None:
        self.system = system
        self.exits: Counter[tuple[str, int]] = Counter()
        self._prefix = prefix
        self._bootstrap = bootstrap
        self._env = {stage: {"SCORM_WEBHOOKS_INSTANCE_ID": f"{stage}-0"} for stage in STAGES}
        self._partitions = {"session-events": 4, "deliveries": 4, "delivery-attempts": 4}
        self._askers = {
            stage: Consumer({"bootstrap.servers": bootstrap, "group.id": f"{prefix}{stage}", "log_level": 2})
            for stage in STAGES
        }
        self._kept: set[str] = set()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        threading.Thread(target=self._keep, daemon=True).start()

    def start(self, *stages: str, **env: str) -> None:
        """Launch stages (all, unless named) with more settings, and start them again whenever they end."""
        with self._lock:
            for stage in stages or STAGES:
                self.system.launch(stage, **self._env[stage], **env)
                self._kept.add(stage)

    def wait_until_ready(self) -> None:
        for stage in STAGES:
            until(partial(self.system.is_ready, stage), START_SECONDS, f"{stage} ready, see {self.system.folder}")

    def kill(self, stage: str) -> float:
        """kill -9; it starts again by itself. When that was."""
        with self._lock:
            self.system.kill(stage)
            return time.time()

    def stop(self, stage: str) -> int:
        """SIGTERM, and nobody starts it again; the exit code."""
        with self._lock:
            self._kept.discard(stage)
            return self.system.stop(stage)

    def freeze(self, stage: str) -> float:
        """SIGSTOP; when that was."""
        self.system.send(stage, signal.SIGSTOP)
        return time.time()

    def thaw(self, stage: str) -> None:
        self.system.send(stage, signal.SIGCONT)

    def progress(self, stage: str) -> int:
        """What the stage has committed or, for `publish`, appended; 0 while the broker does not say."""
        asker = self._askers[stage]
        try:
            if stage == "publish":
                return asker.get_watermark_offsets(TopicPartition(f"{self._prefix}subscriptions", 0), timeout=2)[1]
            partitions = [
                TopicPartition(self._prefix + topic, number)
                for topic in READS[stage]
                for number in range(self._partitions[topic])
            ]
            return sum(max(0, found.offset) for found in asker.committed(partitions, timeout=2))
        except KafkaException:
            return 0

    def close(self) -> None:
        self._closing.set()
        with self._lock:
            self._kept.clear()
        self.system.close()
        for asker in self._askers.values():
            asker.close()

    def _keep(self) -> None:
        while not self._closing.wait(WATCH_SECONDS):
            with self._lock:
                for stage in self._kept:
                    code = self.system.exit_code(stage)
                    if code is not None:
                        self.exits[stage, code] += 1
                        self.system.launch(stage, **self._env[stage])
