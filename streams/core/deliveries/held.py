"""Held deliveries: the choice after a pause, and how many are released at once."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from streams.core.deliveries.delivery import Delivery, State

MAX_RELEASE_WINDOW = 500
START_RELEASE_WINDOW = 8
MAX_BACKOFF_SECONDS = 30.0


class HeldChoice(StrEnum):
    """The choice for a pause's held deliveries, made by the person who ends the pause. Late ones are included.

    A probe that ends it delivers them.
    """

    DELIVER = "deliver"
    KEEP = "keep"
    DISCARD = "discard"


@dataclass(frozen=True, slots=True)
class HeldDelivery:
    """A held delivery of a webhook that can receive it, and the choice for it.

    `is_unacknowledged` means that no reader acknowledged it in time, or before its temporary webhook ended.
    """

    delivery: Delivery
    choice: HeldChoice
    is_unacknowledged: bool = False


@dataclass(frozen=True, slots=True)
class PulledWebhook:
    """A webhook with deliveries that wait for readers. It may meanwhile have a URL, or be deleted.

    `enabled_at` is the end of its newest pause. None of its deliveries began to wait before `oldest_at`. `has_ended`
    means that it was temporary, and is deleted.
    """

    id: str
    is_pull: bool
    is_active: bool
    has_ended: bool
    enabled_at: datetime | None
    oldest_at: datetime | None


@dataclass(frozen=True, slots=True)
class Probe:
    """A held delivery that is tried during the pause with this id."""

    delivery: Delivery
    pause_id: str


@dataclass(frozen=True, slots=True)
class ReleaseProgress:
    """The state of a delivery, and the record (generation, step) that it comes from.

    `is_for_readers` means that it waits for the readers of a pull webhook.
    """

    delivery_id: str
    state: State
    generation: int
    step: int
    is_for_readers: bool = False


@dataclass(frozen=True, slots=True)
class ReleaseWindow:
    """How many released deliveries of one webhook may wait for their attempt.

    It adapts to the endpoint's pace: it doubles (up to 500) while released deliveries are attempted. It halves when
    `deliver` holds some of them again; then nothing is released for a while, longer each time.
    """

    size: int = START_RELEASE_WINDOW
    attempted_count: int = 0
    backoff_seconds: float = 0.0

    def adapt(self, attempted_count: int, held_again_count: int) -> "ReleaseWindow":
        """The window after these results of released deliveries."""
        if held_again_count:
            return ReleaseWindow(
                max(1, self.size // 2), 0, min(MAX_BACKOFF_SECONDS, max(1.0, 2 * self.backoff_seconds))
            )
        total = self.attempted_count + attempted_count
        backoff_seconds = 0.0 if attempted_count else self.backoff_seconds
        return (
            ReleaseWindow(min(MAX_RELEASE_WINDOW, 2 * self.size), 0, backoff_seconds)
            if 2 * total >= self.size
            else ReleaseWindow(self.size, total, backoff_seconds)
        )
