"""The state machine of a delivery: its transitions and their causes."""

from collections.abc import Mapping
from enum import StrEnum

from streams.core.deliveries.attempt import NextStep
from streams.core.deliveries.delivery import State
from streams.core.deliveries.held import HeldChoice


class Action(StrEnum):
    """An action on a delivery in SQL, by a person, a reader, or `maintain` on a person's behalf."""

    REPLAY = "replay"
    # Causes of different kinds need different values: equal values would be the same key.
    DISCARD = "discard dead letter"
    # By a reader of a pull webhook.
    ACKNOWLEDGE = "acknowledge"
    ERASE = "erase"


# (state, cause) -> next state. A cause is a decision of `deliver`, the choice for a pause's held deliveries, or an
# action. A test that fails or is given up moves by FAILED; a delivery that can never be released moves by DEAD. An
# erasure leaves the other states as they are.
TRANSITIONS: Mapping[tuple[State, NextStep | HeldChoice | Action], State] = {
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
    (State.HELD, Action.ACKNOWLEDGE): State.DELIVERED,
    (State.WAITING, Action.REPLAY): State.HELD,
    (State.DELIVERED, Action.REPLAY): State.HELD,
    (State.DEAD, Action.REPLAY): State.HELD,
    (State.DISCARDED, Action.REPLAY): State.HELD,
    (State.DEAD, Action.DISCARD): State.DISCARDED,
    (State.WAITING, Action.ERASE): State.DISCARDED,
    (State.HELD, Action.ERASE): State.DISCARDED,
    (State.DEAD, Action.ERASE): State.DISCARDED,
}
