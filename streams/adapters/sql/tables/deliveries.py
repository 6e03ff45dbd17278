"""Tables for webhooks, events, deliveries, attempts, health and statistics."""

from dataclasses import fields
from typing import Any

from sqlalchemy import JSON as Json
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    case,
    func,
    literal_column,
    text,
)

from streams.adapters.sql.tables.types import Moment, metadata
from streams.core.webhooks.webhook import PeopleFields

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, ForeignKey("accounts.id"), nullable=False, index=True),
    Column("url", Text, nullable=False),
    Column("fallback_url", Text),
    *(Column(attribute.name, Text, nullable=False, server_default="") for attribute in fields(PeopleFields)),
    Column("event_types", Json, nullable=False),
    Column("packages", Json, nullable=False),
    Column("dispatches", Json, nullable=False),
    Column("secrets", Json, nullable=False),
    Column("encrypted_headers", Text),
    Column("encrypted_fallback_headers", Text),
    Column("encrypted_auth_secret", Text),
    Column("max_concurrency", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("pause_id", Text),
    Column("pause_reason", Text),
    Column("paused_at", Moment),
    Column("health_epoch", Integer, nullable=False, server_default=text("1")),
    Column("version", BigInteger, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("published_at", Moment),
    Column("deleted_at", Moment),
    Column("url_changed_at", Moment),
    Column("filter", Text),
    Column("options", Text),
    # When a held delivery is tried, if the pause may end by that.
    Column("probe_at", Moment),
    # When the old secret of a rotation expires, copied from `secrets`.
    Column("old_secret_until", Moment),
    # When the endpoint's certificate expires; set by attempts in its last 14 days.
    Column("certificate_ends_at", Moment),
    # When a temporary webhook is deleted, unless a reader has pulled from it in the meantime.
    Column("expires_at", Moment),
)
for _column in (
    *(webhooks.c.probe_at, webhooks.c.paused_at, webhooks.c.old_secret_until, webhooks.c.certificate_ends_at),
    webhooks.c.expires_at,
):
    _has_time = _column.is_not(None)
    Index(f"ix_webhooks_{_column.name}", _column, postgresql_where=_has_time, sqlite_where=_has_time)

# The time until which a pull webhook's rate is used up. Not in `webhooks`, whose rows `record` locks.
pull_rates = Table(
    "pull_rates",
    metadata,
    Column("webhook_id", Text, primary_key=True),
    Column("used_until", Moment, nullable=False),
)

# Webhooks whose newest version is not on the topic yet: a set, not a queue.
dirty_webhooks = Table(
    "dirty_webhooks",
    metadata,
    Column("webhook_id", Text, primary_key=True),
    Column("version", BigInteger, nullable=False),
)

# One row: a text that the right encryption keys decrypt.
encryption_check = Table(
    "encryption_check",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("ciphertext", Text, nullable=False),
)

leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("expires_at", Moment, nullable=False),
)

