"""A night plays each part, goes on after a failure, and writes its line."""

import sys
from pathlib import Path

import nights
import pytest
from nights import PARTS, Result, line_of, load, result_of

GOOD = Result("abc", 10.0, 100, 0)


@pytest.fixture
def night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A night whose parts are not played by `make`."""
    for name, path in (("FOLDER", tmp_path), ("RESULTS", tmp_path / "results.json"), ("NIGHTS", tmp_path / "NIGHTS")):
        monkeypatch.setattr(nights, name, path)
    (tmp_path / "NIGHTS").write_text("| date | commit |\n|---|---|\n")
    monkeypatch.setattr(nights, "commit_to_play", lambda: "abc")
    monkeypatch.setattr(nights, "has_changes", lambda: False)
    return tmp_path


class Player:
    """Keeps the parts that it was asked for; those of `red` fail."""

    def __init__(self, *red: str) -> None:
        self.red = red
        self.parts: list[str] = []

    def play(self, part: str, commit: str) -> Result:
        self.parts.append(part)
        return Result(commit, 10.0, 100, 2 if part in self.red else 0)


def run(monkeypatch: pytest.MonkeyPatch, player: Player, *arguments: str) -> int:
    monkeypatch.setattr(nights, "play", player.play)
    monkeypatch.setattr(sys, "argv", ["nights.py", *arguments])
    return nights.main()


def test_a_night_goes_on_after_a_failure(night: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    player = Player("chaos")
    assert run(monkeypatch, player) == 1
    assert player.parts == list(PARTS)
    assert nights.newest_night().endswith("| abc | 70 | 700 | 2 (chaos) | – |")


def test_a_stopped_night_goes_on(night: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nights.save(dict.fromkeys(list(PARTS)[:4], GOOD))
    player = Player()
    assert run(monkeypatch, player) == 0
    assert player.parts == list(PARTS)[4:]


def test_a_night_that_was_played_is_not_played_again(night: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nights.save(dict.fromkeys(PARTS, GOOD))
    player = Player()
    assert run(monkeypatch, player) == 0
    assert player.parts == []
    assert nights.newest_night() == ""


def test_after_a_correction_a_part_is_played_alone(night: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nights.save(dict.fromkeys(PARTS, Result("old", 10.0, 100, 0)))
    player = Player()
    assert run(monkeypatch, player, "night") == 0
    assert player.parts == ["night"]
    line = nights.newest_night()
    assert "| abc | 70 | 700 | 0 | day of old, pythons of old, chaos of old, " in line
    assert "night of" not in line


def test_there_is_no_line_before_every_part_was_played(night: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, Player(), "chaos") == 0
    assert nights.newest_night() == ""
    assert load().keys() == {"chaos"}


def test_an_unknown_part_is_named(
    night: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run(monkeypatch, Player(), "chaoss")
    assert "no such part: chaoss; there are day, night, pythons" in capsys.readouterr().err


def test_a_night_is_of_a_commit(
    night: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(nights, "has_changes", lambda: True)
    with pytest.raises(SystemExit):
        run(monkeypatch, Player())
    assert "changes without a commit" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "code", "counts"),
    [
        ("= 3 failed, 11958 passed, 39 skipped in 2791.12s (0:46:31) =", 1, (11958, 3)),
        ("6622 passed, 12 skipped in 194.03s (0:03:14)", 0, (6622, 0)),
        ("===== 1 passed, 2 errors in 3.10s =====", 1, (1, 2)),
        ("no test was played", 2, (0, 1)),
        ("it took 12 passed in time", 0, (0, 0)),
    ],
)
def test_the_counts_of_a_part_are_read(line: str, code: int, counts: tuple[int, int]) -> None:
    result = result_of([line], code, "abc", 1.0)
    assert (result.passed, result.failed) == counts


def test_what_is_not_built_here_is_named() -> None:
    left_out = result_of(["left out: tests on a real Kubernetes (etcd missing)"], 0, "abc", 0.1)
    results = {**dict.fromkeys(PARTS, GOOD), "kubernetes": left_out}
    assert line_of("2026-12-02", "abc", results) == "| 2026-12-02 | abc | 60 | 600 | 0 | kubernetes not built |"
