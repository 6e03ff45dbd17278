"""Which deliveries are sent again by a filter."""

from dataclasses import fields, replace

from streams.core.accounts.account import DeliveryFilter
from streams.core.deliveries.delivery import DeathReason, State
from streams.core.errors import FieldError, Invalid

# Without a state in the filter. Held and waiting deliveries are sent anyway.
RETRIED_STATES = (State.DELIVERED, State.DEAD, State.DISCARDED)
_WRONG_STATES = {
    State.HELD: "must not be held: held deliveries are sent without a retry",
    State.FAILED: "must not be failed: a test is not sent again, send a new one",
}
# A filter with only these fields would send everything again that an account ever received.
_NOT_NARROWING = {"account_id", "limit", "after", "changed_until"}


def to_retry_filter(delivery_filter: DeliveryFilter) -> DeliveryFilter:
    """The deliveries that match and can be sent again. Raises `Invalid`.

    Waiting ones are only sent again if the filter names this state, and only if they wait for a retry.
    """
    state = delivery_filter.state
    if state in _WRONG_STATES:
        raise Invalid(FieldError("state", _WRONG_STATES[state]))
    if delivery_filter == _only_not_narrowing(delivery_filter):
        raise Invalid(FieldError("filter", "must have a field, such as since, webhookId or state"))
    if state is None and delivery_filter.reason in list(DeathReason):
        state = State.DEAD
    return replace(
        delivery_filter,
        state=state,
        states=RETRIED_STATES if state is None else None,
        in_tier=state is State.WAITING,
        without_tests=True,
    )


def _only_not_narrowing(delivery_filter: DeliveryFilter) -> DeliveryFilter:
    names = (field.name for field in fields(DeliveryFilter) if field.name in _NOT_NARROWING)
    return DeliveryFilter(**{name: getattr(delivery_filter, name) for name in names})
