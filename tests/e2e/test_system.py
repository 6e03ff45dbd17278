"""The test harness: it reads complete log lines only."""

from pathlib import Path

from e2e.system import System


def test_an_incomplete_log_line_is_ignored(tmp_path: Path) -> None:
    system = System(tmp_path, {})
    (tmp_path / "deliver.log").write_text('not ours\n{"event": "started"}\n{"event": "parti')
    assert system.log_events("deliver") == [{"event": "started"}]
    (tmp_path / "deliver.log").write_text("")
    assert system.log_events("deliver") == []
