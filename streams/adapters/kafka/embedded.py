"""Run a broker inside this process, for demos and tests: librdkafka's mock cluster. It stores nothing on disk."""

import ctypes
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import files
from types import TracebackType
from typing import Self

from streams.core.errors import Misconfigured
from streams.topics import Topic

_PRODUCER_TYPE = 0
_ERROR_TEXT_BYTES = 512
_HEARTBEAT_MS = 500
# A killed member keeps its partitions for this long.
_SESSION_MS = 6_000
_COMMAND_INTERVAL_SECONDS = 0.002


class EmbeddedBroker:
    """A broker that runs from its creation until `close`. Every topic has its declared partitions."""

    brokers = 1

    def __init__(self, topics: Iterable[Topic] = (), prefix: str = "") -> None:
        self._library = _load_library()
        error = ctypes.create_string_buffer(_ERROR_TEXT_BYTES)
        conf = self._library.rd_kafka_conf_new()
        self._library.rd_kafka_conf_set(conf, b"log_level", b"2", error, _ERROR_TEXT_BYTES)
        with _block_signals():
            self._client = self._library.rd_kafka_new(_PRODUCER_TYPE, conf, error, _ERROR_TEXT_BYTES)
            if not self._client:
                raise Misconfigured(f"the embedded broker did not start: {error.value.decode(errors='replace')}")
            self._cluster = self._library.rd_kafka_mock_cluster_new(self._client, self.brokers)
        # By default the first rebalance waits three seconds for more members.
        self._library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 0)
        # With the default of three seconds, a rebalance takes too long.
        self._library.rd_kafka_mock_set_group_consumer_heartbeat_interval_ms(self._cluster, _HEARTBEAT_MS)
        self._library.rd_kafka_mock_set_group_consumer_session_timeout_ms(self._cluster, _SESSION_MS)
        for topic in topics:
            self.create(prefix + topic.name, topic.partitions)

    @property
    def bootstrap(self) -> str:
        """`host:port`, on loopback."""
        servers: bytes = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster)
        return servers.decode()

    def create(self, topic: str, partitions: int) -> None:
        """Create a topic. A second call changes nothing."""
        # The mock cluster handles a command that immediately follows another one only a second later.
        time.sleep(_COMMAND_INTERVAL_SECONDS)
        self._library.rd_kafka_mock_topic_create(self._cluster, topic.encode(), partitions, 1)

    def close(self) -> None:
        """Stop the broker. Its records are lost."""
        if self._client:
            self._library.rd_kafka_mock_cluster_destroy(self._cluster)
            self._library.rd_kafka_destroy(self._client)
            self._client = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def _block_signals() -> Iterator[None]:
    """Block signals in threads that start here: the broker's thread logs an error for an interrupted call."""
    previous_mask = signal.pthread_sigmask(
        signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}
    )
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous_mask)


def _load_library() -> ctypes.CDLL:
    """The librdkafka in the confluent-kafka wheel."""
    libraries = [file for file in files("confluent-kafka") or () if "librdkafka" in file.name and ".so" in file.name]
    libraries += [
        file for file in files("confluent-kafka") or () if file.name.endswith(".dylib") and "rdkafka" in file.name
    ]
    if not libraries:
        raise Misconfigured(
            "this build of confluent-kafka contains no librdkafka, which the embedded broker needs: "
            "set KAFKA_BOOTSTRAP_SERVERS"
        )
    lib = ctypes.CDLL(str(libraries[0].locate()))
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    lib.rd_kafka_conf_new.restype = pointer
    lib.rd_kafka_conf_set.argtypes = [pointer, text, text, text, ctypes.c_size_t]
    lib.rd_kafka_new.restype = pointer
    lib.rd_kafka_new.argtypes = [number, pointer, text, ctypes.c_size_t]
    lib.rd_kafka_destroy.argtypes = [pointer]
    lib.rd_kafka_mock_cluster_new.restype = pointer
    lib.rd_kafka_mock_cluster_new.argtypes = [pointer, number]
    lib.rd_kafka_mock_cluster_destroy.argtypes = [pointer]
    lib.rd_kafka_mock_cluster_bootstraps.restype = text
    lib.rd_kafka_mock_cluster_bootstraps.argtypes = [pointer]
    lib.rd_kafka_mock_topic_create.argtypes = [pointer, text, number, number]
    lib.rd_kafka_mock_group_initial_rebalance_delay_ms.argtypes = [pointer, ctypes.c_int32]
    lib.rd_kafka_mock_set_group_consumer_heartbeat_interval_ms.argtypes = [pointer, number]
    lib.rd_kafka_mock_set_group_consumer_session_timeout_ms.argtypes = [pointer, number]
    return lib
