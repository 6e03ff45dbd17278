"""`CompactSubscriptions` behaves like a dict."""

import gc
import tracemalloc
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import event, webhook
from streams.adapters.avro.codec import AvroCodec
from streams.adapters.compact_subscriptions import CompactSubscriptions
from streams.core.events.event_filter import parse_filter
from streams.core.limits import MAX_ID_CHARACTERS, MAX_SCOPE_IDS
from streams.core.webhooks.webhook import Webhook, wants

IDS = st.sampled_from(["wh_a", "wh_b", "wh_c"])
STEPS = st.lists(st.tuples(st.sampled_from(["put", "find", "remove"]), IDS, st.integers(1, 99)))
ONE, TWO = 5000, 10_000


@given(STEPS, st.sampled_from([0, ONE, TWO]))
def test_it_behaves_like_a_dict(steps: list[tuple[str, str, int]], cache_bytes: int) -> None:
    packed, known = CompactSubscriptions(AvroCodec(), cache_bytes), dict[str, Webhook]()
    for step, webhook_id, version in steps:
        if step == "put":
            packed[webhook_id] = known[webhook_id] = webhook(id=webhook_id, version=version)
        elif step == "remove":
            assert packed.pop(webhook_id, None) == known.pop(webhook_id, None)
        else:
            assert packed.get(webhook_id) == known.get(webhook_id)
    assert dict(packed) == known
    assert len(packed) == len(known)


def test_a_webhook_in_use_is_decoded_once() -> None:
    packed = CompactSubscriptions(AvroCodec(), cache_bytes=TWO)
    for number in range(20):
        packed[f"wh_{number}"] = webhook(id=f"wh_{number}")
    used, unused = packed["wh_0"], packed["wh_1"]
    for number in range(2, 20):
        packed.get(f"wh_{number}")
        assert packed["wh_0"] is used
    assert packed["wh_1"] is not unused
    packed["wh_0"] = replace(used, version=2)
    assert packed["wh_0"].version == 2


def test_an_unknown_webhook_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        CompactSubscriptions(AvroCodec())["wh_a"]


def test_scopes_are_kept_as_hashes() -> None:
    ids = frozenset(f"{number:p>{MAX_ID_CHARACTERS}}" for number in range(MAX_SCOPE_IDS))
    packed = CompactSubscriptions(AvroCodec())
    tracemalloc.start()
    packed["wh_a"] = webhook(id="wh_a", packages=ids, dispatches=ids)
    gc.collect()
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 10 * len(ids) * 2
    assert wants(packed["wh_a"], event(data={"packageId": max(ids)}))
    assert not wants(packed["wh_a"], event(data={"packageId": "pkg_other"}))


def test_the_cache_takes_no_more_than_it_may() -> None:
    packed = CompactSubscriptions(AvroCodec(), cache_bytes=1_000_000)
    for number in range(2000):
        ids = frozenset(f"pkg_{number}_{one}" for one in range(number % 5 * 100))
        packed[f"wh_{number}"] = webhook(id=f"wh_{number}", packages=ids)
    tracemalloc.start()
    for number in range(2000):
        packed.get(f"wh_{number}")
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 500_000 < used < 1_100_000


@pytest.mark.parametrize(
    "conditions",
    [
        {"successStatus": "passed"},
        {f"metadata.{name}": "x" * 390 for name in range(10)},
        {f"metadata.{name}": {"in": [str(number) for number in range(50)]} for name in range(10)},
    ],
)
def test_the_cache_counts_filters(conditions: dict[str, object]) -> None:
    packed = CompactSubscriptions(AvroCodec(), cache_bytes=200_000)
    for number in range(400):
        packed[f"wh_{number}"] = webhook(id=f"wh_{number}", filter=parse_filter(conditions))
    tracemalloc.start()
    for number in range(400):
        packed.get(f"wh_{number}")
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 220_000


def test_the_filter_of_a_webhook_in_use_is_parsed_once() -> None:
    packed = CompactSubscriptions(AvroCodec())
    packed["wh_a"] = webhook(id="wh_a", filter=parse_filter({"successStatus": "passed"}))
    assert packed["wh_a"].filter is packed["wh_a"].filter
    assert wants(packed["wh_a"], event())
    assert not wants(packed["wh_a"], event(data={"successStatus": "failed"}))
