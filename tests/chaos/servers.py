"""The servers that scenarios are played on, and the world that they share as long as it is sound."""

from contextlib import ExitStack
from types import TracebackType

from chaos.scenario import Row, Scenario, perform
from chaos.system import HastyKafka, LoadedSystem
from real.kafka_cluster import KafkaCluster
from real.postgres import Postgres


class Servers:
    """A world in which something went wrong is left for study, and the next scenario gets a new one."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._stack = ExitStack()
        self._world: LoadedSystem | None = None
        self._worlds = 0

    def __enter__(self) -> "Servers":
        self._postgres = Postgres()
        self._stack.callback(self._postgres.remove)
        self._kafka = HastyKafka()
        self._stack.callback(self._kafka.remove)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._world:
            self._world.close()
        self._stack.close()

    def play(self, scenario: Scenario) -> Row:
        return self._play_apart(scenario) if scenario.apart else self._play_on(scenario)

    def _play_on(self, scenario: Scenario) -> Row:
        self._worlds += self._world is None
        loaded = self._world or LoadedSystem(self._kafka, self._postgres, f"w{self._worlds}.")
        self._world = None
        row = self._perform(loaded, scenario)
        self._world = loaded if row.is_good else None
        return row

    def _play_apart(self, scenario: Scenario) -> Row:
        cluster = KafkaCluster()
        try:
            loaded = LoadedSystem(cluster, self._postgres, "")
            row = self._perform(loaded, scenario)
            if row.is_good:
                loaded.close()
            return row
        finally:
            cluster.remove()

    def _perform(self, loaded: LoadedSystem, scenario: Scenario) -> Row:
        row = None
        try:
            row = perform(loaded, scenario, self._seed)
        finally:
            if not (row and row.is_good):
                print(f"{scenario.name}, seed {self._seed}: the logs and notes are in {loaded.folder}", flush=True)
                loaded.close(keep_folder=True)
        return row
