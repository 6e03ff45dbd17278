"""The view of webhooks on a log in memory, read whenever somebody looks."""

import asyncio
from collections.abc import Callable, Sequence

from fakes.kafka import FakeLog
from streams.core.delivery import ViewPosition
from streams.core.errors import Unreadable
from streams.core.view import SENTINEL_KEY, VERSION_HEADER, Sentinel, View
from streams.core.webhook import Webhook
from streams.ports import Codec, Record
from streams.topics import SUBSCRIPTIONS


class FakeView:
    """`Subscriptions` and `Directory`: a `View` of what the log's topic holds."""

    def __init__(self, log: FakeLog, codec: Codec) -> None:
        self.view = View()
        self._log = log
        self._codec = codec
        self._moved = asyncio.Event()
        log.appended.append(self._moved.set)

    async def catch_up(self) -> ViewPosition:
        await self._read_until(self.view.is_complete)
        return self.view.seen

    async def wait_for(self, seen: ViewPosition) -> None:
        await self._read_until(lambda: self.view.is_complete() and self.view.has_reached(seen))

    def find(self, webhook_id: str) -> Webhook | None:
        self._read()
        return self.view.find(webhook_id)

    def of_account(self, account_id: str) -> Sequence[Webhook]:
        return self.view.of_account(account_id)

    async def _read_until(self, condition: Callable[[], bool]) -> None:
        self._read()
        while not condition():
            self._moved.clear()
            await self._moved.wait()
            self._read()

    def _read(self) -> None:
        for record in self._log.topic(SUBSCRIPTIONS)[self.view.position :]:
            try:
                self._apply(record)
            except Unreadable:
                self.view.spoil(record.offset, (record.key or b"").decode(errors="replace"))

    def _apply(self, record: Record) -> None:
        key = (record.key or b"").decode()
        if record.value is None:
            self.view.remove(record.offset, key, int(dict(record.headers)[VERSION_HEADER]))
        elif key == SENTINEL_KEY:
            self.view.mark(record.offset, Sentinel.decode(record.value))
        else:
            noun = self._codec.decode(record.value)
            if not isinstance(noun, Webhook):
                raise Unreadable("not a webhook")
            self.view.put(record.offset, noun, record.appended_at)
