"""What counts as growth in a soak."""

from collections.abc import Callable

from chaos.soak import Growth, Sample, growth

SECONDS = range(0, 3600, 10)


def watched(memory_mb: Callable[[int], float], open_files: Callable[[int], int]) -> Growth:
    """A process over one hour, by what it has at each second."""
    return growth("deliver", [Sample(at / 3600, memory_mb(at), open_files(at)) for at in SECONDS])


def test_memory_that_goes_up_and_down_does_not_grow() -> None:
    found = watched(lambda at: 150 + at // 10 % 7, lambda at: 40 + at // 10 % 5)
    assert abs(found.mb_an_hour) < 1
    assert found.more_open_files == 0
    assert found.is_bounded


def test_a_leak_of_a_megabyte_in_three_minutes_is_found() -> None:
    found = watched(lambda at: 150 + at / 180 + at // 10 % 7, lambda _: 40)
    assert round(found.mb_an_hour) == 20
    assert not found.is_bounded


def test_files_that_stay_open_are_found() -> None:
    found = watched(lambda _: 150, lambda at: 40 + at // 200)
    assert found.more_open_files > 10
    assert not found.is_bounded


def test_a_short_peak_of_open_files_is_no_growth() -> None:
    assert watched(lambda _: 150, lambda at: 400 if 3000 < at < 3100 else 40).is_bounded
