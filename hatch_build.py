"""Write the commit into the wheel and the sdist, so that a build says which it is."""

import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

COMMIT_FILE = "streams/commit.txt"
COMMIT_VARIABLE = "SCORM_WEBHOOKS_COMMIT"


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Takes the commit of the environment or of Git. A checkout that is installed for editing has none."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        self._folder = TemporaryDirectory()
        commit = os.environ.get(COMMIT_VARIABLE) or commit_of(Path(self.root))
        if version != "standard" or not commit:
            return
        path = Path(self._folder.name, "commit.txt")
        path.write_text(f"{commit}\n")
        build_data["force_include"][str(path)] = COMMIT_FILE

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        self._folder.cleanup()


def commit_of(root: Path) -> str:
    """The short hash of the checkout's commit, with `.dirty` where files differ from it; empty without Git."""
    try:
        commit = _git(root, "rev-parse", "--short=9", "HEAD")
        return f"{commit}.dirty" if _git(root, "status", "--porcelain", "--untracked-files=no") else commit
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout.strip()
