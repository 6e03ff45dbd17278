"""`make flaky` keeps its state, and begins again after a failure."""

from pathlib import Path

import flaky
import pytest
from flaky import RUNS, Run, Series

PASSED = Run("abc", "2026-11-29", 7, False, 12.5)


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(flaky, "STATE", tmp_path / "state.json")
    # The image's Python has no git beside it.
    monkeypatch.setattr(flaky, "_commit", lambda: "abc")
    return tmp_path / "log"


class Player:
    """Plays commands by a script of outputs: an empty one passes. Keeps who was busy."""

    def __init__(self, *script: str) -> None:
        self.script = list(script)
        self.commands: list[list[str]] = []
        self.busy: list[bool] = []

    def play(self, command: list[str], busy: bool, log: Path) -> tuple[int, float]:
        self.commands.append(command)
        self.busy.append(busy)
        output = self.script.pop(0) if self.script else ""
        log.write_text(output)
        return (1 if output else 0), 12.5


def test_six_runs_pass_half_of_them_beside_busy_loops(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    player, series = Player(), Series()
    monkeypatch.setattr(flaky, "play", player.play)
    assert flaky.run_all(series, log)
    assert player.busy == [False, True] * 3
    assert len({run.seed for run in series.runs}) == RUNS


def test_a_stopped_series_goes_on(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    player = Player()
    monkeypatch.setattr(flaky, "play", player.play)
    Series([PASSED] * 4).save(log)
    assert flaky.run_all(Series.load(log), log)
    assert len(player.commands) == 2


def test_a_failure_repeats_its_files_and_begins_again(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    player = Player("", "FAILED tests/core/test_event.py::test_one - boom\nERROR tests/core/test_ids.py::test_two\n")
    monkeypatch.setattr(flaky, "play", player.play)
    series = Series()
    assert not flaky.run_all(series, log)
    assert series.runs == []
    assert series.failed == ["tests/core/test_event.py", "tests/core/test_ids.py"]
    assert flaky.repeat_failed(series, log)
    assert len(player.commands) == 2 + flaky.REPEATS
    assert player.commands[-1][-2:] == ["tests/core/test_event.py", "tests/core/test_ids.py"]
    assert series == Series()


def test_a_file_that_fails_again_stays_on_the_list(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    player = Player("", "FAILED tests/core/test_event.py::test_one\n")
    monkeypatch.setattr(flaky, "play", player.play)
    series = Series(failed=["tests/core/test_event.py"])
    assert not flaky.repeat_failed(series, log)
    assert (series.failed, series.repeats) == (["tests/core/test_event.py"], 0)


def test_a_busy_loop_ends_with_its_block() -> None:
    with flaky.busy_loops(1):
        pass
