"""`HashedIds` answers like the set of the ids."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.erasures.hashed_ids import pack_ids, unpack_ids

IDS = st.frozensets(st.sampled_from([f"pkg_{number}" for number in range(20)]))


@given(IDS, IDS)
def test_it_has_what_the_set_has(ids: frozenset[str], others: frozenset[str]) -> None:
    hashed = unpack_ids(pack_ids(ids))
    for one in (hashed, unpack_ids(pack_ids(hashed))):
        assert len(one) == len(ids)
        assert {id_ for id_ in ids | others if id_ in one} == ids
        assert None not in one


def test_the_ids_cannot_be_listed() -> None:
    with pytest.raises(TypeError, match="only the hashes"):
        list(unpack_ids(pack_ids(frozenset({"pkg_1"}))))
