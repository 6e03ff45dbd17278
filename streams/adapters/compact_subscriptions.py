"""Keep many webhooks in little memory: all as bytes, the recently used ones as objects, too."""

from collections.abc import Callable, Iterator

from streams.core.subscriptions_table import WebhookStore
from streams.core.webhook import Webhook
from streams.ports import Codec, RecordValue

_VERSION_BYTES = 8


class CompactSubscriptions(WebhookStore):
    """Webhooks by id, each as its version and its record. `cache_size` limits how many are cached as objects."""

    def __init__(self, codec: Codec, cache_size: int = 10_000) -> None:
        self._pack: Callable[[RecordValue], bytes] = codec.encode
        self._unpack: Callable[[bytes], RecordValue] = codec.decode
        self._cache_size = cache_size
        self._packed: dict[str, bytes] = {}
        self._cache: dict[str, Webhook] = {}

    def __getitem__(self, webhook_id: str) -> Webhook:
        if (webhook := self._cache.get(webhook_id)) is None:
            unpacked = self._unpack(self._packed[webhook_id][_VERSION_BYTES:])
            assert isinstance(unpacked, Webhook)
            webhook = self._cache[webhook_id] = unpacked
            if len(self._cache) > self._cache_size:
                del self._cache[next(iter(self._cache))]
        return webhook

    def __setitem__(self, webhook_id: str, webhook: Webhook) -> None:
        self._cache.pop(webhook_id, None)
        self._packed[webhook_id] = webhook.version.to_bytes(_VERSION_BYTES) + self._pack(webhook)

    def __delitem__(self, webhook_id: str) -> None:
        del self._packed[webhook_id]
        self._cache.pop(webhook_id, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._packed)

    def version(self, webhook_id: str) -> int:
        return int.from_bytes(self._packed.get(webhook_id, b"")[:_VERSION_BYTES])

    def __len__(self) -> int:
        return len(self._packed)
