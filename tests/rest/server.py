"""The API on a real socket, in a thread with its own event loop."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import uvicorn
import uvloop

from builders import attempt
from rest.api_fixture import ApiFixture, open_api
from streams.adapters.avro.codec import AvroCodec
from streams.adapters.http_server.connection_limits import ConnectionLimits, ConnectionObserver
from streams.adapters.http_server.server import server_config
from streams.core.deliveries.delivery import Delivery, Trigger
from streams.topics import TEST_DELIVERIES

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Server:
    """Serves until `stop`; records test deliveries as delivered at once."""

    def __init__(
        self,
        database_url: str,
        limits: ConnectionLimits | None = None,
        loop_factory: LoopFactory = uvloop.new_event_loop,
    ) -> None:
        self.url = ""
        self.port = 0
        self.closed: list[str] = []
        self._loop_factory = loop_factory
        self._limits = limits or ConnectionLimits()
        self.api: ApiFixture
        self._started = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(database_url,), daemon=True)
        self._thread.start()
        if not self._started.wait(60) or self._error:
            raise RuntimeError("the server did not start") from self._error

    @property
    def open_connections(self) -> int:
        return len(self._server.server_state.connections)

    @property
    def most_unsent_bytes(self) -> int:
        """What the client that reads least has not read, and this process keeps for it."""
        connections = [*self._server.server_state.connections]
        return max(connection.transport.get_write_buffer_size() for connection in connections)

    @contextlib.contextmanager
    def measured_turns(self) -> Iterator[list[float]]:
        """The longest turn of the event loop meanwhile, in CPU seconds of its thread: a busy machine adds nothing."""
        longest = [0.0]

        async def measure() -> None:
            while True:
                began = time.thread_time()
                await asyncio.sleep(0)
                longest[0] = max(longest[0], time.thread_time() - began)

        measuring = asyncio.run_coroutine_threadsafe(measure(), self._loop)
        try:
            yield longest
        finally:
            measuring.cancel()

    def call(self, function: Callable[[], object]) -> None:
        """Call a function in the server's thread."""
        self._loop.call_soon_threadsafe(function)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(30)

    def _run(self, database_url: str) -> None:
        try:
            with asyncio.Runner(loop_factory=self._loop_factory) as runner:
                runner.run(self._serve(database_url))
        except BaseException as error:
            self._error = error
        finally:
            self._started.set()

    async def _serve(self, database_url: str) -> None:
        self._loop = asyncio.get_running_loop()
        async with open_api(database_url) as api:
            self.api = api
            api.kafka.appended.append(self._deliver)
            config = server_config(api.app, self._limits, ConnectionObserver(self.closed.append), port=0)
            self._server = _Server(config)
            serving = asyncio.create_task(self._server.serve())
            while not self._server.started:
                await asyncio.sleep(0.01)
            self.port = self._server.servers[0].sockets[0].getsockname()[1]
            self.url = f"http://127.0.0.1:{self.port}"
            self._started.set()
            await serving

    def _deliver(self) -> None:
        self._delivering = asyncio.ensure_future(self._deliver_tests())

    async def _deliver_tests(self) -> None:
        kafka, codec = self.api.kafka, AvroCodec()
        for record in kafka.topic(TEST_DELIVERIES)[-1:]:
            waiting = codec.decode(record.value or b"")
            assert isinstance(waiting, Delivery)
            fields = {"account_id": waiting.account_id, "event_id": waiting.event_id, "webhook_id": waiting.webhook_id}
            await self.api.record(waiting, attempt(**fields, trigger=Trigger.TEST))
