"""A record of `subscriptions`, applied to the table of webhooks."""

from streams.core.subscription_record import Tombstone, read
from streams.core.subscriptions_table import Sentinel, SubscriptionsTable
from streams.ports import Codec, Record


def apply(table: SubscriptionsTable, codec: Codec, record: Record) -> None:
    """Put, remove or mark what the record says. Raises `InvalidRecord` for what `publish` does not write."""
    match read(record.key, record.value, record.headers, record.appended_at, codec.decode):
        case Sentinel() as sentinel:
            table.mark(record.offset, sentinel)
        case Tombstone(webhook_id, version):
            table.remove(record.offset, webhook_id, version)
        case webhook:
            table.put(record.offset, webhook, record.appended_at)
