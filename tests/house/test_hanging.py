"""A test that hangs ends the run, and the traceback names it."""

import subprocess
import sys
from pathlib import Path

import pytest
from house.test_house import ROOT

pytestmark = pytest.mark.slow

HANGING = "import threading\n\n\ndef test_forever() -> None:\n    threading.Event().wait()\n"


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_hanging_test_ends_the_run_with_a_traceback(workers: str, tmp_path: Path) -> None:
    hanging = tmp_path / "test_hanging.py"
    hanging.write_text(HANGING)
    options = ["-c", str(ROOT / "pyproject.toml"), "-o", "faulthandler_timeout=1", "-n", workers]
    command = [sys.executable, "-m", "pytest", *options, str(hanging)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0
    assert "Timeout (0:00:01)!" in done.stderr
    assert 'test_hanging.py", line 5 in test_forever' in done.stderr
