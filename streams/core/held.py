"""Held deliveries: what happens to them after a pause, and how many are released at once."""

from dataclasses import dataclass
from enum import StrEnum

from streams.core.delivery import Delivery, State

ROOM = 500
FIRST_ROOM = 8
MAX_REST_SECONDS = 30.0


class HeldChoice(StrEnum):
    """What the person who ends a pause chooses for its held deliveries, late ones included."""

    DELIVER = "deliver"
    KEEP = "keep"
    DISCARD = "discard"


@dataclass(frozen=True, slots=True)
class Held:
    """A held delivery of a webhook that can take it, and the choice for it."""

    delivery: Delivery
    choice: HeldChoice


@dataclass(frozen=True, slots=True)
class ReleaseProgress:
    """The state of a delivery, and the record (generation, step) that it comes from."""

    delivery_id: str
    state: State
    generation: int
    step: int


@dataclass(frozen=True, slots=True)
class Room:
    """How many released deliveries of one webhook may wait for their attempt.

    It adapts to the endpoint's pace: it doubles (up to 500) while released deliveries are attempted. It halves when
    `deliver` holds some of them again; then nothing is released for a while, longer each time.
    """

    size: int = FIRST_ROOM
    attempted: int = 0
    rest_seconds: float = 0.0

    def adapted(self, attempted: int, held_again: int) -> "Room":
        """The room after the results of some released deliveries are known."""
        if held_again:
            return Room(max(1, self.size // 2), 0, min(MAX_REST_SECONDS, max(1.0, 2 * self.rest_seconds)))
        total = self.attempted + attempted
        rest_seconds = 0.0 if attempted else self.rest_seconds
        return (
            Room(min(ROOM, 2 * self.size), 0, rest_seconds)
            if 2 * total >= self.size
            else Room(self.size, total, rest_seconds)
        )
