"""`CompactSubscriptions` behaves like a dict."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import webhook
from streams.adapters.avro.codec import AvroCodec
from streams.adapters.compact_subscriptions import CompactSubscriptions
from streams.core.webhook import Webhook

IDS = st.sampled_from(["wh_a", "wh_b", "wh_c"])
STEPS = st.lists(st.tuples(st.sampled_from(["put", "find", "remove"]), IDS, st.integers(1, 99)))


@given(STEPS, st.integers(0, 2))
def test_it_behaves_like_a_dict(steps: list[tuple[str, str, int]], cache_size: int) -> None:
    packed, known = CompactSubscriptions(AvroCodec(), cache_size), dict[str, Webhook]()
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
    packed = CompactSubscriptions(AvroCodec(), cache_size=1)
    packed["wh_a"] = packed["wh_b"] = webhook(id="wh_a")
    first = packed["wh_a"]
    assert packed["wh_a"] is first
    packed["wh_b"]
    assert packed["wh_a"] is not first
    packed["wh_a"] = replace(first, version=2)
    assert packed["wh_a"].version == 2


def test_an_unknown_webhook_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        CompactSubscriptions(AvroCodec())["wh_a"]
