"""The programs of the Makefile find all that they import."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = re.compile(r"PYTHONPATH=(\S+) \.venv/bin/python -m (\S+)")
PROGRAMS = PROGRAM.findall((ROOT / "Makefile").read_text())


def test_the_programs_are_found() -> None:
    assert {name for _, name in PROGRAMS} >= {"chaos", "chaos.soak", "bench", "kube"}


@pytest.mark.slow
@pytest.mark.parametrize(("python_path", "name"), PROGRAMS, ids=[name for _, name in PROGRAMS])
def test_a_program_finds_what_it_imports(python_path: str, name: str) -> None:
    env = {**os.environ, "PYTHONPATH": python_path}
    # The wheel's environment has the same packages as the one that the Makefile names.
    command = [sys.executable, "-c", f"import runpy; runpy.run_module({name!r}, run_name='imported')"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
