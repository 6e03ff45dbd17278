"""Each test is played by day or at night, and what is left to the night exists."""

import re

import nightly
import pytest
from nightly import DAY, FIRST, NIGHT, USED, entry_of
from not_played import NotPlayed

import parts


@pytest.mark.parametrize("name", [*NIGHT, *FIRST])
def test_what_is_named_exists(name: str) -> None:
    file, _, test = name.partition("[")[0].partition("::")
    path = parts.ROOT / file
    assert path.exists()
    assert not test or f"def {test}(" in path.read_text()


def test_each_entry_decides_about_a_test(pytestconfig: pytest.Config) -> None:
    if list(pytestconfig.args) != list(pytestconfig.getini("testpaths")):
        pytest.skip("a run of some folders does not know every test")
    assert NIGHT.keys() <= USED


def test_each_reason_is_one_of_a_few_words() -> None:
    assert set(NIGHT.values()) <= {DAY, "slow", "old broker", "second store", "tool"}


@pytest.mark.parametrize(
    ("nodeid", "entry"),
    [
        ("tests/a/test_b.py::test_c", "tests/a"),
        ("tests/a/test_d.py::test_e", "tests/a/test_d.py"),
        ("tests/a/test_d.py::test_f", "tests/a/test_d.py::test_f"),
        ("tests/g/test_h.py::test_i[one-two]", "tests/g[two]"),
        ("tests/g/test_h.py::test_i[one]", None),
    ],
)
def test_the_most_precise_entry_decides(monkeypatch: pytest.MonkeyPatch, nodeid: str, entry: str | None) -> None:
    entries = {"tests/a": "slow", "tests/a/test_d.py": DAY, "tests/a/test_d.py::test_f": "slow", "tests/g[two]": "slow"}
    monkeypatch.setattr(nightly, "NIGHT", entries)
    assert entry_of(nodeid) == entry


def test_a_night_reaches_no_test_of_core_or_stages() -> None:
    """Mutants of the rules and of the path are found by day."""
    assert [name for name in NIGHT if name.startswith(("tests/core", "tests/stages", "tests/[", "tests["))] == []


def test_the_parts_of_nights_are_parts() -> None:
    assert {part[0] for part in parts.ALL} >= parts.OF_NIGHTS


class Marked:
    """A test that has one mark."""

    def __init__(self, mark: pytest.Mark) -> None:
        self._mark = mark

    def get_closest_marker(self, name: str) -> pytest.Mark | None:
        return self._mark if self._mark.name == name else None


def test_the_end_of_a_run_names_the_command_for_the_rest() -> None:
    marks = [pytest.mark.landing.mark, pytest.mark.night("slow").mark, pytest.mark.night("slow").mark]
    plugin = NotPlayed()
    plugin.pytest_deselected([Marked(mark) for mark in marks])  # type: ignore[misc]
    landing, night, reasons, newest = plugin.lines()
    assert landing.startswith("CI=true make test: 1 tests")
    assert night.startswith("make nightly: 2 tests")
    assert reasons == "  left to the night because of: slow 2"
    assert newest.startswith("the newest night: ")


def test_the_documents_say_when_each_folder_is_played() -> None:
    folders = {
        path.parent.relative_to(parts.ROOT / "tests").parts[0] for path in parts.ROOT.glob("tests/*/**/test_*.py")
    }
    rows = re.findall(r"^\| `(\w+)` \| .* \| ([^|]+) \|$", (parts.ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    assert {
        folder for folder, played in rows if re.match(r"Always|By a|At night|On a|The |Two |One ", played)
    } == folders
