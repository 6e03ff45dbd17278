"""The speed of this machine at the moment, by two fixed loops, so that the runs of different hours can be judged."""

import os
import statistics
import time
from collections.abc import Callable
from typing import TypedDict

# A run between two speeds that differ by more than this share says more about the machine than about the program.
TOLERANCE = 0.15
_REPEATS = 7


class Speed(TypedDict):
    """Milliseconds of a fixed loop of Python, and of one of system calls."""

    python_ms: float
    calls_ms: float


def speed() -> Speed:
    """Measure it, in half a second."""
    return {"python_ms": _median_ms(_compute), "calls_ms": _median_ms(_call)}


def is_steady(before: Speed, after: Speed) -> bool:
    """Whether the machine was as fast after a run as before it."""
    pairs = ((before["python_ms"], after["python_ms"]), (before["calls_ms"], after["calls_ms"]))
    return all(max(pair) <= (1 + TOLERANCE) * min(pair) for pair in pairs)


def _median_ms(work: Callable[[], None]) -> float:
    took = []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        work()
        took.append(1000 * (time.perf_counter() - began))
    return round(statistics.median(took), 2)


def _compute() -> None:
    found: dict[str, int] = {}
    for number in range(100_000):
        name = str(number % 1000)
        found[name] = found.get(name, 0) + number


def _call() -> None:
    reading, writing = os.pipe()
    try:
        for _ in range(10_000):
            os.write(writing, b"x")
            os.read(reading, 1)
    finally:
        os.close(reading)
        os.close(writing)
