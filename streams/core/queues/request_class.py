"""The classes of requests to the API, and how many of each are handled at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

# Other requests of the account come first, so the wait for a turn at the database is longer than the wait for a
# database that does not respond.
TURN_SECONDS = 25.0


class RequestClass(StrEnum):
    """A class of requests, which share their places."""

    # Events over HTTP.
    PUBLISH = "publish"
    # Learners' sessions: opened and closed by the platform, and what players commit.
    COMMIT = "commit"
    # The rest of the API, and the pages of the dashboard.
    PEOPLE = "people"
    # Requests of the rest that read a topic or many rows.
    SLOW = "slow"
    # Readers of pull webhooks, most of whom wait.
    PULL = "pull"
    # Requests that wait for something to happen elsewhere.
    WAITING = "waiting"
    # Probes of load balancers, which may share a network with all clients.
    PROBE = "probe"
    # Public files. Their owners are networks, and they need no database.
    PUBLIC = "public"


@dataclass(frozen=True, slots=True)
class PlaceLimit:
    """The places of one class. `per_owner` and `max_waiting` count for each owner.

    `reserved` places are free or in use by this class; no other class takes them.
    """

    per_owner: int
    at_most: int
    max_waiting: int
    reserved: int = 0


def request_limits(connections: int) -> Mapping[RequestClass, PlaceLimit]:
    """The limits of requests in a process that accepts this many connections.

    At 500 connections all numbers are as written; a process with fewer has smaller classes. A class of learners opens
    its sessions at once, so `COMMIT` has many places; they are cheap, because these requests only wait for the
    database.
    """

    def share(count: int, part: float) -> int:
        return max(1, min(count, int(connections * part)))

    reserved = min(64, connections // 8)
    return {
        RequestClass.PUBLISH: PlaceLimit(share(64, 0.25), connections, share(64, 0.125), reserved),
        RequestClass.COMMIT: PlaceLimit(share(320, 0.64), connections, share(64, 0.125), reserved),
        RequestClass.PEOPLE: PlaceLimit(share(16, 0.125), share(250, 0.5), share(32, 0.125)),
        RequestClass.SLOW: PlaceLimit(2, share(6, 0.1), share(8, 0.1)),
        # They hold a connection and do nothing, so there may be many in a process with many connections.
        RequestClass.PULL: PlaceLimit(max(1, connections // 8), max(1, connections // 2), share(32, 0.125)),
        RequestClass.WAITING: PlaceLimit(share(16, 0.125), share(100, 0.2), share(8, 0.1)),
        RequestClass.PROBE: PlaceLimit(share(16, 0.125), share(64, 0.25), share(16, 0.125)),
        # Each takes less than a millisecond, and longer only while its client reads a large file slowly.
        RequestClass.PUBLIC: PlaceLimit(share(64, 0.25), share(250, 0.5), share(64, 0.25)),
    }


def connection_limits(connections: int) -> Mapping[RequestClass, PlaceLimit]:
    """The limits on the database connections that requests of each class use.

    With three or more connections, one is reserved for events and one for SCORM commits.
    """
    reserved = 1 if connections >= 3 else 0
    unreserved = connections - 2 * reserved
    # Requests have their limits already.
    return {
        RequestClass.PUBLISH: PlaceLimit(connections, connections, _UNLIMITED, reserved),
        RequestClass.COMMIT: PlaceLimit(connections, connections, _UNLIMITED, reserved),
        RequestClass.PEOPLE: PlaceLimit(unreserved, unreserved, _UNLIMITED),
        RequestClass.SLOW: PlaceLimit(max(1, unreserved - 1), max(1, unreserved - 1), _UNLIMITED),
        RequestClass.PULL: PlaceLimit(max(1, unreserved - 1), max(1, unreserved - 1), _UNLIMITED),
        RequestClass.WAITING: PlaceLimit(1, 1, _UNLIMITED),
        RequestClass.PROBE: PlaceLimit(1, 1, _UNLIMITED),
        RequestClass.PUBLIC: PlaceLimit(1, 1, _UNLIMITED),
    }


_UNLIMITED = 1_000_000
