"""An embedded broker that refuses the next requests of a kind."""

import ctypes
from collections.abc import Iterable, Sequence

from streams.adapters.kafka.embedded import EmbeddedBroker
from streams.topics import Topic

PRODUCE_REQUEST, OFFSET_COMMIT_REQUEST, OFFSET_FETCH_REQUEST, INIT_PRODUCER_ID_REQUEST = 0, 8, 9, 22


class RefusingBroker(EmbeddedBroker):
    """`refuse` gives the next requests these errors, in turn."""

    def __init__(self, topics: Iterable[Topic]) -> None:
        super().__init__(topics)
        self._library.rd_kafka_mock_push_request_errors_array.argtypes = [
            ctypes.c_void_p,
            ctypes.c_int16,
            ctypes.c_size_t,
            ctypes.POINTER(ctypes.c_int),
        ]

    def refuse(self, request: int, errors: Sequence[int]) -> None:
        array = (ctypes.c_int * len(errors))(*errors)
        self._library.rd_kafka_mock_push_request_errors_array(self._cluster, request, len(errors), array)
