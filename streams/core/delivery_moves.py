"""The state machine of a delivery: what moves it from one state to another."""

from collections.abc import Mapping
from enum import StrEnum

from streams.core.attempt import NextStep
from streams.core.delivery import State
from streams.core.held import HeldChoice


class Act(StrEnum):
    """What a person, or `maintain` for one, does to a delivery in SQL."""

    REPLAY = "replay"
    # The value of a cause is unlike those of the other kinds: they are equal as keys otherwise.
    DISCARD = "discard dead letter"
    ERASE = "erase"


# (state, what moves it) -> the state after it: a decision of `deliver`, the choice for what a pause held, or an act.
# A test that fails or is given up moves by FAILED; a delivery that can never be released by DEAD. An erasure leaves the
# other states as they are.
MOVES: Mapping[tuple[State, NextStep | HeldChoice | Act], State] = {
    (State.WAITING, NextStep.DONE): State.DELIVERED,
    (State.WAITING, NextStep.TIER): State.WAITING,
    (State.WAITING, NextStep.FALLBACK): State.WAITING,
    (State.WAITING, NextStep.HELD): State.HELD,
    (State.WAITING, NextStep.DEAD): State.DEAD,
    (State.WAITING, NextStep.FAILED): State.FAILED,
    (State.HELD, HeldChoice.DELIVER): State.WAITING,
    (State.HELD, HeldChoice.KEEP): State.DEAD,
    (State.HELD, HeldChoice.DISCARD): State.DISCARDED,
    (State.HELD, NextStep.DEAD): State.DEAD,
    (State.WAITING, Act.REPLAY): State.HELD,
    (State.DELIVERED, Act.REPLAY): State.HELD,
    (State.DEAD, Act.REPLAY): State.HELD,
    (State.DISCARDED, Act.REPLAY): State.HELD,
    (State.DEAD, Act.DISCARD): State.DISCARDED,
    (State.WAITING, Act.ERASE): State.DISCARDED,
    (State.HELD, Act.ERASE): State.DISCARDED,
    (State.DEAD, Act.ERASE): State.DISCARDED,
}
