"""Limit the connections of a process to the number that its limit of open files allows."""

import resource

from streams.core.errors import Misconfigured

# Open files for everything else: the database, the brokers, the health port and refused connections.
RESERVED_FILES = 96


def limit_connections(requested_connections: int) -> int:
    """`requested_connections`, or as many as open files allow. First raises the soft limit, up to the hard limit.

    Raises `Misconfigured` if not even one connection fits.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed_files = requested_connections + RESERVED_FILES
    if soft != resource.RLIM_INFINITY and soft < needed_files:
        soft = needed_files if hard == resource.RLIM_INFINITY else min(needed_files, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= needed_files:
        return requested_connections
    if soft <= RESERVED_FILES:
        raise Misconfigured(
            f"the limit of open files (ulimit -n) is {soft}, which is too low: set it to {needed_files} or more"
        )
    return soft - RESERVED_FILES
