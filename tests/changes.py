"""What has changed since the commit that a run is compared with. Only the standard library is used."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def has_changed(*paths: str) -> bool:
    """Whether one of these files or folders differs from CI_BASE, or the commit before; True where git cannot tell."""
    base = os.environ.get("CI_BASE") or "HEAD~1"
    command = ["git", "diff", "--quiet", base, "--", *paths]
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode != 0
    except FileNotFoundError:  # there is no git
        return True
