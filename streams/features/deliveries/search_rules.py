"""The counts of values that a list of deliveries could be narrowed to, and its last attempts."""

from dataclasses import dataclass
from enum import StrEnum

from streams.core.deliveries.delivery import State

# A count that would take longer says "10 000+".
MAX_COUNTED_DELIVERIES = 10_000
# Facets look at this many.
MAX_SAMPLED_DELIVERIES = 2_000
# The limit if each match costs a look-up: for a session, a package, a kind of failure.
MAX_LOOKUPS = 500


@dataclass(frozen=True, slots=True)
class FacetCount:
    """How many deliveries have the same state, event type and webhook."""

    state: State
    event_type: str
    webhook_id: str
    count: int


@dataclass(frozen=True, slots=True)
class LastAttempt:
    """The status of a delivery's last attempt, None without a response, and its time in milliseconds."""

    status: int | None
    milliseconds: float
    outcome: str


class IdKind(StrEnum):
    """The kind of object that an id names."""

    DELIVERY = "delivery"
    EVENT = "event"
    SESSION = "session"
    LEARNER = "learner"
    PACKAGE = "package"
    DISPATCH = "dispatch"
