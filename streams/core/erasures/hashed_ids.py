"""Sets of ids that keep only hashes."""

from array import array
from collections.abc import Iterator
from typing import Any

_contains = frozenset.__contains__


class HashedIds(frozenset[str]):
    """Answers whether an id is in a set by its 64-bit hash. The ids themselves are not kept.

    Python seeds its string hash with a random secret in each process, so nobody can choose ids that collide.
    One of 10^16 other ids seems to be in a set of 1000. Its account then gets one delivery too many.
    """

    __slots__ = ()

    def __contains__(self, value: object) -> bool:
        return _contains(self, hash(value))

    def __iter__(self) -> Iterator[str]:
        raise TypeError("only the hashes of these ids are known")


def pack_ids(ids: frozenset[str]) -> bytes:
    """The hashes of the ids, eight bytes each; only this process can read them."""
    return array("q", frozenset.__iter__(ids) if isinstance(ids, HashedIds) else map(hash, ids)).tobytes()


def unpack_ids(packed_ids: bytes) -> frozenset[str]:
    hashes: Any = array("q", packed_ids)
    return HashedIds(hashes) if packed_ids else frozenset()
