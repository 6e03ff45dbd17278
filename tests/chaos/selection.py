"""The two scenarios that a landing plays, chosen by the hash of its commit; a night plays all."""

import random
import subprocess
from collections.abc import Sequence

import parts

BY_DAY = 2


def chosen(names: Sequence[str], commit: str) -> list[str]:
    """The scenarios for a commit, in their order."""
    drawn = random.Random(commit).sample(names, BY_DAY)
    return [name for name in names if name in drawn]


def chosen_here(names: Sequence[str]) -> list[str]:
    """The scenarios for the commit of this checkout; all of them where Git has no history."""
    head = ["git", "rev-parse", "HEAD"]
    try:
        done = subprocess.run(head, cwd=parts.ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return list(names)
    return chosen(names, done.stdout.strip())
