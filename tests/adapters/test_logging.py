"""Log lines stay whole, and text in them cannot control a terminal."""

import logging
import os
import subprocess
import sys

import pytest
import structlog

from streams.log_lines import configure_logging
from streams.telemetry import PrometheusTelemetry

CONTROL_CHARACTERS = "\x1b[2J\r\x9b1m\u202e\nfake line"
LOGGING = """
import sys
from streams.log_lines import configure_logging
from streams.telemetry import PrometheusTelemetry
configure_logging(sys.argv[1], "info", "deliver")
telemetry = PrometheusTelemetry("deliver")
for number in range(300):
    telemetry.info("something_happened", number=number, text="x" * 200)
"""


pytestmark = pytest.mark.usefixtures("logging_as_it_was")


@pytest.mark.parametrize("style", ["console", "json"])
def test_a_log_line_escapes_control_characters(style: str, capfd: pytest.CaptureFixture[str]) -> None:
    configure_logging(style, "info", "deliver")  # type: ignore[arg-type]
    PrometheusTelemetry("deliver").info("fact", message=CONTROL_CHARACTERS)
    logging.getLogger("library").error("failed: %s", CONTROL_CHARACTERS)
    try:
        raise ValueError(CONTROL_CHARACTERS)
    except ValueError:
        structlog.get_logger().error("broken", exc_info=True)
    written = capfd.readouterr().err
    assert not any(character in written for character in "\x1b\r\x9b\u202e")
    assert "\\u202e" in written
    if style == "json":
        assert written.count("\n") == 3


@pytest.mark.parametrize("style", ["console", "json"])
def test_lines_of_several_processes_never_mix(style: str) -> None:
    reading, writing = os.pipe()
    processes = [subprocess.Popen([sys.executable, "-c", LOGGING, style], stderr=writing) for _ in range(3)]
    os.close(writing)
    with os.fdopen(reading) as stream:
        lines = stream.read().splitlines()
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert len(lines) == 900
    assert all(line.count("x" * 200) == 1 and "something_happened" in line for line in lines)


def test_a_closed_stream_costs_lines_and_not_the_process() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    processes = subprocess.Popen([sys.executable, "-c", LOGGING, "json"], stderr=writing)
    os.close(writing)
    assert processes.wait() == 0
