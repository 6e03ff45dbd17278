"""Which scenarios of chaos a run plays."""

import pytest

import parts
from chaos.scenarios import scenarios
from chaos.selection import CODE_OF, STAGES_OF, THIRDS, select, selected, stages_of

NAMES = [scenario.name for scenario in scenarios(long=False)]


def test_three_commits_play_every_scenario() -> None:
    played = [select(NAMES, commits, []) for commits in range(THIRDS)]
    assert sorted(name for names in played for name in names) == sorted(NAMES)


def test_a_commit_plays_the_scenarios_of_its_stage() -> None:
    of_meter = {name for name, stages in STAGES_OF.items() if "meter" in stages}
    for commits in range(THIRDS):
        assert of_meter <= set(select(NAMES, commits, ["README.md", "streams/features/usage/stage.py"]))


def test_every_night_plays_every_scenario(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTLY", "1")
    assert selected(NAMES) == NAMES


def test_every_named_scenario_and_file_exists() -> None:
    assert set(NAMES) >= STAGES_OF.keys()
    assert [place for place in CODE_OF if not (parts.ROOT / place).exists()] == []


def test_every_stage_of_the_code_has_scenarios() -> None:
    streams = parts.ROOT / "streams"
    paths = [*(streams / "stages").rglob("*.py"), *(streams / "features").rglob("stage.py")]
    files = [path.relative_to(parts.ROOT).as_posix() for path in paths]
    # `notify` sends mails; nothing in chaos needs them.
    left_out = {"streams/features/mails/stage.py"}
    assert {file for file in files if not (stages_of(file) or file.endswith("__init__.py"))} == left_out
    with_scenarios = {stage for stages in STAGES_OF.values() for stage in stages}
    assert {stage for stages in CODE_OF.values() for stage in stages} == with_scenarios
