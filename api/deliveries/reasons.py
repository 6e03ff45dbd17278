"""The reason why a delivery is held or was given up, in words."""

from collections.abc import Mapping

from streams.core.deliveries.delivery import DeathReason, HoldReason
from streams.core.deliveries.delivery_state import HELD_MESSAGES, DeliveryState
from streams.core.erasures.erasure import ERASED_MESSAGE, ERASED_REASON

REASON_MESSAGES: Mapping[str, str] = {
    **{str(reason): words for reason, words in HELD_MESSAGES.items()},
    DeathReason.EXHAUSTED: "All attempts failed.",
    DeathReason.DELETED: "Its webhook was deleted.",
    DeathReason.GONE: "The endpoint responded with 410 Gone.",
    DeathReason.EXPIRED: "It waited too long.",
    DeathReason.KEPT: "Kept when its webhook was enabled.",
    DeathReason.NOT_PULLED: "No reader acknowledged it in time.",
    DeathReason.REFUSED: "Kafka refused its record.",
    DeathReason.BROKER_RESTARTED: "The embedded broker restarted before it was sent.",
    ERASED_REASON: ERASED_MESSAGE,
}
# For these reasons the message has details: from the last attempt, from Kafka, or about something missing.
_REASONS_WITH_DETAILS = (None, DeathReason.EXHAUSTED, DeathReason.EXPIRED, DeathReason.REFUSED)


def reason_of(row: DeliveryState) -> str:
    """The reason as a sentence: `All 6 attempts failed.` Empty for a delivery that is neither held nor given up."""
    if row.reason == DeathReason.EXHAUSTED and row.attempts:
        return "Its only attempt failed." if row.attempts == 1 else f"All {row.attempts} attempts failed."
    if row.reason == HoldReason.PULL and row.message:
        # The message says whether a reader has leased it.
        return row.message
    return REASON_MESSAGES.get(row.reason, row.reason) if row.reason else ""


def details_of(row: DeliveryState) -> str:
    """The details that its message adds to its reason."""
    return row.message or "" if row.reason in _REASONS_WITH_DETAILS else ""
