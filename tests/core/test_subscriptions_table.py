"""The table is complete or not ready, and keeps the newest version of each webhook, also after compaction."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import NOON, webhook
from streams.core.deliveries.delivery import SubscriptionsPosition
from streams.core.errors import InvalidRecord
from streams.core.records.compacted_table import CHECK_CHARACTERS, Sentinel
from streams.core.webhooks import subscriptions_table
from streams.core.webhooks.subscriptions_table import SubscriptionsTable
from streams.core.webhooks.webhook import Webhook

A, B = webhook(id="wh_a"), webhook(id="wh_b")


def table_of(*webhooks: Webhook, live: int | None = None) -> SubscriptionsTable:
    table = SubscriptionsTable()
    for offset, known in enumerate(webhooks):
        table.apply_webhook(offset, known, NOON)
    if live is not None:
        table.apply_sentinel(len(webhooks), Sentinel("first", live))
    return table


# -- ready or not --------------------------------------------------------------------------------------------


def test_an_empty_topic_is_not_complete() -> None:
    assert not SubscriptionsTable().is_complete()


def test_webhooks_without_a_sentinel_are_not_complete() -> None:
    assert not table_of(A, B).is_complete()


def test_fewer_webhooks_than_the_sentinel_says_are_incomplete() -> None:
    assert not table_of(A, live=2).is_complete()
    assert table_of(A, B, live=2).is_complete()


def test_zero_webhooks_are_complete_if_the_sentinel_says_so() -> None:
    assert table_of(live=0).is_complete()


def test_a_deletion_after_the_sentinel_keeps_it_complete() -> None:
    table = table_of(A, B, live=2)
    table.apply_tombstone(3, A.id, 2)
    assert table.is_complete()
    table.apply_sentinel(4, Sentinel("first", 1))
    assert table.is_complete()


def test_deletions_before_the_sentinel_do_not_count() -> None:
    table = table_of(A, B, live=2)
    table.apply_tombstone(3, A.id, 2)
    table.apply_sentinel(4, Sentinel("first", 2))
    assert not table.is_complete()


def test_a_sentinel_is_decoded_as_it_was_encoded() -> None:
    for sentinel in (Sentinel("first", 0), Sentinel("first", 7, check="c" * CHECK_CHARACTERS)):
        assert Sentinel.decode(sentinel.encode()) == sentinel


# -- versions ------------------------------------------------------------------------------------------------


def test_an_older_version_is_ignored() -> None:
    newer = replace(A, version=5, url="https://new.example.com")
    table = table_of(newer, replace(A, version=4), replace(A, version=5, url="https://same.example.com"))
    assert table.find(A.id) == replace(newer, created_at=NOON)
    assert table.position == 3


def test_an_older_version_does_not_restore_a_webhook() -> None:
    table = table_of(replace(A, version=5))
    table.apply_tombstone(1, A.id, 6)
    table.apply_webhook(2, replace(A, version=5), NOON)
    assert table.find(A.id) is None
    assert table.of_account("acme") == []


def test_a_webhook_that_is_back_has_no_tombstone() -> None:
    """A process with a restored database deletes again what has one."""
    table = table_of(replace(A, version=5))
    table.apply_tombstone(1, A.id, 6)
    table.apply_webhook(2, replace(A, version=7), NOON)
    assert table.versions() == {A.id: 7}
    assert table.tombstones == {}


def test_a_tombstone_of_an_older_version_deletes_nothing() -> None:
    table = table_of(replace(A, version=5))
    table.apply_tombstone(1, A.id, 4)
    assert table.find(A.id) is not None


def test_a_limited_number_of_tombstones_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriptions_table, "MAX_DELETIONS", 2)
    table = SubscriptionsTable()
    for offset, webhook_id in enumerate(["wh_a", "wh_b", "wh_a", "wh_c"]):
        table.apply_tombstone(offset, webhook_id, 6)
    assert table.tombstones == {"wh_a": 6, "wh_c": 6}


def test_a_tombstone_without_its_webhook_is_remembered() -> None:
    table = SubscriptionsTable()
    table.apply_tombstone(0, A.id, 6)
    table.apply_webhook(1, replace(A, version=5), NOON)
    assert table.find(A.id) is None


def test_an_older_tombstone_does_not_undo_a_newer_one() -> None:
    table = SubscriptionsTable()
    table.apply_tombstone(0, A.id, 6)
    table.apply_tombstone(1, A.id, 4)
    table.apply_webhook(2, replace(A, version=5), NOON)
    assert table.find(A.id) is None


def test_a_newer_tombstone_ends_an_overtaken_version() -> None:
    table = table_of(replace(A, version=5), replace(A, version=4))
    assert table.outdated_ids == {A.id}
    table.apply_tombstone(2, A.id, 6)
    assert table.outdated_ids == set()


def test_versions_are_those_of_the_topic() -> None:
    assert table_of(replace(A, version=3), B).versions() == {"wh_a": 3, "wh_b": 1}


def test_the_first_record_of_a_webhook_sets_its_creation() -> None:
    table = table_of(A)
    table.apply_webhook(1, replace(A, version=2), NOON + timedelta(hours=1))
    found = table.find(A.id)
    assert found is not None
    assert (found.version, found.created_at) == (2, NOON)
    table.apply_webhook(2, replace(A, version=3, created_at=NOON - timedelta(days=1)), NOON)
    found = table.find(A.id)
    assert found is not None
    assert found.created_at == NOON - timedelta(days=1)


@pytest.mark.parametrize("newer", [False, True])
def test_an_invalid_record_keeps_what_was_known(newer: bool) -> None:
    table = table_of(A, live=1)
    table.skip_invalid(7, A.id, is_newer_release=newer)
    assert table.position == 8
    assert table.find(A.id) == replace(A, created_at=NOON)
    # `publish` writes it again.
    assert table.outdated_ids == {A.id}
    assert table.is_readable() is not newer
    table.apply_webhook(8, replace(A, version=2), NOON)
    assert (table.outdated_ids, table.is_readable()) == (set(), True)


def test_an_invalid_record_of_nobody_stops_nothing() -> None:
    table = table_of(A, live=1)
    table.skip_invalid(7, "wh_unknown", is_newer_release=True)
    assert table.is_readable()


# -- positions -----------------------------------------------------------------------------------------------


def test_a_position_is_reached_once_it_is_read() -> None:
    table = table_of(A, live=1)
    assert table.reached_position == SubscriptionsPosition("first", 2)
    assert table.has_reached(SubscriptionsPosition("first", 2))
    assert not table.has_reached(SubscriptionsPosition("first", 3))
    table.skip(2)
    assert table.has_reached(SubscriptionsPosition("first", 3))


def test_another_incarnation_counts_as_reached() -> None:
    assert table_of(A, live=1).has_reached(SubscriptionsPosition("earlier", 999))


# -- accounts ------------------------------------------------------------------------------------------------


def test_an_account_sees_its_own_webhooks_only() -> None:
    table = table_of(A, replace(B, account_id="globex"))
    assert [known.id for known in table.of_account("acme")] == ["wh_a"]
    assert [known.id for known in table.of_account("globex")] == ["wh_b"]
    assert table.of_account("nobody") == []


# -- compaction ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TopicRecord:
    """A record of `subscriptions`: a sentinel, a tombstone or a webhook."""

    offset: int
    key: str
    version: int = 0
    live: int | None = None
    deleted: bool = False

    def apply_to(self, table: SubscriptionsTable) -> None:
        if self.live is not None:
            table.apply_sentinel(self.offset, Sentinel("first", self.live))
        elif self.deleted:
            table.apply_tombstone(self.offset, self.key, self.version)
        else:
            # `publish` knows the creation time from the second version on.
            created_at = NOON if self.version > 1 else None
            table.apply_webhook(self.offset, webhook(id=self.key, version=self.version, created_at=created_at), NOON)


@st.composite
def logs(draw: st.DrawFn) -> list[TopicRecord]:
    """What `publish` writes: batches of changes, a sentinel after each."""
    log: list[TopicRecord] = []
    versions: dict[str, int] = {}
    live: set[str] = set()
    for batch in draw(st.lists(st.lists(st.sampled_from("abcd"), max_size=4), min_size=1, max_size=6)):
        for key in batch:
            versions[key] = versions.get(key, 0) + 1
            deleted = key in live and draw(st.booleans())
            (live.discard if deleted else live.add)(key)
            log.append(TopicRecord(len(log), key, versions[key], deleted=deleted))
        log.append(TopicRecord(len(log), "", live=len(live)))
    return log


@st.composite
def compacted(draw: st.DrawFn, log: Sequence[TopicRecord]) -> list[TopicRecord]:
    """What compaction may leave: the last record of each key; an old tombstone without earlier records may go."""
    last = {record.key: record.offset for record in log}
    sentinel = last[""]
    kept = [record for record in log if record.offset == last[record.key] or draw(st.booleans())]
    keys = [record.key for record in kept]
    return [
        record
        for record in kept
        if not (record.deleted and record.offset < sentinel and keys.count(record.key) == 1 and draw(st.booleans()))
    ]


def read(log: Sequence[TopicRecord]) -> SubscriptionsTable:
    table = SubscriptionsTable()
    for record in log:
        record.apply_to(table)
    return table


@given(st.data())
def test_compaction_does_not_change_the_table(data: st.DataObject) -> None:
    log = data.draw(logs())
    whole, rest = read(log), read(data.draw(compacted(log)))
    assert whole.is_complete()
    assert rest.is_complete()
    assert rest.versions() == whole.versions()
    assert rest.reached_position == whole.reached_position
    for webhook_id in whole.versions():
        assert rest.find(webhook_id) == whole.find(webhook_id)


@given(st.data())
def test_reading_a_record_twice_changes_nothing(data: st.DataObject) -> None:
    log = data.draw(logs())
    twice = [record for record in log for _ in range(data.draw(st.integers(1, 2)))]
    assert read(twice).versions() == read(log).versions()
    assert read(twice).is_complete()


@pytest.mark.parametrize(
    "value",
    [
        {"incarnation": "\0", "live": 0},
        {"incarnation": "\ud800", "live": 0},
        {"incarnation": "x" * 900_000, "live": 0},
        {"incarnation": "one", "live": True},
        {"incarnation": "one", "live": 0, "check": "\ud800"},
        {"incarnation": "one", "live": -1},
        {"incarnation": "one", "live": 0, "check": "c" * (CHECK_CHARACTERS + 1)},
        {"incarnation": "one", "live": 0, "check": "x" * 900_000},
        {"incarnation": "one", "live": 0, "check": 7},
    ],
)
def test_a_sentinel_with_invalid_fields_is_refused(value: dict[str, object]) -> None:
    with pytest.raises(InvalidRecord):
        Sentinel.decode(json.dumps(value).encode())