# Each event, stored once for all its deliveries, with the ids that people search by.
events = Table(
    "events",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("event_id", Text, primary_key=True),
    Column("first_seen_at", Moment, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("trace_parent", Text),
    Column("session_id", Text),
    Column("learner_id", Text),
    Column("package_id", Text),
    Column("dispatch_id", Text),
    # SHA-256 of the event.
    Column("hash", LargeBinary, nullable=False),
)
# The pairs of an event's metadata, by their hash.
event_metadata = Table(
    "event_metadata",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("event_id", Text, primary_key=True),
    Column("hash", LargeBinary, primary_key=True),
    Column("first_seen_at", Moment, nullable=False),
    Index(None, "account_id", "hash", "first_seen_at", "event_id"),
)
# PostgreSQL's index entries hold 2700 bytes; a learner's id may have 1024 characters of 4 bytes each.
LEARNER_PREFIX_CHARACTERS = 200


def learner_prefix(value: Any) -> ColumnElement[str]:
    """The part of a learner's id that the index contains."""
    return func.substr(value, literal_column("1"), literal_column(str(LEARNER_PREFIX_CHARACTERS)))


def _index_subject(name: str, key: ColumnElement[Any], where: ColumnElement[bool]) -> None:
    event_columns = events.c
    columns = (event_columns.account_id, key, event_columns.first_seen_at, event_columns.event_id)
    Index(f"ix_events_{name}", *columns, postgresql_where=where, sqlite_where=where)


_index_subject("session", events.c.session_id, events.c.session_id.is_not(None))
_index_subject("learner", learner_prefix(events.c.learner_id), events.c.learner_id.is_not(None))
_index_subject("package", events.c.package_id, events.c.package_id.is_not(None))
_index_subject("dispatch", events.c.dispatch_id, events.c.dispatch_id.is_not(None))

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("event_type", Text, nullable=False),
    Column("webhook_id", Text, nullable=False),
    Column("trigger", Text, nullable=False),
    Column("first_seen_at", Moment, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("step", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("target", Text, nullable=False),
    Column("changed_at", Moment, nullable=False),
    Column("tier", Text),
    Column("due_at", Moment),
    Column("reason", Text),
    Column("message", Text),
    Column("pause_id", Text),
    Column("target_attempt", Integer, nullable=False, server_default=text("1")),
    # When a pulled delivery began to wait for a reader. `changed_at` is the time of the newest lease.
    Column("held_since", Moment),
    # The end of the lease; set until the delivery is acknowledged, given back or leased again.
    Column("leased_until", Moment),
    Index(None, "account_id", "first_seen_at", "id"),
    Index(None, "account_id", "event_id"),
    Index(None, "account_id", "event_type", "first_seen_at", "id"),
    Index(None, "webhook_id", "first_seen_at", "id"),
)


def _index_some(name: str, where: ColumnElement[bool], *columns: Column[Any]) -> None:
    Index(f"ix_deliveries_{name}", *columns, postgresql_where=where, sqlite_where=where)


_state = deliveries.c.state
_seen_order = (deliveries.c.first_seen_at, deliveries.c.id)
# Literals, so that prepared statements can use the partial indexes.
_is_held = _state == literal_column("'held'")
IS_HELD_FOR_READERS = _is_held & (deliveries.c.reason == literal_column("'pull'"))
IS_HELD = _is_held & (deliveries.c.reason != literal_column("'pull'"))
_index_some("held", IS_HELD, deliveries.c.webhook_id, deliveries.c.first_seen_at)
# Deliveries that wait for readers, in the order in which they may be pulled: `due_at` is the end of a lease, if there
# was one.
_index_some("pull", IS_HELD_FOR_READERS, deliveries.c.webhook_id, deliveries.c.due_at, deliveries.c.id)
IS_PULLED = IS_HELD_FOR_READERS & deliveries.c.held_since.is_not(None)
_index_some("pulled", IS_PULLED, deliveries.c.webhook_id, deliveries.c.held_since)
# Released by `publish` and not yet attempted. A record of fan-out has step 1, and a waiting record has a tier.
IS_RELEASED = (_state == "waiting") & deliveries.c.tier.is_(None) & (deliveries.c.step > 1)
_index_some("under_way", IS_RELEASED, deliveries.c.webhook_id)
# Nearly all are delivered, so a list of delivered ones needs no index on the state. A query uses these indexes only
# with exactly this expression: the planner cannot know that a parameter has another value than 'delivered'.
IS_NOT_DELIVERED = _state != literal_column("'delivered'")
_index_some("webhook_state", IS_NOT_DELIVERED, deliveries.c.webhook_id, _state, *_seen_order)
_index_some("account_state", IS_NOT_DELIVERED, deliveries.c.account_id, _state, *_seen_order)
# The deliveries that retention may delete.
IS_DONE = _state.in_((literal_column("'delivered'"), literal_column("'discarded'"), literal_column("'failed'")))
_index_some("done", IS_DONE, deliveries.c.changed_at)


def newest_change(at: ColumnElement[Any]) -> ColumnElement[Any]:
    """`changed_at` after a change at this time. It never goes back, although clocks differ: see `DeliveryFilter`."""
    return case((deliveries.c.changed_at > at, deliveries.c.changed_at), else_=at)


# Each pause, with the choice for its held deliveries, which is NULL until the pause ends.
pauses = Table(
    "pauses",
    metadata,
    Column("id", Text, primary_key=True),
    Column("webhook_id", Text, nullable=False, index=True),
    Column("reason", Text, nullable=False),
    Column("began_at", Moment, nullable=False),
    Column("ended_at", Moment),
    Column("choice", Text),
)

attempts = Table(
    "attempts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("delivery_id", Text, nullable=False, index=True),
    Column("webhook_id", Text, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("number", Integer, nullable=False),
    Column("trigger", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("started_at", Moment, nullable=False),
    Column("ended_at", Moment, nullable=False),
    Column("request_headers", Json, nullable=False),
    Column("status", Integer),
    Column("response_headers", Json, nullable=False),
    Column("response_body", LargeBinary, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("next_step", Text, nullable=False),
    Column("tier", Text),
    Column("webhook_version", BigInteger, nullable=False),
    # The fields of `data` that were sent; null means all.
    Column("fields", Json(none_as_null=True)),
    # Copied from the delivery for a failed attempt; nobody searches for the other attempts.
    Column("account_id", Text),
    Column("first_seen_at", Moment),
)


# Few attempts fail, and people search only for failed ones.
def is_failed(outcome: ColumnElement[str]) -> ColumnElement[bool]:
    """The exact condition of the indexes: a planner cannot know that a parameter has this value."""
    return outcome != literal_column("'delivered'")


IS_FAILED = is_failed(attempts.c.outcome)


def _index_failed(name: str, *columns: Column[Any]) -> None:
    Index(f"ix_attempts_{name}", *columns, postgresql_where=IS_FAILED, sqlite_where=IS_FAILED)


_attempt = attempts.c
_index_failed("failed", _attempt.webhook_id, _attempt.started_at)
# The index has all columns to find deliveries by a failure, in the order of their list.
_index_failed(
    "failed_account",
    _attempt.account_id,
    _attempt.first_seen_at,
    _attempt.delivery_id,
    _attempt.outcome,
    _attempt.status,
)

webhook_health = Table(
    "webhook_health",
    metadata,
    Column("webhook_id", Text, primary_key=True),
    Column("epoch", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("first_failed_at", Moment),
    Column("last_failed_at", Moment),
    Column("last_status", Integer),
    Column("last_message", Text),
)
_is_failing = webhook_health.c.failures > 0
Index(
    "ix_webhook_health_failing",
    webhook_health.c.first_failed_at,
    postgresql_where=_is_failing,
    sqlite_where=_is_failing,
)

# Attempts added up by webhook, hour and outcome.
hourly_attempts = Table(
    "hourly_attempts",
    metadata,
    Column("webhook_id", Text, primary_key=True),
    Column("hour", Moment, primary_key=True),
    Column("outcome", Text, primary_key=True),
    Column("attempts", BigInteger, nullable=False),
    Column("milliseconds", Float, nullable=False),
    Column("slowest_ms", Float, nullable=False),
    Column("last_at", Moment, nullable=False),
    Index(None, "hour"),
)

# A histogram of response times by webhook and hour; `up_to_ms` is the upper bound of a bucket.
response_times = Table(
    "response_times",
    metadata,
    Column("webhook_id", Text, primary_key=True),
    Column("hour", Moment, primary_key=True),
    Column("up_to_ms", Integer, primary_key=True),
    Column("attempts", BigInteger, nullable=False),
    Index(None, "hour"),
)
