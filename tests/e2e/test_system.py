"""The harness itself: it says what a stage said, and nothing that it is still saying."""

from pathlib import Path

from e2e.system import System


def test_a_line_that_is_still_being_written_is_no_fact_yet(tmp_path: Path) -> None:
    system = System(tmp_path, {})
    (tmp_path / "deliver.log").write_text('not ours\n{"event": "started"}\n{"event": "parti')
    assert system.log_events("deliver") == [{"event": "started"}]
    (tmp_path / "deliver.log").write_text("")
    assert system.log_events("deliver") == []
