"""How test processes share the work: by file, or by folder where the files share a running system."""

import random
from pathlib import PurePath

import pytest
from xdist.scheduler import LoadFileScheduling

# A process that gets one of their files starts the folder's system, which then runs until the folder is done.
WITH_A_SYSTEM = ("adversary", "browser", "examples")
# They take longest for their number, the longest first: what ends last should be short.
FIRST = (*WITH_A_SYSTEM, "e2e", "benchmarks", "image")


def folder_of(path: str) -> str:
    """The folder of `tests` that a node id or a path of a test is in."""
    parts = PurePath(path.partition("::")[0]).parts
    return parts[parts.index("tests") + 1] if "tests" in parts else ""


class ByFileOrFolder(LoadFileScheduling):  # type: ignore[misc]
    """`--dist loadfile`, with a folder in the place of its files where they share a system."""

    def _split_scope(self, nodeid: str) -> str:
        folder = folder_of(nodeid)
        return folder if folder in WITH_A_SYSTEM else str(super()._split_scope(nodeid))


def longest_first(items: list[pytest.Item]) -> None:
    """Sort tests for processes that share them; else the order stays."""
    items.sort(key=lambda item: FIRST.index(folder) if (folder := folder_of(item.nodeid)) in FIRST else len(FIRST))


def shuffle_files(items: list[pytest.Item], seed: int) -> None:
    """Sort tests by file, the files in a random order; the order within a file stays."""
    files = sorted({item.nodeid.partition("::")[0] for item in items})
    random.Random(seed).shuffle(files)
    place = {file: number for number, file in enumerate(files)}
    items.sort(key=lambda item: place[item.nodeid.partition("::")[0]])
