"""The subscriptions table: the webhooks of the compacted topic, complete only when all of them are read."""

import json
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from streams.core.delivery import SubscriptionsPosition
from streams.core.errors import InvalidRecord
from streams.core.ids import is_id
from streams.core.webhook import Webhook

SENTINEL_KEY = "__sentinel__"
VERSION_HEADER = "version"
# The longest encrypted check text.
CHECK_CHARACTERS = 500
# The last ones: 20 MB. `publish` writes the tombstone again when an older record of a forgotten webhook comes.
MAX_DELETIONS = 100_000
# A change counts as known to the stages this long after its record is on the topic: `fan-out` asks for the topic's end
# less often than for every event.
PROPAGATION_SECONDS = 0.12
END_CHECK_INTERVAL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Sentinel:
    """Written after the webhooks: the topic's incarnation, and how many webhooks were live then.

    `check` is a text encrypted like the webhooks' secrets: a process that cannot decrypt it cannot sign.
    """

    incarnation: str
    live: int
    check: str | None = None

    def encode(self) -> bytes:
        fields = {"incarnation": self.incarnation, "live": self.live, "check": self.check}
        return json.dumps({name: value for name, value in fields.items() if value is not None}).encode()

    @classmethod
    def decode(cls, value: bytes) -> "Sentinel":
        """Raises `InvalidRecord` for anything else than a sentinel."""
        try:
            fields = json.loads(value)
            incarnation, live, check = fields["incarnation"], fields["live"], fields.get("check")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InvalidRecord(f"not a sentinel: {type(error).__name__}: {error}") from None
        if not is_id(incarnation) or type(live) is not int or live < 0:
            raise InvalidRecord("not a sentinel: incarnation must be an id, and live a number of webhooks")
        if check is not None and not (isinstance(check, str) and check.isascii() and len(check) <= CHECK_CHARACTERS):
            raise InvalidRecord(f"not a sentinel: check must be an ASCII text of at most {CHECK_CHARACTERS} characters")
        return cls(incarnation, live, check)


class WebhookStore(MutableMapping[str, Webhook]):
    """Stores webhooks by id; `version` avoids decoding a webhook where that is expensive."""

    def version(self, webhook_id: str) -> int:
        """0 where there is no such webhook."""
        webhook = self.get(webhook_id)
        return webhook.version if webhook else 0

    def get_many(self, webhook_ids: Iterable[str]) -> Sequence[Webhook]:
        return [self[webhook_id] for webhook_id in webhook_ids]


class _DictStore(dict[str, Webhook], WebhookStore):
    pass


class SubscriptionsTable:
    """Webhooks by id and by account, built record by record from the start of the topic.

    An older version of a webhook is ignored. A process that reads the topic after its compaction sees only that older
    version: such webhooks are `outdated_ids` until their newest version is written again. Those in `newer_release_ids`
    have a record of a newer release, which this one cannot read. `position` is the next offset to read. `webhooks`
    stores them, in a dict unless given.
    """

    def __init__(self, webhooks: WebhookStore | None = None) -> None:
        self._webhooks = _DictStore() if webhooks is None else webhooks
        self._accounts: dict[str, list[str]] = {}
        self._deleted_versions: dict[str, int] = {}
        self._sentinel: Sentinel | None = None
        self._deleted_since_sentinel = 0
        self.outdated_ids: set[str] = set()
        self.newer_release_ids: set[str] = set()
        self.position = 0

    def __len__(self) -> int:
        return len(self._webhooks)

    @property
    def sentinel(self) -> Sentinel | None:
        return self._sentinel

    def versions(self) -> dict[str, int]:
        """The version of each webhook, by id."""
        return {webhook_id: self._webhooks.version(webhook_id) for webhook_id in self._webhooks}

    def version_of(self, webhook_id: str) -> int | None:
        """The version of a webhook; None where it is not on the topic, or deleted."""
        return self._webhooks.version(webhook_id) or None

    @property
    def tombstones(self) -> Mapping[str, int] | None:
        """The version of each of the last deletions, by webhook id; None for a topic that was always empty."""
        return self._deleted_versions if self._sentinel or self._deleted_versions or self._webhooks else None

    def newest_version(self, webhook_id: str) -> int:
        """The newest version read of a webhook or its deletion; 0 when there is none."""
        return max(self._webhooks.version(webhook_id), self._deleted_versions.get(webhook_id, 0))

    @property
    def incarnation(self) -> str:
        return self._sentinel.incarnation if self._sentinel else ""

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

    def apply_sentinel(self, offset: int, sentinel: Sentinel) -> None:
        """Apply the sentinel's record."""
        self.position = offset + 1
        self._sentinel = sentinel
        self._deleted_since_sentinel = 0

    def skip_invalid(self, offset: int, webhook_id: str, *, is_newer_release: bool = False) -> None:
        """Skip a record of this webhook that is invalid, or of a newer release: what was known stays in force."""
        self.position = offset + 1
        self.outdated_ids.add(webhook_id)
        if is_newer_release:
            self.newer_release_ids.add(webhook_id)

    def skip(self, offset: int) -> None:
        """Skip a record without a webhook, or reach the end of the partition before `offset` + 1."""
        self.position = max(self.position, offset + 1)

    def is_complete(self) -> bool:
        """Whether all webhooks that were live at the last sentinel are in the table, or were deleted since.

        False for an empty or re-created topic: to match nothing would lose every event silently.
        """
        sentinel = self._sentinel
        return sentinel is not None and len(self._webhooks) + self._deleted_since_sentinel >= sentinel.live

    def is_readable(self) -> bool:
        """Whether the last record of each webhook in the table could be read.

        A webhook that is not in the table is missing, or the record is nobody's: `is_complete` tells.
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
