"""Apply a record of `subscriptions` to the table of webhooks."""

from streams.core.records.compacted_table import Sentinel
from streams.core.webhooks.subscription_record import Tombstone, decode_record
from streams.core.webhooks.subscriptions_table import SubscriptionsTable
from streams.ports.kafka import Codec, Record


def apply_record(table: SubscriptionsTable, codec: Codec, record: Record) -> None:
    """Apply a webhook, a tombstone or a sentinel. Raises `InvalidRecord` for any other record."""
    match decode_record(record.key, record.value, record.headers, record.appended_at, codec.decode):
        case Sentinel() as sentinel:
            table.apply_sentinel(record.offset, sentinel)
        case Tombstone(webhook_id, version):
            table.apply_tombstone(record.offset, webhook_id, version)
        case webhook:
            table.apply_webhook(record.offset, webhook, record.appended_at)
