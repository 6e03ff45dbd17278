"""The subscriptions table on a Kafka in memory; each call reads the topic."""

import asyncio
from collections.abc import Callable, Sequence

from fakes.kafka import FakeKafka
from streams.adapters.kafka.compacted.subscription_records import apply_record
from streams.core.deliveries.delivery import SubscriptionsPosition
from streams.core.errors import InvalidRecord, NewerRecord
from streams.core.records.compacted_table import key_of
from streams.core.webhooks.subscriptions_table import SubscriptionsTable
from streams.core.webhooks.webhook import Webhook
from streams.ports.kafka import Codec
from streams.topics import SUBSCRIPTIONS


class FakeSubscriptions:
    """`Subscriptions` from the topic of a `FakeKafka`; `fall_behind` stops its reading."""

    def __init__(self, kafka: FakeKafka, codec: Codec) -> None:
        self.table = SubscriptionsTable()
        self._kafka = kafka
        self._codec = codec
        self._moved = asyncio.Event()
        self._is_behind = False
        kafka.appended.append(self._moved.set)

    def fall_behind(self) -> None:
        """Stop reading, until `read_on`."""
        self._is_behind = True

    def read_on(self) -> None:
        self._is_behind = False
        self._moved.set()

    async def catch_up(self, ago: float = 0.0) -> SubscriptionsPosition:
        await self._read_until(self._is_ready)
        return self.table.reached_position

    async def wait_for(self, seen: SubscriptionsPosition) -> None:
        known = seen._replace(offset=min(seen.offset, len(self._kafka.topic(SUBSCRIPTIONS))))
        await self._read_until(lambda: self._is_ready() and self.table.has_reached(known))

    def find(self, webhook_id: str) -> Webhook | None:
        self._read()
        return self.table.find(webhook_id)

    def of_account(self, account_id: str) -> Sequence[Webhook]:
        return self.table.of_account(account_id)

    def count_of_account(self, account_id: str) -> int:
        return self.table.count_of_account(account_id)

    def _is_ready(self) -> bool:
        return self.table.is_complete() and self.table.is_readable()

    async def _read_until(self, condition: Callable[[], bool]) -> None:
        self._read()
        while not condition():
            self._moved.clear()
            await self._moved.wait()
            self._read()

    def _read(self) -> None:
        if self._is_behind:
            return
        for record in self._kafka.topic(SUBSCRIPTIONS)[self.table.position :]:
            try:
                apply_record(self.table, self._codec, record)
            except InvalidRecord as error:
                self.table.skip_invalid(
                    record.offset, key_of(record.key), is_newer_release=isinstance(error, NewerRecord)
                )
