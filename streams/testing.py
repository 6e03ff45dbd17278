"""For the tests of a platform that publishes events: a producer without Kafka."""

from collections.abc import Mapping
from concurrent.futures import Future
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from ulid import ULID

from streams.adapters.avro.codec import AvroCodec
from streams.core.errors import ScormWebhooksError, Unavailable
from streams.core.events.event import Event, check_event, parse_event
from streams.producer import Ack


class FakeProducer:
    """Takes the place of `EventProducer`: checks each event in the same way, and keeps it in `published`.

    With `failure` every future fails with that error, as during an outage; set it to None, and events are acknowledged.
    """

    def __init__(
        self,
        *,
        topic: str = "session-events",
        failure: ScormWebhooksError | None = None,
    ) -> None:
        self._codec = AvroCodec()
        self.topic = topic
        self.failure = failure
        self.published: list[Event] = []
        self.is_closed = False

    def publish(self, event: Event | Mapping[str, Any]) -> Future[Ack]:
        """Raises `Invalid`, and `Unavailable` once it is closed."""
        if self.is_closed:
            raise Unavailable("this producer is closed")
        now = datetime.now(UTC)
        if isinstance(event, Event):
            check_event(event, now)
        else:
            event = parse_event(event, default_id=f"evt_{ULID()}", now=now)
        self._codec.encode(event)
        future: Future[Ack] = Future()
        if self.failure is not None:
            future.set_exception(self.failure)
        else:
            future.set_result(Ack(event.id, self.topic, 0, len(self.published)))
            self.published.append(event)
        return future

    async def publish_async(self, event: Event | Mapping[str, Any]) -> Ack:
        """Raises what `publish` raises, and `failure`."""
        return self.publish(event).result()

    def flush(self, timeout_seconds: float = 10) -> bool:
        return self.failure is None

    def close(self, timeout_seconds: float = 10) -> bool:
        self.is_closed = True
        return self.failure is None

    def __enter__(self) -> "FakeProducer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
