"""The number of connections follows the limit of open files."""

import subprocess
import sys

import pytest

ASK = """
import resource, sys
soft, hard, wanted = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
from streams.adapters.open_files import limit_connections
print(limit_connections(wanted), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


def ask(soft: int, hard: int, wanted: int) -> subprocess.CompletedProcess[str]:
    """Run in another process, because a hard limit cannot be raised again."""
    command = [sys.executable, "-c", ASK, str(soft), str(hard), str(wanted)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "fit", "raised"),
    [
        (1000, 1000, 500, 500, 1000),
        (256, 1000, 500, 500, 596),
        (256, 300, 500, 204, 300),
        (112, 112, 500, 16, 112),
    ],
)
def test_as_many_connections_as_fit(soft: int, hard: int, wanted: int, fit: int, raised: int) -> None:
    assert ask(soft, hard, wanted).stdout.split() == [str(fit), str(raised)]


def test_too_few_open_files_are_named() -> None:
    refused = ask(64, 64, 500)
    assert refused.returncode == 1
    assert "is 64, which is too low: set it to 596 or more" in refused.stderr
