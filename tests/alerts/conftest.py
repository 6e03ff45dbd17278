"""What runs promtool is a `real` test; `python3 tests/parts.py` brings the program."""

import pytest

import parts
from conftest import left_out


@pytest.fixture(scope="session")
def promtool_program() -> None:
    if not parts.promtool():
        left_out("promtool")
