"""Keep many webhooks in little memory: all as bytes, and the recently used ones also as objects."""

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from streams.core.erasures.hashed_ids import pack_ids, unpack_ids
from streams.core.webhooks.subscriptions_table import WebhookStore
from streams.core.webhooks.webhook import Webhook
from streams.ports.kafka import Codec, RecordValue

# The version, the bytes of each scope, and the characters of the filter.
_HEADER = struct.Struct(">QIIH")
# A webhook's object without its texts, scope and filter, and how much larger the last two are in it: measured.
_OBJECT_BYTES = 2500
_SCOPE_GROWTH = 12
_FILTER_GROWTH = 18
# Ten thousand webhooks of usual size.
MAX_CACHE_BYTES = 32 * 1024 * 1024


class CompactSubscriptions(WebhookStore):
    """Webhooks by id, each as its version, the hashes of its scope and the rest of its record.

    `cache_bytes` is roughly the memory of the objects.
    """

    def __init__(self, codec: Codec, cache_bytes: int = MAX_CACHE_BYTES) -> None:
        self._encode: Callable[[RecordValue], bytes] = codec.encode
        self._packed_webhooks: dict[str, bytes] = {}
        self._cache = _Cache(codec, self._packed_webhooks, cache_bytes)

    def __getitem__(self, webhook_id: str) -> Webhook:
        return self._cache[webhook_id]

    def __setitem__(self, webhook_id: str, webhook: Webhook) -> None:
        self._cache.drop(webhook_id)
        self._packed_webhooks[webhook_id] = self._pack(webhook)

    def __delitem__(self, webhook_id: str) -> None:
        self._cache.drop(webhook_id)
        del self._packed_webhooks[webhook_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._packed_webhooks)

    def __len__(self) -> int:
        return len(self._packed_webhooks)

    def version(self, webhook_id: str) -> int:
        packed_webhook = self._packed_webhooks.get(webhook_id)
        return int(_HEADER.unpack_from(packed_webhook)[0]) if packed_webhook else 0

    def get_many(self, webhook_ids: Iterable[str]) -> Sequence[Webhook]:
        cache = self._cache
        return [cache[webhook_id] for webhook_id in webhook_ids]

    def _pack(self, webhook: Webhook) -> bytes:
        packages, dispatches = (pack_ids(ids) for ids in (webhook.packages, webhook.dispatches))
        header = _HEADER.pack(webhook.version, len(packages), len(dispatches), len(webhook.filter_text or ""))
        unscoped_webhook = replace(webhook, packages=frozenset(), dispatches=frozenset())
        return header + packages + dispatches + self._encode(unscoped_webhook)


class _Cache(dict[str, Webhook]):
    """The webhooks that were read last. A hit is a plain dict lookup: `fan-out` reads a thousand for an event.

    At half its size the content becomes the older half. What is read of it comes back; the rest goes the next time.
    """

    def __init__(self, codec: Codec, packed_webhooks: Mapping[str, bytes], max_bytes: int) -> None:
        super().__init__()
        self._decode: Callable[[bytes], RecordValue] = codec.decode
        self._packed_webhooks = packed_webhooks
        self._older: dict[str, Webhook] = {}
        self._max_bytes = max_bytes / 2
        self._bytes = 0

    def __missing__(self, webhook_id: str) -> Webhook:
        packed_webhook = self._packed_webhooks[webhook_id]
        webhook = self._older.pop(webhook_id, None) or self._unpack(packed_webhook)
        if self._bytes >= self._max_bytes:
            self._older = dict(self)
            self.clear()
            self._bytes = 0
        self[webhook_id] = webhook
        self._bytes += _object_bytes(packed_webhook)
        return webhook

    def drop(self, webhook_id: str) -> None:
        self._older.pop(webhook_id, None)
        if self.pop(webhook_id, None) is not None:
            self._bytes -= _object_bytes(self._packed_webhooks[webhook_id])

    def _unpack(self, packed_webhook: bytes) -> Webhook:
        _, packages_bytes, dispatches_bytes, _ = _HEADER.unpack_from(packed_webhook)
        middle = _HEADER.size + packages_bytes
        end = middle + dispatches_bytes
        webhook = self._decode(packed_webhook[end:])
        assert isinstance(webhook, Webhook)
        packages, dispatches = unpack_ids(packed_webhook[_HEADER.size : middle]), unpack_ids(packed_webhook[middle:end])
        return replace(webhook, packages=packages, dispatches=dispatches)


def _object_bytes(packed_webhook: bytes) -> int:
    _, packages, dispatches, filter_characters = _HEADER.unpack_from(packed_webhook)
    return (
        _OBJECT_BYTES
        + len(packed_webhook)
        + _SCOPE_GROWTH * int(packages + dispatches)
        + _FILTER_GROWTH * int(filter_characters)
    )
