"""The version and commit of this build."""

from functools import cache
from importlib.metadata import version
from pathlib import Path

# The build writes it into the wheel; a checkout has none.
_COMMIT_FILE = Path(__file__).with_name("commit.txt")
_GIT_FOLDER = Path(__file__).parents[1] / ".git"
_COMMIT_CHARACTERS = 9


@cache
def build_version() -> str:
    """The version, with the commit of a wheel, an image or a checkout (PEP 440): `0.1.0+g7ab3c21f0`."""
    release = version("scorm-webhooks")
    commit = _COMMIT_FILE.read_text().strip() if _COMMIT_FILE.exists() else _commit_of_checkout()
    return f"{release}+g{commit}" if commit else release


def _commit_of_checkout() -> str:
    """The checked-out commit, from Git's files; empty without them."""
    try:
        head = (_GIT_FOLDER / "HEAD").read_text().strip()
        reference = head.removeprefix("ref: ")
        if reference == head:
            return head[:_COMMIT_CHARACTERS]
        if (file := _GIT_FOLDER / reference).exists():
            return file.read_text()[:_COMMIT_CHARACTERS]
        packed_lines = (_GIT_FOLDER / "packed-refs").read_text().splitlines()
        return next((line[:_COMMIT_CHARACTERS] for line in packed_lines if line.endswith(f" {reference}")), "")
    except OSError:
        return ""
