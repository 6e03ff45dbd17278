"""Which build this is."""

from functools import cache
from importlib.metadata import version
from pathlib import Path

# The build writes it into the wheel; a checkout has none.
_COMMIT_FILE = Path(__file__).with_name("commit.txt")


@cache
def build_version() -> str:
    """The version, with the commit of a wheel or an image (PEP 440): `0.1.0+g7ab3c21f0`."""
    release = version("scorm-webhooks")
    return f"{release}+g{_COMMIT_FILE.read_text().strip()}" if _COMMIT_FILE.exists() else release
