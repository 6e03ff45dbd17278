"""Read recorded deliveries."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, func, select

from streams.adapters.sql.database import Database
from streams.adapters.sql.keyset import newest_first, page_of, prefer_index_order
from streams.adapters.sql.tables import (
    FAILED,
    LEARNER_PREFIX,
    NOT_DELIVERED,
    attempts,
    deliveries,
    events,
    learner_prefix,
    webhooks,
)
from streams.core.account import AttemptDetails, DeliveryDetails, DeliveryFilter, DeliverySummary
from streams.core.delivery import State, Target, Trigger
from streams.core.delivery_state import DeliveryState, StateCount
from streams.core.event import EventSubjects
from streams.core.page import Cursor, Page


class SqlDeliveryLog:
    """A `DeliveryLog` in SQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self, wanted: DeliveryFilter) -> Page[DeliveryState]:
        query = select(deliveries).where(*matching(wanted))
        query = newest_first(query, deliveries.c.first_seen_at, deliveries.c.id, wanted.after, wanted.limit)
        async with self._database.reading() as connection:
            if has_ordered_index(wanted):
                await prefer_index_order(connection)
            found = [to_delivery_state(row) for row in await connection.execute(query)]
        return page_of(
            found, wanted.limit, lambda delivery_state: Cursor(delivery_state.first_seen_at, delivery_state.delivery_id)
        )

    async def find(self, delivery_id: str) -> DeliveryDetails | None:
        async with self._database.reading() as connection:
            row = (await connection.execute(select(deliveries).where(deliveries.c.id == delivery_id))).one_or_none()
            if row is None:
                return None
            body = await connection.scalar(
                select(events.c.body).where(events.c.account_id == row.account_id, events.c.event_id == row.event_id)
            )
            made = await connection.execute(
                select(attempts)
                .where(attempts.c.delivery_id == delivery_id)
                .order_by(attempts.c.generation, attempts.c.number)
            )
            return DeliveryDetails(to_delivery_state(row), body, [_attempt(attempt) for attempt in made])

    async def count_states(self) -> Mapping[str, Sequence[StateCount]]:
        place = (deliveries.c.webhook_id, deliveries.c.state, deliveries.c.tier, deliveries.c.reason)
        query = select(*place, func.count().label("how_many")).group_by(*place)
        state_counts: dict[str, list[StateCount]] = {}
        async with self._database.reading() as connection:
            for row in await connection.execute(query):
                count = StateCount(State(row.state), row.tier, row.reason, row.how_many)
                state_counts.setdefault(row.webhook_id, []).append(count)
        return state_counts

    async def summary(self, wanted: DeliveryFilter) -> DeliverySummary:
        seen = deliveries.c.first_seen_at
        figures = (func.count(), func.count(deliveries.c.webhook_id.distinct()), func.min(seen), func.max(seen))
        async with self._database.reading() as connection:
            return DeliverySummary(*(await connection.execute(select(*figures).where(*matching(wanted)))).one())

    async def existing(self, delivery_ids: Sequence[str]) -> Collection[str]:
        query = select(deliveries.c.id).where(deliveries.c.id.in_(delivery_ids))
        async with self._database.reading() as connection:
            return set(await connection.scalars(query))


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
        conditions.append(deliveries.c.trigger != Trigger.TEST)
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
    if wanted.outcome is not None or wanted.status_class is not None:
        conditions.append(deliveries.c.id.in_(_failed_attempts(wanted)))
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


def _failed_attempts(wanted: DeliveryFilter) -> Any:
    """The ids of deliveries with an attempt that failed in the wanted way."""
    made = attempts.c
    conditions: list[ColumnElement[bool]] = [FAILED]
    if wanted.webhook_id is not None:
        conditions.append(made.webhook_id == wanted.webhook_id)
    elif wanted.account_id is not None:
        of_account = select(webhooks.c.id).where(webhooks.c.account_id == wanted.account_id)
        conditions.append(made.webhook_id.in_(of_account))
    if wanted.outcome is not None:
        conditions.append(made.outcome == wanted.outcome)
    if wanted.status_class is not None:
        lowest = wanted.status_class * 100
        conditions.append(made.status.between(lowest, lowest + 99))
    if wanted.since is not None:
        # No attempt is older than its delivery.
        conditions.append(made.started_at >= wanted.since)
    return select(made.delivery_id).where(and_(*conditions))


def to_delivery_state(row: Any) -> DeliveryState:
    """The state in a row of `deliveries`."""
    return DeliveryState(
        delivery_id=row.id,
        account_id=row.account_id,
        event_id=row.event_id,
        event_type=row.event_type,
        webhook_id=row.webhook_id,
        trigger=Trigger(row.trigger),
        first_seen_at=row.first_seen_at,
        generation=row.generation,
        step=row.step,
        state=State(row.state),
        attempts=row.attempts,
        target=Target(row.target),
        changed_at=row.changed_at,
        tier=row.tier,
        due_at=row.due_at,
        reason=row.reason,
        message=row.message,
        pause_id=row.pause_id,
        target_attempt=row.target_attempt,
    )


def _attempt(row: Any) -> AttemptDetails:
    return AttemptDetails(
        generation=row.generation,
        number=row.number,
        target=row.target,
        url=row.url,
        started_at=row.started_at,
        milliseconds=(row.ended_at - row.started_at).total_seconds() * 1000,
        request_headers=row.request_headers,
        status=row.status,
        response_headers=row.response_headers,
        response_body=row.response_body,
        outcome=row.outcome,
        message=row.message,
        next_step=row.next_step,
        tier=row.tier,
    )
