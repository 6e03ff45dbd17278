"""The servers for scenarios, and a system that scenarios share until one fails."""

from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType

from chaos.scenario import CLASSIC, KAFKA_3_7, KAFKA_3_9, SHARED, THREE, Row, Scenario, perform
from chaos.system import FastSessionKafka, LoadedSystem
from real.kafka import Kafka
from real.kafka_cluster import KafkaCluster
from real.older_kafka import Kafka37, Kafka39
from real.postgres import Postgres

# Brokers that a scenario has for itself, and the settings of their clients. Members of the classic protocol have a name
# where they are killed: without one, the others wait for the end of its session.
OWN: dict[str, tuple[Callable[[], Kafka | KafkaCluster], dict[str, str]]] = {
    THREE: (KafkaCluster, {}),
    CLASSIC: (
        Kafka,
        {"SCORM_WEBHOOKS_KAFKA_GROUP_PROTOCOL": "classic", "SCORM_WEBHOOKS_INSTANCE_ID": "machine-1"},
    ),
    KAFKA_3_7: (Kafka37, {}),
    KAFKA_3_9: (Kafka39, {"SCORM_WEBHOOKS_INSTANCE_ID": "machine-1"}),
}


class Servers:
    """After a failure the system is kept for inspection, and the next scenario gets a new one."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._stack = ExitStack()
        self._loaded: LoadedSystem | None = None
        self._systems = 0

    def __enter__(self) -> "Servers":
        self._postgres = Postgres()
        self._stack.callback(self._postgres.remove)
        self._kafka = FastSessionKafka()
        self._stack.callback(self._kafka.remove)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loaded:
            self._loaded.close()
        self._stack.close()

    def play(self, scenario: Scenario) -> Row:
        return self._play_shared(scenario) if scenario.on == SHARED else self._play_apart(scenario)

    def _play_shared(self, scenario: Scenario) -> Row:
        self._systems += self._loaded is None
        loaded = self._loaded or LoadedSystem(self._kafka, self._postgres, f"w{self._systems}.")
        self._loaded = None
        row = self._perform(loaded, scenario)
        self._loaded = loaded if row.is_good else None
        return row

    def _play_apart(self, scenario: Scenario) -> Row:
        make, settings = OWN[scenario.on]
        kafka = make()
        try:
            loaded = LoadedSystem(kafka, self._postgres, "", **settings)
            row = self._perform(loaded, scenario)
            if row.is_good:
                loaded.close()
            return row
        finally:
            kafka.remove()

    def _perform(self, loaded: LoadedSystem, scenario: Scenario) -> Row:
        row = None
        try:
            row = perform(loaded, scenario, self._seed)
        finally:
            if not (row and row.is_good):
                print(f"{scenario.name}, seed {self._seed}: the logs and notes are in {loaded.folder}", flush=True)
                loaded.close(keep_folder=True)
        return row
