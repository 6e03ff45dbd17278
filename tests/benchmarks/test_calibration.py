"""The speed of the machine around a run tells whether its figures can be trusted."""

import pytest

from bench.calibration import Speed, is_steady, speed


@pytest.mark.parametrize("after", [(10.0, 5.0), (11.4, 5.0), (8.8, 5.7)])
def test_a_small_change_of_speed_is_steady(after: tuple[float, float]) -> None:
    assert is_steady(of(10, 5), of(*after))


@pytest.mark.parametrize("after", [(11.6, 5.0), (8.6, 5.0), (10.0, 6.0), (10.0, 4.0)])
def test_a_larger_one_of_either_loop_is_not(after: tuple[float, float]) -> None:
    assert not is_steady(of(10, 5), of(*after))


def test_both_loops_take_a_measurable_time() -> None:
    found = speed()
    assert found["python_ms"] > 1
    assert found["calls_ms"] > 1


def of(python_ms: float, calls_ms: float) -> Speed:
    return {"python_ms": python_ms, "calls_ms": calls_ms}
