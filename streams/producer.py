"""The producer library: publishes events to Kafka without blocking the caller."""

import asyncio
import atexit
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from streams.adapters.avro.codec import AvroCodec
from streams.adapters.avro.confluent import ConfluentCodec, ConfluentRegistry
from streams.adapters.kafka.connection.config import OWN_PROPERTIES, producer_config
from streams.adapters.kafka.connection.connection_errors import ConnectionErrors
from streams.adapters.kafka.connection.msk import msk_properties
from streams.adapters.kafka.connection.security import token_source, with_token_source
from streams.adapters.kafka.consuming.messages import is_stored
from streams.adapters.kafka.producing.produce_errors import fatal_error_of
from streams.core.errors import FieldError, Invalid, Misconfigured, ScormWebhooksError, Unavailable
from streams.core.events.event import Event, check_event, parse_event, partition_key, with_trace_parent
from streams.core.events.trace import format_trace_parent
from streams.ids import new_id
from streams.ports.kafka import Codec

__all__ = [
    "Ack",
    "Codec",
    "Event",
    "EventProducer",
    "FieldError",
    "Invalid",
    "Misconfigured",
    "ScormWebhooksError",
    "Unavailable",
    "confluent_codec",
    "msk_properties",
]

MAX_TIMEOUT_SECONDS = 24 * 3600
EXIT_SECONDS = 5.0
NAMED_AT_EXIT = 10

_logger = logging.getLogger("streams.producer")
# librdkafka repeats its lines for each broker and attempt: set the level of this logger to see them.
_client_logger = logging.getLogger("streams.producer.librdkafka")
if _client_logger.level == logging.NOTSET:
    _client_logger.setLevel(logging.CRITICAL)
_POLL_SECONDS = 0.1
# A report right after a fatal error runs while that exception is set (`fatal_error_of`), and would fail half way.
# This call has no effect and raises it. CPython does not check the direct call of a builtin.
_raise_pending = partial(id, None)
_CONFIGURATION_CODES = frozenset(
    {
        KafkaError._UNKNOWN_TOPIC,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError._AUTHENTICATION,
        KafkaError._SSL,
    }
)
# These errors say that no broker accepted the event, but not why.
_TIMEOUT_CODES = frozenset({KafkaError._MSG_TIMED_OUT, KafkaError._PURGE_QUEUE})


@dataclass(frozen=True, slots=True)
class Ack:
    """The place of an acknowledged event."""

    event_id: str
    topic: str
    partition: int
    offset: int


def confluent_codec(
    registry_url: str,
    topic: str = "session-events",
    *,
    subject: str | None = None,
    **properties: Any,
) -> Codec:
    """For `EventProducer(codec=…)`: Confluent's framing, with the schema registered under `subject`.

    `subject` defaults to `<topic>-value`, the topic name strategy; for the record name strategy pass
    `scormwebhooks.v1.SessionEvent`. A schema that is there already is not registered again.
    `properties` are those of confluent-kafka's registry client, dots written as underscores.
    """
    dotted_properties = {name.replace("_", "."): value for name, value in properties.items()}
    return ConfluentCodec(
        AvroCodec(),
        ConfluentRegistry(registry_url, dotted_properties),
        subject or f"{topic}-value",
    )


