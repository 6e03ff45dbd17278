"""Many webhooks in little memory: as bytes, and those that were asked for of late also as nouns."""

from collections.abc import Callable, Iterator

from streams.core.subscriptions_table import WebhookStore
from streams.core.webhook import Webhook
from streams.ports import Codec, RecordValue

_VERSION_BYTES = 8


class CompactSubscriptions(WebhookStore):
    """Webhooks by id, their versions before them. `at_hand` bounds how many of them are kept unpacked too."""

    def __init__(self, codec: Codec, at_hand: int = 10_000) -> None:
        self._pack: Callable[[RecordValue], bytes] = codec.encode
        self._unpack: Callable[[bytes], RecordValue] = codec.decode
        self._most_at_hand = at_hand
        self._packed: dict[str, bytes] = {}
        self._at_hand: dict[str, Webhook] = {}

    def __getitem__(self, webhook_id: str) -> Webhook:
        if (webhook := self._at_hand.get(webhook_id)) is None:
            unpacked = self._unpack(self._packed[webhook_id][_VERSION_BYTES:])
            assert isinstance(unpacked, Webhook)
            webhook = self._at_hand[webhook_id] = unpacked
            if len(self._at_hand) > self._most_at_hand:
                del self._at_hand[next(iter(self._at_hand))]
        return webhook

    def __setitem__(self, webhook_id: str, webhook: Webhook) -> None:
        self._at_hand.pop(webhook_id, None)
        self._packed[webhook_id] = webhook.version.to_bytes(_VERSION_BYTES) + self._pack(webhook)

    def __delitem__(self, webhook_id: str) -> None:
        del self._packed[webhook_id]
        self._at_hand.pop(webhook_id, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._packed)

    def version(self, webhook_id: str) -> int:
        return int.from_bytes(self._packed.get(webhook_id, b"")[:_VERSION_BYTES])

    def __len__(self) -> int:
        return len(self._packed)
