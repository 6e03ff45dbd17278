"""Models of deliveries, dead letters and jobs."""

from functools import partial
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StringConstraints

from api.shared_models import Id, Input, Model, Moment, Rounded, SearchText, Time, at_most
from streams.core.accounts.account import DeliveryDetails, DeliveryFilter
from streams.core.deliveries.delivery import DeathReason, State, Target, Trigger
from streams.core.deliveries.delivery_state import DeliveryState
from streams.core.deliveries.job import Job, JobKind, JobStatus
from streams.core.deliveries.outcome import OutcomeKind
from streams.core.errors import FieldError, Invalid
from streams.core.events.event import parse_pair
from streams.core.events.event_data import EVENT_TYPE_FORM
from streams.core.page import MAX_PAGE_ROWS
from streams.features.deliveries.service import EventStatus as StoredStatus

EventType = Annotated[str, StringConstraints(pattern=f"^{EVENT_TYPE_FORM}$"), Field(examples=["session.completed"])]


class Delivery(Model):
    """One event owed to one webhook, with its state."""

    id: str
    account_id: str
    webhook_id: str
    event_id: str
    event_type: str
    trigger: Trigger
    state: State
    reason: Annotated[
        str | None, Field(description="Why it is held or dead. `erased` once its learner was erased.")
    ] = None
    message: Annotated[str | None, Field(description="The same for a person.")] = None
    attempt_count: Annotated[int, Field(description="Attempts made in this generation.")]
    generation: Annotated[int, Field(description="1, and one more for each replay and for an erasure.")]
    target: Target
    tier: str | None = None
    due_at: Time | None = None
    first_seen_at: Time
    changed_at: Time


class Attempt(Model):
    """One attempt; the response's body is shown up to 4 KiB.

    A key without `webhooks:write` gets `url` without its query, and no headers and no body.
    """

    generation: int
    number: int
    target: Target
    url: str
    started_at: Time
    milliseconds: Rounded
    request_headers: dict[str, str]
    status: int | None = None
    response_headers: dict[str, str]
    response_body: Annotated[str, BeforeValidator(partial(bytes.decode, errors="replace"))]
    outcome: str
    message: str
    next_step: Annotated[
        str, Field(description="What followed: done, tier, fallback, held, dead, or failed for a test.")
    ]
    tier: str | None = None
    webhook_version: Annotated[int, Field(description="The `version` of the webhook whose settings applied.")]
    fields: Annotated[
        list[str] | None, Field(description="The fields of `data` that were sent; absent: all of them.")
    ] = None


class DeliveryWithAttempts(Delivery):
    """A delivery with its payload and its newest attempts, oldest first: at most 50."""

    payload: Annotated[
        Any,
        Field(
            description="The body that the newest attempt sent, or that the first one would send. "
            "Absent until it is stored, after retention, and once erased."
        ),
    ] = None
    attempts: list[Attempt]
    attempts_total: Annotated[int, Field(description="Attempts made in all generations.")]
    earlier_attempts_cursor: Annotated[
        str | None,
        Field(
            description="The `cursor` of the list of attempts that begins before these; absent without earlier ones."
        ),
    ] = None


class EventStatus(Model):
    """The status of an event at a webhook, which a receiver can compare with its own records."""

    id: Annotated[str, Field(description="The id of the delivery.")]
    event_id: str
    event_type: str
    sequence: Annotated[
        int | None, Field(description="`data.sequence` of the event; absent without one, and after retention.")
    ] = None
    state: State
    target: Annotated[
        Target, Field(description="The URL that was tried last. If the event is delivered, this URL got it.")
    ]
    attempt_count: int
    first_seen_at: Time
    changed_at: Annotated[Time, Field(description="When it came into this state.")]


class RetryFilter(Input):
    """A filter of deliveries to send again; it has at least one field besides `changedUntil`.

    Without `state` it selects delivered, dead and discarded deliveries.
    """

    webhook_id: Id | None = None
    event_id: Id | None = None
    event_type: EventType | None = None
    state: Annotated[
        Annotated[State, Field(strict=False)] | None,
        Field(description="delivered, dead or discarded; or waiting, for those that wait for a retry."),
    ] = None
    reason: Annotated[DeathReason, Field(strict=False)] | None = None
    outcome: Annotated[
        Annotated[OutcomeKind, Field(strict=False)] | None,
        Field(description="Only with an attempt that failed in this way."),
    ] = None
    session_id: Id | None = None
    learner_id: SearchText | None = None
    package_id: Id | None = None
    dispatch_id: Id | None = None
    metadata: Annotated[
        SearchText | None,
        Field(description="Only of events with this pair of metadata.", examples=["department=sales"]),
    ] = None
    since: Moment | None = None
    until: Moment | None = None
    changed_until: Annotated[
        Moment | None, Field(description="Only those that changed then or before; now by default.")
    ] = None

    def to_filter(self) -> DeliveryFilter:
        """The filter for services. Raises `Invalid`."""
        if self.outcome is OutcomeKind.DELIVERED:
            raise Invalid(FieldError("outcome", "names a failure: for delivered ones use the state delivered"))
        metadata = None if self.metadata is None else parse_pair(self.metadata)
        return DeliveryFilter(**{**dict(self), "metadata": metadata})


