"""What is held: what becomes of it once its webhook can take it, and how much is sent on at once."""

from dataclasses import dataclass
from enum import StrEnum

from streams.core.delivery import Delivery, State

ROOM = 500
FIRST_ROOM = 8
LONGEST_REST_SECONDS = 30.0


class HeldChoice(StrEnum):
    """What the person who ended a pause decided for what it holds, late arrivals included (R10)."""

    DELIVER = "deliver"
    KEEP = "keep"
    DISCARD = "discard"


@dataclass(frozen=True, slots=True)
class Held:
    """A delivery that is held although its webhook can take it, and what is to become of it."""

    delivery: Delivery
    choice: HeldChoice


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a delivery has come, and by which of its records."""

    delivery_id: str
    state: State
    generation: int
    step: int


@dataclass(frozen=True, slots=True)
class Room:
    """How many deliveries may be sent on to one webhook and not yet be attempted.

    It finds the endpoint's pace: it doubles (up to 500) while what was sent on is attempted. It halves when
    `deliver` had to hold some of it again, and then nothing is sent on for a while, each time for longer.
    """

    size: int = FIRST_ROOM
    attempted: int = 0
    rest_seconds: float = 0.0

    def after(self, attempted: int, held_again: int) -> "Room":
        """The room once it is known what became of some that were sent on."""
        if held_again:
            return Room(max(1, self.size // 2), 0, min(LONGEST_REST_SECONDS, max(1.0, 2 * self.rest_seconds)))
        total = self.attempted + attempted
        rest = 0.0 if attempted else self.rest_seconds
        return Room(min(ROOM, 2 * self.size), 0, rest) if 2 * total >= self.size else Room(self.size, total, rest)
