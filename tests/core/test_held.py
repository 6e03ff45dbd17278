"""The number of held deliveries released at once follows the pace of the endpoint."""

from hypothesis import given
from hypothesis import strategies as st

from streams.core.deliveries.held import MAX_BACKOFF_SECONDS, MAX_RELEASE_WINDOW, START_RELEASE_WINDOW, ReleaseWindow

OUTCOMES = st.lists(st.tuples(st.integers(0, 600), st.integers(0, 600)), max_size=40)


def test_the_room_doubles_up_to_500() -> None:
    room = ReleaseWindow()
    sizes = []
    for _ in range(8):
        room = room.adapt(room.size, 0)
        sizes.append(room.size)
    assert sizes == [16, 32, 64, 128, 256, 500, 500, 500]


def test_the_room_doubles_when_few_are_attempted_at_a_time() -> None:
    room = ReleaseWindow()
    for _ in range(START_RELEASE_WINDOW // 2):
        room = room.adapt(1, 0)
    assert room.size == 2 * START_RELEASE_WINDOW


def test_the_room_stays_while_no_attempt_ends() -> None:
    assert ReleaseWindow(64).adapt(0, 0) == ReleaseWindow(64)


def test_the_room_halves_when_some_are_held_again() -> None:
    assert ReleaseWindow(64).adapt(10, 1).size == 32
    assert ReleaseWindow(1).adapt(0, 1).size == 1


def test_the_rest_doubles_with_each_hold() -> None:
    room, rests = ReleaseWindow(), []
    for _ in range(7):
        room = room.adapt(0, 1)
        rests.append(room.backoff_seconds)
    assert rests == [1, 2, 4, 8, 16, 30, 30]
    assert room.adapt(0, 0).backoff_seconds == 30
    assert room.adapt(1, 0).backoff_seconds == 0


@given(OUTCOMES)
def test_the_room_stays_between_1_and_500(outcomes: list[tuple[int, int]]) -> None:
    room = ReleaseWindow()
    for attempted, held_again in outcomes:
        room = room.adapt(attempted, held_again)
        assert 1 <= room.size <= MAX_RELEASE_WINDOW
        assert 0 <= room.backoff_seconds <= MAX_BACKOFF_SECONDS
