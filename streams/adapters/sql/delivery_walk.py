"""The conditions of a filter of deliveries, and the index that leads to its matches in order."""

from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, exists, literal, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from streams.adapters.sql.erased_events import IS_NOT_ERASED
from streams.adapters.sql.keyset import prefer_index_order, prefer_look_ups
from streams.adapters.sql.tables import (
    LEARNER_PREFIX,
    NOT_DELIVERED,
    attempts,
    deliveries,
    events,
    failed,
    learner_prefix,
)
from streams.core.account import DeliveryFilter
from streams.core.delivery import State, Trigger
from streams.core.event import EventSubjects
from streams.core.page import Cursor


@dataclass(frozen=True, slots=True)
class Walk:
    """Deliveries, joined with what leads to them in order. `at` is the first column of that order.

    `is_direct` says that no other table leads to them, `has_index` that an index has the order.
    """

    source: Any
    at: ColumnElement[Any]
    conditions: list[ColumnElement[bool]]
    is_direct: bool
    has_index: bool = True

    def select(self, *columns: Any) -> Select[Any]:
        return select(*columns).select_from(self.source).where(*self.conditions)

    async def prepare(self, connection: AsyncConnection) -> None:
        """Keep the planner to this walk, in this transaction."""
        if not self.is_direct:
            await prefer_look_ups(connection)
        elif self.has_index:
            await prefer_index_order(connection)

    def newest_first(self, query: Select[Any], after: Cursor | None, limit: int) -> Select[Any]:
        """In order, behind the cursor. One extra row shows whether there is another page."""
        query = query.order_by(self.at.desc(), deliveries.c.id.desc()).limit(limit + 1)
        if after is None:
            return query
        moment = literal(after.at, deliveries.c.first_seen_at.type)
        behind = tuple_(self.at, deliveries.c.id) < tuple_(moment, literal(after.id, deliveries.c.id.type))
        # The index of another table has only the first half of the order.
        return query.where(behind) if self.is_direct else query.where(self.at <= moment, behind)


def walk_of(wanted: DeliveryFilter) -> Walk:
    """How to find the matches, newest first.

    A planner cannot know that the events of a package, or failed attempts, are in the order of their deliveries: it
    would collect and sort them all for each page.
    """
    account_id = wanted.account_id
    if account_id is not None and (subjects := subject_conditions(wanted.subjects)):
        known = events.c
        lead = (
            select(known.first_seen_at, known.event_id)
            .where(known.account_id == account_id, *subjects)
            .order_by(known.first_seen_at.desc(), known.event_id.desc())
            .subquery()
        )
        same = and_(deliveries.c.account_id == account_id, deliveries.c.event_id == lead.c.event_id)
        rest = replace(wanted, session_id=None, learner_id=None, package_id=None, dispatch_id=None)
        return Walk(lead.join(deliveries, same), lead.c.first_seen_at, matching(rest), is_direct=False)
    if account_id is not None and (failures := _failure_conditions(wanted)):
        made, other = attempts.c, attempts.alias("other")
        # Of an event that was published again, attempts may have several times: the delivery is listed by the newest.
        newer = exists().where(
            other.c.delivery_id == made.delivery_id,
            other.c.first_seen_at > made.first_seen_at,
            *_failure_conditions(wanted, other.c),
        )
        lead = (
            select(made.first_seen_at, made.delivery_id)
            .where(*failures, ~newer)
            .group_by(made.first_seen_at, made.delivery_id)
            .order_by(made.first_seen_at.desc(), made.delivery_id.desc())
            .subquery()
        )
        rest = replace(wanted, outcome=None, status_class=None)
        joined = lead.join(deliveries, deliveries.c.id == lead.c.delivery_id)
        return Walk(joined, lead.c.first_seen_at, matching(rest), is_direct=False)
    return Walk(deliveries, deliveries.c.first_seen_at, matching(wanted), True, has_ordered_index(wanted))


def has_ordered_index(wanted: DeliveryFilter) -> bool:
    """Whether an index has the matches in order. Those of an id, or that failed, are few: sort them."""
    few = (wanted.event_id, wanted.ids, *wanted.subjects, wanted.outcome, wanted.status_class)
    return all(value is None for value in few)


def matching(wanted: DeliveryFilter) -> list[ColumnElement[bool]]:
    """The conditions of a filter on `deliveries`, without its limit and cursor."""
    equal = (
        (deliveries.c.account_id, wanted.account_id),
        (deliveries.c.webhook_id, wanted.webhook_id),
        (deliveries.c.event_id, wanted.event_id),
        (deliveries.c.event_type, wanted.event_type),
        (deliveries.c.state, wanted.state),
        (deliveries.c.reason, wanted.reason),
    )
    conditions: list[ColumnElement[bool]] = [column == value for column, value in equal if value is not None]
    if wanted.state is not None and wanted.state is not State.DELIVERED:
        conditions.append(NOT_DELIVERED)
    if wanted.states is not None:
        conditions.append(deliveries.c.state.in_(wanted.states))
        if State.DELIVERED not in wanted.states:
            conditions.append(NOT_DELIVERED)
    if wanted.event_types is not None:
        conditions.append(deliveries.c.event_type.in_(wanted.event_types))
    if wanted.without_tests:
        conditions += [deliveries.c.trigger != Trigger.TEST, IS_NOT_ERASED]
    if wanted.ids is not None:
        conditions.append(deliveries.c.id.in_(wanted.ids))
    if wanted.since is not None:
        conditions.append(deliveries.c.first_seen_at >= wanted.since)
    if wanted.until is not None:
        conditions.append(deliveries.c.first_seen_at < wanted.until)
    if wanted.changed_until is not None:
        conditions.append(deliveries.c.changed_at <= wanted.changed_until)
    if wanted.in_tier:
        conditions.append(deliveries.c.tier.is_not(None))
    if subjects := subject_conditions(wanted.subjects):
        of_account = events.c.account_id == (wanted.account_id or deliveries.c.account_id)
        conditions.append(deliveries.c.event_id.in_(select(events.c.event_id).where(of_account, *subjects)))
    if failures := _failure_conditions(wanted):
        conditions.append(deliveries.c.id.in_(select(attempts.c.delivery_id).where(*failures)))
    return conditions


def subject_conditions(wanted: EventSubjects) -> list[ColumnElement[bool]]:
    """The conditions of a filter on `events`."""
    known = events.c
    equal = (
        (known.session_id, wanted.session_id),
        (known.learner_id, wanted.learner_id),
        (known.package_id, wanted.package_id),
        (known.dispatch_id, wanted.dispatch_id),
    )
    conditions: list[ColumnElement[bool]] = [column == value for column, value in equal if value is not None]
    if wanted.learner_id is not None:
        conditions.append(learner_prefix(known.learner_id) == wanted.learner_id[:LEARNER_PREFIX])
    return conditions


def _failure_conditions(wanted: DeliveryFilter, made: Any = attempts.c) -> list[ColumnElement[bool]]:
    """The conditions of a filter on the columns of `attempts`; empty when it asks for no failure."""
    if wanted.outcome is None and wanted.status_class is None:
        return []
    conditions: list[ColumnElement[bool]] = [failed(made.outcome)]
    if wanted.account_id is not None:
        conditions.append(made.account_id == wanted.account_id)
    if wanted.outcome is not None:
        conditions.append(made.outcome == wanted.outcome)
    if wanted.status_class is not None:
        lowest = wanted.status_class * 100
        conditions.append(made.status.between(lowest, lowest + 99))
    return conditions
