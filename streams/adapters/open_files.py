"""How many connections a process may hold open, by the limit of open files that the system sets it."""

import resource

from streams.core.errors import Misconfigured

# Open files for all else: the database, the brokers, the health port and refused connections.
RESERVED_FILES = 64


def connections_that_fit(wanted: int) -> int:
    """`wanted`, or fewer where the limit of open files allows no more; the soft limit is raised as far as it may be.

    Raises `Misconfigured` where not even one fits.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + RESERVED_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    if soft <= RESERVED_FILES:
        raise Misconfigured(f"the limit of open files is {soft}, too low: set it to {needed} or more (ulimit -n)")
    return soft - RESERVED_FILES
