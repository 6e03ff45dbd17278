"""Run Apache Kafka: one broker in KRaft combined mode, on the Java of this machine."""

import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import uuid4

from aiokafka.partitioner import murmur2
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

import parts
from real.process import Process, free_ports

# The C1 compiler and an archive of loaded classes, which this file writes as a program, bring the start to a second.
LIGHT: tuple[str, ...] = (
    "-Xms64m",
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xlog:cds=off",
    "-Xlog:cds+dynamic=off",
)

PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={folder}/data
auto.create.topics.enable=false
default.replication.factor=1
offsets.topic.num.partitions=5
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=5
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
log.cleaner.dedupe.buffer.size=8388608
log.cleaner.backoff.ms=500
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
group.consumer.min.session.timeout.ms=1000
group.consumer.session.timeout.ms=6000
group.consumer.min.heartbeat.interval.ms=500
group.consumer.heartbeat.interval.ms=1000
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
controlled.shutdown.max.retries=1
"""


class Kafka:
    """Runs from its creation. `kill` and `start` keep its data and port."""

    java_options: Sequence[str] = LIGHT
    release = parts.NEWEST_KAFKA
    _format_options: Sequence[str] = ()

    def __init__(self, *, started: bool = True) -> None:
        java, jars = parts.java(), parts.kafka(self.release)
        assert java, "tests/parts.py brings Java"
        assert jars, "tests/parts.py brings Kafka"
        self._java: Path = java
        # In a fixed order, because an archive of classes is valid for one class path only.
        self._class_path = ":".join(str(jar) for jar in sorted(jars.glob("*.jar")))
        self._archive = jars.parent / f"classes-java{parts.java_version(java)}.jsa"
        self._folder = Path(tempfile.mkdtemp(prefix="kafka-"))
        self._process: Process | None = None
        port, controller = self._ports()
        self.bootstrap = f"127.0.0.1:{port}"
        self._config = self._folder / "server.properties"
        self._config.write_text(self._properties(port, controller))
        self._format()
        if started:
            self.start()

    def start(self) -> None:
        self.launch()
        self.wait_until(lambda: responses(self.bootstrap))

    def launch(self) -> None:
        """Start it without waiting until it answers."""
        assert self._process is None, "it runs"
        command = [*self._command(), "kafka.Kafka", self._config]
        self._process = Process(command, log=self._folder / "kafka.log")

    def wait_until(self, ready: Callable[[], bool]) -> None:
        assert self._process, "it does not run"
        self._process.wait_until(ready)

    @property
    def pid(self) -> int:
        assert self._process, "it does not run"
        return self._process.pid

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def remove(self) -> None:
        """End it and delete its data."""
        if self._process:
            self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _ports(self) -> list[int]:
        """The listeners of the broker and the controller."""
        return free_ports(2)

    def _properties(self, port: int, controller: int) -> str:
        return PROPERTIES.format(port=port, controller=controller, folder=self._folder)

    def _end(self, with_signal: signal.Signals) -> None:
        if self._process:
            self._process.end(with_signal)
        self._process = None

    def archive_classes(self) -> None:
        """Write the archive, if there is none: by a broker that starts and stops."""
        if not self._archive.exists():
            written = self._archive.with_suffix(f".{uuid4().hex}")
            self.java_options = (*self.java_options, f"-XX:ArchiveClassesAtExit={written}")
            self.start()
            self.stop()
            written.replace(self._archive)

    def _command(self) -> list[str | Path]:
        log4j = f"-Dlog4j2.configurationFile={Path(__file__).with_name('log4j2.properties')}"
        shared = [f"-XX:SharedArchiveFile={self._archive}"] if self._archive.exists() else []
        return [self._java, *self.java_options, *shared, log4j, "-cp", self._class_path]

    def _identity(self) -> Sequence[str]:
        """The settings of its cluster."""
        return ["-t", uuid4().hex[:22], "--standalone"]

    def _format(self) -> None:
        command = [*self._command(), "kafka.tools.StorageTool", "format", "-c", self._config]
        command += [*self._identity(), *self._format_options]
        subprocess.run(command, check=True, capture_output=True)


def responses(bootstrap: str, brokers: int = 1) -> bool:
    """Whether at least this many brokers are up."""
    client = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    try:
        return len(client.list_topics(timeout=0.5).brokers) >= brokers
    except KafkaException:
        return False


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key, as Java's clients choose it."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)


if __name__ == "__main__" and parts.java() and parts.kafka():
    broker = Kafka(started=False)
    try:
        broker.archive_classes()
    finally:
        broker.remove()