RETRY_EXAMPLES: dict[str, Any] = {
    "ids": {"summary": "These deliveries", "value": {"ids": ["2f1c6a5e-8f0d-5a53-9c0e-0d7c4f5b6a11"]}},
    "count": {
        "summary": "How many match",
        "value": {"filter": {"outcome": "timeout", "since": "2026-04-10T12:00:00Z"}, "countOnly": True},
    },
    "filter": {
        "summary": "All that match",
        "value": {"filter": {"webhookId": "wh_01HYX9K2M3N4P5Q6R7S8T9V0W1", "state": "delivered"}},
    },
}


class DeliveryChoice(Input):
    """Either `ids` or a `filter`."""

    ids: Annotated[list[Id], Field(min_length=1, max_length=MAX_PAGE_ROWS), at_most(MAX_PAGE_ROWS, "ids")] | None = None
    filter: RetryFilter | None = None
    count_only: Annotated[bool, Field(description="With a `filter`: only count; start nothing.")] = False


class DeliveryCount(Model):
    """How many deliveries a retry would send again, and across how many webhooks."""

    count: int
    at_least: Annotated[bool, Field(description="True when the count stopped at 10 000: there are more.")]
    webhooks: int
    undeliverable: Annotated[int, Field(description="Those of deleted webhooks, which cannot be sent.")]
    oldest_at: Annotated[Time | None, Field(description="When the oldest of them was first seen.")] = None
    counted_at: Annotated[Time, Field(description="As `changedUntil` of a job, it leaves out what came later.")]


class DeadLetterFilter(Input):
    """A filter of dead letters. An empty filter matches all dead letters of the account."""

    webhook_id: Id | None = None
    event_id: Id | None = None
    event_type: EventType | None = None
    reason: Annotated[DeathReason, Field(strict=False)] | None = None
    since: Moment | None = None
    until: Moment | None = None
    changed_until: Annotated[
        Moment | None, Field(description="Only those that changed then or before; now by default.")
    ] = None

    def to_filter(self) -> DeliveryFilter:
        """The filter for services."""
        return DeliveryFilter(**dict(self))


class DeadLetterChoice(Input):
    """Either `ids` or a `filter`."""

    ids: Annotated[list[Id], Field(min_length=1, max_length=MAX_PAGE_ROWS), at_most(MAX_PAGE_ROWS, "ids")] | None = None
    filter: DeadLetterFilter | None = None
    count_only: Annotated[bool, Field(description="With a `filter`: only count; start nothing.")] = False


class DeadLetterCount(Model):
    """How many dead letters match a filter, and across how many webhooks."""

    count: int
    webhooks: int
    counted_at: Annotated[Time, Field(description="As `changedUntil` of a job, it leaves out what came later.")]


class AffectedDeliveries(Model):
    """The affected deliveries. An id in neither list is a delivery that the action does not apply to."""

    ids: list[str]
    unknown: Annotated[list[str], Field(description="Ids in the request that the account does not have.")]


class BackfillDetails(Model):
    """The part of a replay that adds deliveries from the topic; it begins after the stored ones."""

    records: Annotated[int, Field(description="Records of the topic in this period, of every account.")]
    read: Annotated[int, Field(description="How many of them are read.")]
    added: Annotated[int, Field(description="Deliveries that it made.")]
    skipped: Annotated[int, Field(description="Events that had a delivery.")]
    oldest_available: Annotated[
        Time | None, Field(description="Events before this time may be gone from the topic.")
    ] = None


class JobDetails(Model):
    """An action on many deliveries; `finishedAt` is absent while it runs.

    `done` deliveries are on their way: each is sent as soon as its endpoint can take it.
    """

    id: str
    kind: JobKind
    status: JobStatus
    webhook_id: str | None = None
    total: int
    done: int
    failed: Annotated[int, Field(description="Deliveries whose webhook or payload does not exist.")]
    unmatched: Annotated[
        int,
        Field(description="Deliveries that changed before the job came to them: sent again, erased or deleted."),
    ]
    created_at: Time
    finished_at: Time | None = None
    waits_until: Annotated[
        Time | None,
        Field(description="A replay goes on until this time, because events of its period may be stored so late."),
    ] = None
    backfill: Annotated[BackfillDetails | None, Field(description="Of a replay with `backfill`.")] = None


def delivery_of(delivery_state: DeliveryState) -> Delivery:
    """A delivery."""
    return Delivery.of(delivery_state, id=delivery_state.delivery_id, attempt_count=delivery_state.attempts)


def event_status_of(status: StoredStatus) -> EventStatus:
    """The status of an event."""
    return EventStatus.of(status, delivery_of(status.delivery_state))


def delivery_with_attempts(details: DeliveryDetails) -> DeliveryWithAttempts:
    """A delivery with its payload and attempts."""
    return DeliveryWithAttempts.of(
        details,
        delivery_of(details.delivery_state),
        earlier_attempts_cursor=str(details.earlier_cursor) if details.earlier_cursor else None,
    )


def job_of(job: Job) -> JobDetails:
    """A job."""
    return JobDetails.of(job, job.filter)
