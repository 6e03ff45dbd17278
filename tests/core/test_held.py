"""The number of held deliveries released at once follows the pace of the endpoint."""

from hypothesis import given
from hypothesis import strategies as st

from streams.core.held import FIRST_ROOM, MAX_REST_SECONDS, ROOM, Room

OUTCOMES = st.lists(st.tuples(st.integers(0, 600), st.integers(0, 600)), max_size=40)


def test_the_room_doubles_up_to_500() -> None:
    room = Room()
    sizes = []
    for _ in range(8):
        room = room.adapted(room.size, 0)
        sizes.append(room.size)
    assert sizes == [16, 32, 64, 128, 256, 500, 500, 500]


def test_the_room_doubles_when_few_are_attempted_at_a_time() -> None:
    room = Room()
    for _ in range(FIRST_ROOM // 2):
        room = room.adapted(1, 0)
    assert room.size == 2 * FIRST_ROOM


def test_the_room_stays_while_no_attempt_ends() -> None:
    assert Room(64).adapted(0, 0) == Room(64)


def test_the_room_halves_when_some_are_held_again() -> None:
    assert Room(64).adapted(10, 1).size == 32
    assert Room(1).adapted(0, 1).size == 1


def test_the_rest_doubles_with_each_hold() -> None:
    room, rests = Room(), []
    for _ in range(7):
        room = room.adapted(0, 1)
        rests.append(room.rest_seconds)
    assert rests == [1, 2, 4, 8, 16, 30, 30]
    assert room.adapted(0, 0).rest_seconds == 30
    assert room.adapted(1, 0).rest_seconds == 0


@given(OUTCOMES)
def test_the_room_stays_between_1_and_500(outcomes: list[tuple[int, int]]) -> None:
    room = Room()
    for attempted, held_again in outcomes:
        room = room.adapted(attempted, held_again)
        assert 1 <= room.size <= ROOM
        assert 0 <= room.rest_seconds <= MAX_REST_SECONDS
