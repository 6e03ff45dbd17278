"""CPU, wake-ups and memory of processes, from /proc."""

import os
from contextlib import suppress
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu(pid: int) -> float:
    """CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def cpu_of_tree(pid: int) -> float:
    """CPU seconds of a process and its children, also of ended ones."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ended = (int(fields[13]) + int(fields[14])) / _TICKS
        return ended + sum(map(cpu, family(pid)))
    except (FileNotFoundError, ProcessLookupError):
        if not Path(f"/proc/{pid}").exists():
            raise
        # A child has just ended, such as a vacuum worker of PostgreSQL; its time counts with the ended children.
        return cpu_of_tree(pid)


def wakeups(pid: int) -> int:
    """How often the threads of a process waited for something, so far; those that have ended are not counted."""
    total = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        # A thread may end between the list and this look.
        with suppress(FileNotFoundError, ProcessLookupError):
            total += int((thread / "status").read_text().split("\nvoluntary_ctxt_switches:")[1].split()[0])
    return total


def family(pid: int) -> list[int]:
    """A process and its children."""
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def memory_mb(pid: int) -> float:
    """Resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def shared_memory_mb(pid: int) -> float:
    """Proportional set size: each page counts by the number of processes that share it, so that sums are right."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(rollup.split("\nPss:")[1].split()[0]) / 1024