class EventProducer:
    """Publishes events; safe to share between threads.

    with EventProducer("kafka:9092") as producer:
            ack = producer.publish({"type": "session.launched", ...}).result(timeout=10)

    Keep one for the life of the process, and make it after any fork (in gunicorn: in `post_fork`): in a child of the
    process that made it, `publish` raises `Misconfigured`. Close it at the end; without that, the exit of the
    interpreter waits up to five seconds for acknowledgements, and logs the events that were not acknowledged.
    `properties` are librdkafka's, such as `{"security.protocol": "ssl"}`, also those of `sasl.oauthbearer.method=oidc`
    (`msk_properties` makes those of Amazon MSK with IAM); how many events may wait is `queue.buffering.max.messages`
    (100 000). An event is sent at once; with thousands a second, `"linger.ms": 5` saves the brokers work. Kafka has
    `timeout_seconds` to acknowledge an event; its future fails about a second later. While no broker can be reached,
    the logger `streams.producer` has one warning, and one line when events are acknowledged again. `codec` writes the
    events; without one they are in Avro's single-object encoding, which needs no registry (`confluent_codec` makes one
    for Confluent's framing). Raises `Misconfigured` for an address that is empty, and for a property that is unknown or
    that this class sets itself.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        *,
        topic: str = "session-events",
        properties: Mapping[str, Any] | None = None,
        codec: Codec | None = None,
        timeout_seconds: float = 30,
    ) -> None:
        if not 0 < timeout_seconds <= MAX_TIMEOUT_SECONDS:
            raise Misconfigured(f"timeout_seconds must be more than 0 and at most {MAX_TIMEOUT_SECONDS}")
        base = {"message.timeout.ms": round(timeout_seconds * 1000), **(properties or {})}
        if owned_names := sorted(OWN_PROPERTIES & base.keys()):
            raise Misconfigured(f"{owned_names[0]} cannot be set: what EventProducer promises rests on it")
        base = with_token_source(base, str)
        if not bootstrap_servers.replace(",", " ").strip():
            raise Misconfigured("bootstrap_servers is empty: give one or more host:port, separated by commas")
        base["bootstrap.servers"] = bootstrap_servers
        self._tokens = token_source(base)
        self._reasons = ConnectionErrors(self._note_outage)
        self._away_since: float | None = None
        own_properties = {"error_cb": self._reasons, "logger": _client_logger}
        try:
            self._producer = Producer({**producer_config(base), **own_properties})
        except KafkaException as error:
            raise Misconfigured(error.args[0].str()) from None
        self._topic = topic
        self._codec = codec or AvroCodec()
        self._open = True
        self._made_in = os.getpid()
        # The futures of events in librdkafka's hands, with the events' ids.
        self._unacknowledged: dict[Future[Ack], str] = {}
        self._fatal_error: KafkaError | None = None
        # Set in a thread that runs callbacks of futures: librdkafka ends the process if one of them flushes.
        self._callbacks = threading.local()
        self._lock = threading.Lock()  # Nothing is queued after `close` began.
        self._poller = threading.Thread(target=self._poll, name="event-producer", daemon=True)
        self._poller.start()
        atexit.register(self._close_at_exit)

    def publish(self, event: Event | Mapping[str, Any]) -> Future[Ack]:
        """Queue an event and return at once; the future has the acknowledgement.

        `event` is an `Event` or the payload's fields with `accountId`. Without an `id`, one is generated. Set your own
        if you may publish the event again. Without a `traceParent` it gets the caller's current OpenTelemetry span, if
        there is one.

        Raises `Invalid`, naming each field that is wrong, `Unavailable` when the local queue is full, and
        `Misconfigured` in a child of the process that made this producer. The future fails with `Unavailable`, or
        `Misconfigured` where the topic or a permission is missing. Its callbacks run in this producer's thread; in
        asyncio use `publish_async`.
        """
        self._refuse_in_a_child()
        if isinstance(event, Event):
            check_event(event, datetime.now(UTC))
        else:
            event = parse_event(event, default_id=new_id("evt"), now=datetime.now(UTC))
        event = with_trace_parent(event, _current_trace())
        value = self._codec.encode(event)
        future: Future[Ack] = Future()
        future.set_running_or_notify_cancel()  # A queued event cannot be cancelled.
        event_id = event.id

        def settle(error: KafkaError | None, message: Any) -> None:
            _raise_pending()
            if error is None and not is_stored(message):
                # Receivers see one event for each id, and the first one may not be there.
                error = self._try_again(value, event, settle)
                if error is None:
                    return
            if self._unacknowledged.pop(future, None) is None:
                return  # `_fail` has removed it.
            if error is None:
                self._reasons.clear()
                self._note_recovery()
                ack = Ack(event_id, message.topic(), message.partition(), message.offset())
                self._end(partial(future.set_result, ack))
            else:
                no_token = self._tokens.problem() if self._tokens else None
                self._end(partial(future.set_exception, _in_words(error, self._reasons.last_error, no_token)))

        with self._lock:
            if not self._open:
                raise Unavailable("this producer is closed")
            if self._fatal_error:
                raise _in_words(self._fatal_error)
            self._unacknowledged[future] = event_id
            try:
                self._producer.produce(self._topic, value, partition_key(event), on_delivery=settle)
            except BufferError:
                self._unacknowledged.pop(future, None)
                raise Unavailable("the local queue is full: Kafka takes no events, or too slowly") from None
            except KafkaException as error:
                self._unacknowledged.pop(future, None)
                raise _in_words(error.args[0]) from error
        return future

    async def publish_async(self, event: Event | Mapping[str, Any]) -> Ack:
        """Publish an event in asyncio; returns when Kafka has it. It never blocks the loop.

        Raises what `publish` raises, and what its future fails with. After a cancellation Kafka may still have the
        event.
        """
        if isinstance(self._codec, AvroCodec):
            return await asyncio.wrap_future(self.publish(event))
        # Another codec may ask a schema registry.
        return await asyncio.wrap_future(await asyncio.to_thread(self.publish, event))

    def _note_outage(self, reason: KafkaError) -> None:
        if self._away_since is None:
            self._away_since = time.monotonic()
            _logger.warning("Kafka cannot be reached, and events wait: %s", reason.str())

    def _note_recovery(self) -> None:
        if self._away_since is not None:
            _logger.info("Kafka acknowledges events again, after %.0f s", time.monotonic() - self._away_since)
            self._away_since = None

    def _try_again(
        self, value: bytes, event: Event, settle: Callable[[KafkaError | None, Any], None]
    ) -> KafkaError | None:
        """Queue an event once more. Returns why that is not possible."""
        try:
            self._producer.produce(self._topic, value, partition_key(event), on_delivery=settle)
        except BufferError:
            return KafkaError(KafkaError._QUEUE_FULL)
        except KafkaException as error:
            kafka_error: KafkaError = error.args[0]
            return kafka_error
        return None

    def flush(self, timeout_seconds: float = 10) -> bool:
        """Wait until all published events are acknowledged; False if some are not in time.

        Raises `RuntimeError` in a callback of a future.
        """
        self._refuse_in_a_child()
        self._refuse_in_a_callback("flush")
        try:
            return self._producer.flush(timeout_seconds) == 0
        except (KafkaException, SystemError) as raised:
            self._fail(fatal_error_of(raised))
            return False

    def close(self, timeout_seconds: float = 10) -> bool:
        """Flush and stop; False if some events were not acknowledged in time, whose futures then fail.

        In a child of the process that made this producer it does nothing. Raises `RuntimeError` in a callback of a
        future.
        """
        if os.getpid() != self._made_in:
            return True
        self._refuse_in_a_callback("close")
        atexit.unregister(self._close_at_exit)
        with self._lock:
            self._open = False
        is_flushed = self.flush(timeout_seconds)
        if not is_flushed:
            self._producer.purge()
        self._poller.join()
        return is_flushed

    def __enter__(self) -> "EventProducer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _refuse_in_a_child(self) -> None:
        # Threads do not survive a fork: an event would wait in the child forever.
        if os.getpid() != self._made_in:
            raise Misconfigured(
                f"this EventProducer was made in process {self._made_in}, before a fork: make one in each process"
            )

    def _close_at_exit(self) -> None:
        if os.getpid() != self._made_in:
            return
        queued = dict(self._unacknowledged)
        self.flush(EXIT_SECONDS)
        if missing_ids := sorted(name for future, name in queued.items() if not future.done() or future.exception()):
            _logger.error(
                "the interpreter ends, and Kafka has not acknowledged all events; missing: %d, with the ids %s%s",
                len(missing_ids),
                ", ".join(missing_ids[:NAMED_AT_EXIT]),
                ", …" if len(missing_ids) > NAMED_AT_EXIT else "",
            )
        self.close(0)

    def _poll(self) -> None:
        while self._open or len(self._producer):
            try:
                self._producer.poll(_POLL_SECONDS)
            except (KafkaException, SystemError) as raised:
                self._fail(fatal_error_of(raised))

    def _fail(self, error: KafkaError) -> None:
        """End all futures: librdkafka may keep their events until they time out."""
        self._fatal_error = error
        self._producer.purge()
        for future in list(self._unacknowledged):
            # Another thread may settle it at the same time.
            if self._unacknowledged.pop(future, None) is not None:
                self._end(partial(future.set_exception, _in_words(error)))

    def _end(self, set_outcome: Callable[[], None]) -> None:
        """End a future, and run its callbacks."""
        self._callbacks.are_running = True
        try:
            set_outcome()
        finally:
            self._callbacks.are_running = False

    def _refuse_in_a_callback(self, name: str) -> None:
        if getattr(self._callbacks, "are_running", False):
            raise RuntimeError(
                f"{name}() was called in a callback of a future, and would wait for itself: call it from another thread"
            )


def _current_trace() -> str | None:
    """The `traceparent` of the caller's span; None for a caller that never imported OpenTelemetry."""
    opentelemetry = sys.modules.get("opentelemetry.trace")
    context = opentelemetry.get_current_span().get_span_context() if opentelemetry else None
    if context is None or not context.is_valid:
        return None
    return format_trace_parent(context.trace_id, context.span_id, context.trace_flags)


def _in_words(error: KafkaError, reason: KafkaError | None = None, no_token: str | None = None) -> ScormWebhooksError:
    message = f"Kafka did not take the event: {error.str()}"
    if error.fatal() or error.code() == KafkaError._FATAL:
        return Unavailable(f"{message}; this producer is broken for good, make a new one")
    if no_token:
        return Unavailable(f"{message} ({no_token})")
    if reason and error.code() in _TIMEOUT_CODES:
        error, message = reason, f"{message} ({reason.str()})"
    # A handshake that fails on a certificate is sometimes reported as a broken transport.
    is_ours = error.code() in _CONFIGURATION_CODES or "certificate verify failed" in error.str()
    return Misconfigured(message) if is_ours else Unavailable(message)
