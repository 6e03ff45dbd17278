"""The subscriptions table: the webhooks of the compacted topic, complete only when all of them are read."""

from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import replace
from datetime import datetime

from streams.core.deliveries.delivery import SubscriptionsPosition
from streams.core.records.compacted_table import CompactedTable
from streams.core.webhooks.webhook import Webhook

# The last tombstones: 20 MB. `publish` writes one again when an older record of a forgotten webhook comes.
MAX_DELETIONS = 100_000
# A change counts as known to the stages this long after its record is on the topic: `fan-out` asks for the topic's end
# less often than for every event.
PROPAGATION_SECONDS = 0.12
END_CHECK_INTERVAL_SECONDS = 0.1


class WebhookStore(MutableMapping[str, Webhook]):
    """Stores webhooks by id; `version` avoids decoding a webhook where that is expensive."""

    def version(self, webhook_id: str) -> int:
        """The version of a webhook; 0 if there is no such webhook."""
        webhook = self.get(webhook_id)
        return webhook.version if webhook else 0

    def get_many(self, webhook_ids: Iterable[str]) -> Sequence[Webhook]:
        return [self[webhook_id] for webhook_id in webhook_ids]


class _DictStore(dict[str, Webhook], WebhookStore):
    pass


class SubscriptionsTable(CompactedTable):
    """Webhooks by id and by account, built record by record from the start of the topic.

    An older version of a webhook is ignored. A process that reads the topic after its compaction sees only that older
    version, so the webhook is in `outdated_ids` until its newest version is written again. `webhooks` is the store, by
    default a dict.
    """

    def __init__(self, webhooks: WebhookStore | None = None) -> None:
        super().__init__()
        self._webhooks = _DictStore() if webhooks is None else webhooks
        self._accounts: dict[str, list[str]] = {}
        self._deleted_versions: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._webhooks)

    def versions(self) -> dict[str, int]:
        """The version of each webhook, by id."""
        return {webhook_id: self._webhooks.version(webhook_id) for webhook_id in self._webhooks}

    def version_of(self, webhook_id: str) -> int | None:
        """The version of a webhook; None where it is not on the topic, or deleted."""
        return self._webhooks.version(webhook_id) or None

    @property
    def tombstones(self) -> Mapping[str, int] | None:
        """The version of each of the last deletions, by webhook id; None for a topic that was always empty."""
        return self._deleted_versions if self.sentinel or self._deleted_versions or self._webhooks else None

    def newest_version(self, webhook_id: str) -> int:
        """The newest version read of a webhook or its deletion; 0 if there is none."""
        return max(self._webhooks.version(webhook_id), self._deleted_versions.get(webhook_id, 0))

    @property
    def reached_position(self) -> SubscriptionsPosition:
        return SubscriptionsPosition(self.incarnation, self.position)

    def apply_webhook(self, offset: int, webhook: Webhook, appended_at: datetime) -> None:
        """Apply a webhook's record; its first record sets its creation time."""
        self.position = offset + 1
        self.newer_release_ids.discard(webhook.id)
        version, newest_version = self._webhooks.version(webhook.id), self.newest_version(webhook.id)
        (self.outdated_ids.add if webhook.version < newest_version else self.outdated_ids.discard)(webhook.id)
        if webhook.version <= newest_version:
            return
        if webhook.created_at is None:
            created_at = self._webhooks[webhook.id].created_at if version else appended_at
            webhook = replace(webhook, created_at=created_at)
        self._webhooks[webhook.id] = webhook
        self._deleted_versions.pop(webhook.id, None)
        if not version:
            self._accounts.setdefault(webhook.account_id, []).append(webhook.id)

    def apply_tombstone(self, offset: int, webhook_id: str, version: int) -> None:
        """Apply a tombstone; `version` comes from its header."""
        self.position = offset + 1
        self.newer_release_ids.discard(webhook_id)
        self._deleted_since_sentinel += 1
        current_version = self._webhooks.version(webhook_id)
        if version < current_version:
            self.outdated_ids.add(webhook_id)
            return
        self.outdated_ids.discard(webhook_id)
        self._deleted_versions[webhook_id] = max(version, self._deleted_versions.pop(webhook_id, 0))
        if len(self._deleted_versions) > MAX_DELETIONS:
            del self._deleted_versions[next(iter(self._deleted_versions))]
        if not current_version:
            return
        account_id = self._webhooks.pop(webhook_id).account_id
        self._accounts[account_id].remove(webhook_id)
        if not self._accounts[account_id]:
            del self._accounts[account_id]

    def is_readable(self) -> bool:
        """Whether the last record of each webhook in the table could be read.

        A webhook that is not in the table is missing, which `is_complete` reports, or its record belongs to no webhook.
        """
        return not any(self._webhooks.version(webhook_id) for webhook_id in self.newer_release_ids)

    def has_reached(self, position: SubscriptionsPosition) -> bool:
        """Whether this position was read; a position of another incarnation counts as read."""
        return position.incarnation != self.incarnation or self.position >= position.offset

    def find(self, webhook_id: str) -> Webhook | None:
        return self._webhooks.get(webhook_id)

    def of_account(self, account_id: str) -> Sequence[Webhook]:
        """The account's webhooks, in any order."""
        return self._webhooks.get_many(self._accounts.get(account_id, ()))

    def count_of_account(self, account_id: str) -> int:
        """The number of the account's webhooks."""
        return len(self._accounts.get(account_id, ()))
