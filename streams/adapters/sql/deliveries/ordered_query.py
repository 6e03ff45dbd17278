"""The conditions of a filter of deliveries, and the index that leads to its matches in order."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, exists, literal, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from streams.adapters.sql.engine.keyset import prefer_index_order, prefer_lookups
from streams.adapters.sql.erasures.erased_events import IS_NOT_ERASED
from streams.adapters.sql.tables.accounts import accounts
from streams.adapters.sql.tables.deliveries import (
    IS_NOT_DELIVERED,
    LEARNER_PREFIX_CHARACTERS,
    attempts,
    deliveries,
    event_metadata,
    events,
    is_failed,
    learner_prefix,
)
from streams.core.accounts.account import DeliveryFilter
from streams.core.deliveries.delivery import State, Trigger
from streams.core.events.event import EventSubjects, metadata_hash
from streams.core.ids import delivery_id_range
from streams.core.page import Cursor


@dataclass(frozen=True, slots=True)
class OrderedQuery:
    """Deliveries, joined with the table that leads to them in order. `at` is the first column of that order.

    `is_direct` means that no other table leads to them, `has_index` that an index has the order.
    """

    source: Any
    at: ColumnElement[Any]
    conditions: list[ColumnElement[bool]]
    is_direct: bool
    has_index: bool = True

    def select(self, *columns: Any) -> Select[Any]:
        return select(*columns).select_from(self.source).where(*self.conditions)

    async def prepare(self, connection: AsyncConnection) -> None:
        """Make the planner keep this order in this transaction."""
        if not self.is_direct:
            await prefer_lookups(connection)
        if self.has_index:
            await prefer_index_order(connection)

    def select_newest(self, query: Select[Any], cursor: Cursor | None, limit: int) -> Select[Any]:
        """Rows in order, after the cursor. One extra row shows whether there is another page."""
        query = query.order_by(self.at.desc(), deliveries.c.id.desc()).limit(limit + 1)
        if cursor is None:
            return query
        moment = literal(cursor.at, deliveries.c.first_seen_at.type)
        is_older = tuple_(self.at, deliveries.c.id) < tuple_(moment, literal(cursor.id, deliveries.c.id.type))
        # The index of another table has only the first half of the order.
        return query.where(is_older) if self.is_direct else query.where(self.at <= moment, is_older)

    def select_oldest(self, query: Select[Any], limit: int, reached: datetime | None = None) -> Select[Any]:
        """Rows in the opposite order, of a query for the oldest. With `reached`, rows before this time are skipped."""
        query = query.order_by(self.at, deliveries.c.id).limit(limit)
        return query if reached is None else query.where(self.at >= literal(reached, deliveries.c.first_seen_at.type))


def ordered_query(delivery_filter: DeliveryFilter, *, is_oldest_first: bool = False) -> OrderedQuery:
    """How to find the matches, newest first or oldest first.

    A planner cannot know that the events of a package, or failed attempts, are in the order of their deliveries. It
    would collect and sort them all for each page.
    """
    account_id = delivery_filter.account_id

    def in_order(*columns: ColumnElement[Any]) -> Iterable[ColumnElement[Any]]:
        return columns if is_oldest_first else [column.desc() for column in columns]

    if account_id is not None and delivery_filter.metadata is not None:
        pairs = event_metadata.c
        leading_rows = (
            select(pairs.first_seen_at, pairs.event_id)
            .where(pairs.account_id == account_id, pairs.hash == metadata_hash(*delivery_filter.metadata))
            .order_by(*in_order(pairs.first_seen_at, pairs.event_id))
            .subquery()
        )
        is_of_event = and_(deliveries.c.account_id == account_id, deliveries.c.event_id == leading_rows.c.event_id)
        conditions = filter_conditions(replace(delivery_filter, metadata=None))
        return OrderedQuery(
            leading_rows.join(deliveries, is_of_event), leading_rows.c.first_seen_at, conditions, is_direct=False
        )
    if account_id is not None and (subjects := subject_conditions(delivery_filter.subjects)):
        columns = events.c
        leading_rows = (
            select(columns.first_seen_at, columns.event_id)
            .where(columns.account_id == account_id, *subjects)
            .order_by(*in_order(columns.first_seen_at, columns.event_id))
            .subquery()
        )
        is_of_event = and_(deliveries.c.account_id == account_id, deliveries.c.event_id == leading_rows.c.event_id)
        remaining_filter = replace(delivery_filter, session_id=None, learner_id=None, package_id=None, dispatch_id=None)
        return OrderedQuery(
            leading_rows.join(deliveries, is_of_event),
            leading_rows.c.first_seen_at,
            filter_conditions(remaining_filter),
            is_direct=False,
        )
    if account_id is not None and (failures := _failure_conditions(delivery_filter)):
        attempt_columns, other_attempts = attempts.c, attempts.alias("other")
        # If an event is published again, its attempts have different times: the newest counts.
        has_newer_attempt = exists().where(
            other_attempts.c.delivery_id == attempt_columns.delivery_id,
            other_attempts.c.first_seen_at > attempt_columns.first_seen_at,
            *_failure_conditions(delivery_filter, other_attempts.c),
        )
        leading_rows = (
            select(attempt_columns.first_seen_at, attempt_columns.delivery_id)
            .where(*failures, ~has_newer_attempt)
            .group_by(attempt_columns.first_seen_at, attempt_columns.delivery_id)
            .order_by(*in_order(attempt_columns.first_seen_at, attempt_columns.delivery_id))
            .subquery()
        )
        remaining_filter = replace(delivery_filter, outcome=None, status_class=None)
        joined_rows = leading_rows.join(deliveries, deliveries.c.id == leading_rows.c.delivery_id)
        return OrderedQuery(
            joined_rows, leading_rows.c.first_seen_at, filter_conditions(remaining_filter), is_direct=False
        )
    first_seen_at, conditions = deliveries.c.first_seen_at, filter_conditions(delivery_filter)
    if account_id is None and delivery_filter.event_id is not None:
        # The index on events' ids begins with the account: one look-up for each account, not a read of all deliveries.
        of_account = deliveries.c.account_id == accounts.c.id
        return OrderedQuery(accounts.join(deliveries, of_account), first_seen_at, conditions, is_direct=False)
    return OrderedQuery(deliveries, first_seen_at, conditions, True, has_ordered_index(delivery_filter))


def has_ordered_index(delivery_filter: DeliveryFilter) -> bool:
    """Whether an index has the matches in order. Matches of an id, and failed deliveries, are few: sort them."""
    selective_values = (
        delivery_filter.event_id,
        delivery_filter.ids,
        delivery_filter.short_id,
        delivery_filter.outcome,
        delivery_filter.status_class,
    )
    return delivery_filter.subjects.is_empty and all(value is None for value in selective_values)


def filter_conditions(delivery_filter: DeliveryFilter) -> list[ColumnElement[bool]]:
    """The conditions of a filter on `deliveries`, without its limit and cursor."""
    equal_values = (
        (deliveries.c.account_id, delivery_filter.account_id),
        (deliveries.c.webhook_id, delivery_filter.webhook_id),
        (deliveries.c.event_id, delivery_filter.event_id),
        (deliveries.c.event_type, delivery_filter.event_type),
        (deliveries.c.state, delivery_filter.state),
        (deliveries.c.reason, delivery_filter.reason),
    )
    conditions: list[ColumnElement[bool]] = [column == value for column, value in equal_values if value is not None]
    if delivery_filter.state is not None and delivery_filter.state is not State.DELIVERED:
        conditions.append(IS_NOT_DELIVERED)
    if delivery_filter.states is not None:
        conditions.append(deliveries.c.state.in_(delivery_filter.states))
        if State.DELIVERED not in delivery_filter.states:
            conditions.append(IS_NOT_DELIVERED)
    if delivery_filter.event_types is not None:
        conditions.append(deliveries.c.event_type.in_(delivery_filter.event_types))
    if delivery_filter.without_tests:
        conditions += [deliveries.c.trigger != Trigger.TEST, IS_NOT_ERASED]
    if delivery_filter.ids is not None:
        conditions.append(deliveries.c.id.in_(delivery_filter.ids))
    if delivery_filter.short_id is not None:
        conditions.append(deliveries.c.id.between(*delivery_id_range(delivery_filter.short_id)))
    if delivery_filter.since is not None:
        conditions.append(deliveries.c.first_seen_at >= delivery_filter.since)
    if delivery_filter.until is not None:
        conditions.append(deliveries.c.first_seen_at < delivery_filter.until)
    if delivery_filter.changed_until is not None:
        conditions.append(deliveries.c.changed_at <= delivery_filter.changed_until)
    if delivery_filter.in_tier:
        conditions.append(deliveries.c.tier.is_not(None))
    if subjects := subject_conditions(delivery_filter.subjects):
        of_account = events.c.account_id == (delivery_filter.account_id or deliveries.c.account_id)
        conditions.append(deliveries.c.event_id.in_(select(events.c.event_id).where(of_account, *subjects)))
    if failures := _failure_conditions(delivery_filter):
        conditions.append(deliveries.c.id.in_(select(attempts.c.delivery_id).where(*failures)))
    return conditions


def subject_conditions(subjects: EventSubjects) -> list[ColumnElement[bool]]:
    """The conditions of a filter on `events`."""
    columns = events.c
    equal_values = (
        (columns.session_id, subjects.session_id),
        (columns.learner_id, subjects.learner_id),
        (columns.package_id, subjects.package_id),
        (columns.dispatch_id, subjects.dispatch_id),
    )
    conditions: list[ColumnElement[bool]] = [column == value for column, value in equal_values if value is not None]
    if subjects.learner_id is not None:
        conditions.append(learner_prefix(columns.learner_id) == subjects.learner_id[:LEARNER_PREFIX_CHARACTERS])
    for pair in subjects.metadata:
        of_event = (event_metadata.c.account_id == columns.account_id) & (event_metadata.c.event_id == columns.event_id)
        conditions.append(exists().where(of_event, event_metadata.c.hash == pair))
    return conditions


def _failure_conditions(delivery_filter: DeliveryFilter, columns: Any = attempts.c) -> list[ColumnElement[bool]]:
    """The conditions of a filter on the columns of `attempts`; empty if it selects no failure."""
    if delivery_filter.outcome is None and delivery_filter.status_class is None:
        return []
    conditions: list[ColumnElement[bool]] = [is_failed(columns.outcome)]
    if delivery_filter.account_id is not None:
        conditions.append(columns.account_id == delivery_filter.account_id)
    if delivery_filter.outcome is not None:
        conditions.append(columns.outcome == delivery_filter.outcome)
    if delivery_filter.status_class is not None:
        lowest = delivery_filter.status_class * 100
        conditions.append(columns.status.between(lowest, lowest + 99))
    return conditions
