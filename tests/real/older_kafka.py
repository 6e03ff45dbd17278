"""Run a Kafka whose groups have the classic protocol alone: Kafka 3, and Kafka 4 before the end of an upgrade."""

from collections.abc import Sequence

from real.kafka import Kafka


class _Kafka3(Kafka):
    def upgrade(self) -> None:
        """Start the newest release on the same data."""
        newest = Kafka(started=False)
        self._class_path, self._archive = newest._class_path, newest._archive
        newest.remove()
        self.start()

    def _properties(self, port: int, controller: int) -> str:
        # Its controllers are a fixed list.
        found = super()._properties(port, controller)
        return found.replace("controller.quorum.bootstrap.servers=", "controller.quorum.voters=1@")

    def _identity(self) -> Sequence[str]:
        return super()._identity()[:2]


class Kafka37(_Kafka3):
    release = "3.7"


class Kafka39(_Kafka3):
    release = "3.9"


OLDER = {kafka.release: kafka for kafka in (Kafka37, Kafka39)}


class UnfinishedKafka(Kafka):
    """The newest release in a cluster that is not finally upgraded."""

    _format_options = ("--feature", "group.version=0")
