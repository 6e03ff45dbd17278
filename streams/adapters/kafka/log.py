"""Produce records with librdkafka, until every one of them is acknowledged."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from streams.adapters.kafka.messages import LIBRDKAFKA
from streams.adapters.kafka.reasons import Reasons
from streams.core.errors import ScormWebhooksError
from streams.ports import Outgoing, Report

# How soon acknowledgements are looked for while some are awaited, and how often librdkafka's other news.
SOON_SECONDS = 0.001
SELDOM_SECONDS = 0.1
RETRY_SECONDS = 0.5
FLUSH_SECONDS = 10.0


class LogBroken(ScormWebhooksError):
    """The producer can do nothing more; the process must exit and start again."""


class _Pending:
    """One call of `produce`: how many acknowledgements are still awaited, and when each record was appended."""

    __slots__ = ("appended", "done", "left")

    def __init__(self, count: int, loop: asyncio.AbstractEventLoop) -> None:
        self.left = count
        self.appended: list[datetime] = [_EPOCH] * count
        self.done: asyncio.Future[None] = loop.create_future()


_EPOCH = datetime.fromtimestamp(0, UTC)


class KafkaLog:
    """A `Log` on a real or embedded broker; topics get the deployment's prefix.

    Acknowledgements are looked for on the loop: a thread would take the interpreter from it for each of them.
    """

    def __init__(self, config: Mapping[str, Any], prefix: str, report: Report) -> None:
        self._reasons = Reasons(self._away)
        self._producer = Producer({**config, "error_cb": self._reasons, "logger": LIBRDKAFKA})
        self._prefix = prefix
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._broken: KafkaError | None = None
        self._told = False
        self._looks_soon = False
        self._timer = self._loop.call_soon(self._look)

    def troubles(self) -> list[str]:
        """Why nothing can be produced at the moment."""
        return ["the broker takes no records"] if self._told else []

    async def produce(self, records: Sequence[Outgoing]) -> Sequence[datetime]:
        """Wait until all are acknowledged, an outage included; when each was appended.

        Raises `LogBroken` when the producer met a fatal error.
        """
        if not records:
            return ()
        pending = _Pending(len(records), self._loop)
        for index, record in enumerate(records):
            while wait := self._hand_over(pending, index, record):
                await asyncio.sleep(wait)
        await pending.done
        return pending.appended

    async def close(self) -> None:
        """Wait for what was handed over, for a while, and stop."""
        deadline = self._loop.time() + FLUSH_SECONDS
        while len(self._producer) and self._loop.time() < deadline:
            await asyncio.sleep(10 * SOON_SECONDS)
        self._timer.cancel()

    def _hand_over(self, pending: _Pending, index: int, record: Outgoing) -> float:
        """In how many seconds to try again; 0 when librdkafka has it."""
        if self._broken is not None:
            raise LogBroken(f"Kafka producer: {self._broken}")
        try:
            self._producer.produce(
                self._prefix + record.topic,
                key=record.key,
                value=record.value,
                headers=list(record.headers),
                on_delivery=partial(self._acknowledged, pending, index, record),
            )
        except BufferError:
            # The local queue is full: wait for acknowledgements to make room.
            return 0.01
        except KafkaException as error:
            self._take_note(error.args[0])
            return RETRY_SECONDS
        self._look_soon()
        return 0

    def _look(self) -> None:
        try:
            self._producer.poll(0)
        finally:
            self._looks_soon = len(self._producer) > 0
            seconds = SOON_SECONDS if self._looks_soon else SELDOM_SECONDS
            self._timer = self._loop.call_later(seconds, self._look)

    def _look_soon(self) -> None:
        if not self._looks_soon:
            self._looks_soon = True
            self._timer.cancel()
            self._timer = self._loop.call_later(SOON_SECONDS, self._look)

    def _away(self, error: KafkaError) -> None:
        """Said while records wait, which themselves would say no more than "timed out", and only after minutes."""
        if len(self._producer):
            self._tell_once(error)

    def _acknowledged(
        self, pending: _Pending, index: int, record: Outgoing, error: KafkaError | None, message: Message
    ) -> None:
        if error is not None:
            self._again(pending, index, record, error)
            return
        if self._told:
            self._told = False
            self._report.tell("broker available again")
        self._reasons.forget()
        pending.appended[index] = _time(message.timestamp()[1])
        pending.left -= 1
        if pending.left == 0 and not pending.done.done():
            pending.done.set_result(None)

    def _again(self, pending: _Pending, index: int, record: Outgoing, error: KafkaError) -> None:
        self._take_note(error)
        if self._broken is not None or error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            if not pending.done.done():
                pending.done.set_exception(LogBroken(f"Kafka producer: {error}"))
            return
        if not pending.done.done():
            task = asyncio.ensure_future(self._later(pending, index, record))
            pending.done.add_done_callback(lambda _: task.cancel())

    async def _later(self, pending: _Pending, index: int, record: Outgoing) -> None:
        await asyncio.sleep(RETRY_SECONDS)
        try:
            while wait := self._hand_over(pending, index, record):
                await asyncio.sleep(wait)
        except LogBroken as broken:
            if not pending.done.done():
                pending.done.set_exception(broken)

    def _take_note(self, error: KafkaError) -> None:
        self._report.count("produce_errors_total")
        if error.fatal():
            self._broken = error
        self._tell_once(error)

    def _tell_once(self, error: KafkaError) -> None:
        if not self._told:
            self._told = True
            self._report.tell("broker unavailable; producing again until it takes the records", why=error.str())


def _time(milliseconds: int) -> datetime:
    # The embedded broker acknowledges with a made-up time of 1970.
    if milliseconds < _PLAUSIBLE_MS:
        return datetime.now(UTC)
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


_PLAUSIBLE_MS = 1_000_000_000_000
