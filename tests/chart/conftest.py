"""The tests of the chart need helm, which `python3 tests/parts.py` brings."""

import pytest

import parts
from conftest import left_out


@pytest.fixture(autouse=True, scope="session")
def helm_program() -> None:
    if not parts.kube():
        left_out("helm")
