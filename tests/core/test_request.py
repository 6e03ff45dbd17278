"""The request of an attempt: its headers and body, and what people may see of it."""

from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from builders import NEW_SECRET, SECRET, delivery, event, webhook
from streams.core.deliveries.delivery import Target
from streams.core.deliveries.outcome import Response
from streams.core.deliveries.request import MASK, Request, build_request
from streams.core.deliveries.signing import make_secret, sign_platform, sign_standard
from streams.core.events.event import render

URL = "https://crm.example.com/hooks"
HEADER = "X-AllureConnect-Signature"
NOW = 1775822400


def request(secrets: Sequence[str] = (SECRET,), customer: Mapping[str, str] | None = None, **changes: Any) -> Request:
    return build_request(delivery(**changes), URL, secrets, customer or {}, NOW, HEADER)


def test_the_body_is_sent_unchanged() -> None:
    assert request().body == render(event())
    assert request().url == URL


def test_a_request_is_signed_in_both_styles() -> None:
    assert request(attempt=3).headers == {
        "Content-Type": "application/json",
        "User-Agent": "scorm-webhooks/1.0",
        HEADER: sign_platform(SECRET, delivery().body),
        "webhook-id": event().id,
        "webhook-timestamp": str(NOW),
        "webhook-signature": sign_standard(SECRET, event().id, NOW, delivery().body),
        "webhook-attempt": "3",
    }


def test_every_attempt_sends_the_same_id_and_body() -> None:
    first, second = request(attempt=1), request(attempt=2, step=2, target=Target.FALLBACK)
    assert first.body == second.body
    for name in ("webhook-id", HEADER):
        assert first.headers[name] == second.headers[name]


def test_in_a_rotation_the_platform_header_uses_the_old_secret() -> None:
    headers, body = request([SECRET, NEW_SECRET]).headers, delivery().body
    assert headers[HEADER] == sign_platform(SECRET, body)
    assert headers[f"{HEADER}-Next"] == sign_platform(NEW_SECRET, body)
    assert headers["webhook-signature"].split() == [
        sign_standard(SECRET, event().id, NOW, body),
        sign_standard(NEW_SECRET, event().id, NOW, body),
    ]


def test_a_trace_is_sent_to_the_receiver_only_where_it_should_be() -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    traced = delivery(trace_parent=trace)
    assert "traceparent" not in build_request(traced, URL, [SECRET], {}, NOW, HEADER).headers
    assert build_request(traced, URL, [SECRET], {}, NOW, HEADER, trace).headers["traceparent"] == trace


def test_custom_headers_are_sent_and_shown_masked() -> None:
    built = request(customer={"Authorization": "Bearer abc"})
    assert built.headers["Authorization"] == "Bearer abc"
    assert built.public_headers["Authorization"] == "•••"
    assert built.public_headers["webhook-id"] == event().id


def test_a_custom_header_never_replaces_ours() -> None:
    """Header names ignore case: theirs would be a second signature."""
    ours = request().headers
    for name in ours:
        for spelled in (name, name.lower(), name.upper()):
            built = request(customer={spelled: "forged"})
            assert built.headers == ours
            assert built.public_headers == ours


# The prefix is in no header of ours; "Authorizatio" alone is part of a name.
values = st.text(st.characters(codec="ascii", categories=("L", "N")), max_size=40).map("Bearer {}".format)


@given(
    st.lists(st.binary(min_size=24, max_size=64).map(make_secret), min_size=1, max_size=2),
    st.dictionaries(st.sampled_from(("Authorization", "X-Key", "content-type")), values),
)
def test_no_secret_is_shown(secrets: list[str], customer: dict[str, str]) -> None:
    shown = str(request(secrets, customer).public_headers)
    for hidden in (*secrets, *(secret.removeprefix("whsec_") for secret in secrets), *customer.values()):
        assert hidden not in shown


def test_a_private_header_in_a_response_is_masked() -> None:
    own = {"Authorization": "Bearer s3cret-token", "X-Debug": "on"}
    request = build_request(delivery(), webhook().url, [SECRET], own, 0, "X-Signature")
    echo = Response(500, {"x-echo": "got s3cret-token"}, b'{"authorization": "Bearer s3cret-token", "debug": "on"}')
    masked = request.mask(echo)
    assert masked.headers == {"x-echo": "got •••"}
    assert masked.body.decode() == '{"authorization": "•••", "debug": "on"}'


@given(st.sampled_from(["eyJhbGciOiJSUzI1NiJ9.eyJhbGciOiJub25lIn0.x", "t" * 40, "abcdefabcdefabcdefgh"]), st.data())
def test_a_secret_is_masked_wherever_a_response_is_cut(secret: str, data: st.DataObject) -> None:
    request = build_request(delivery(), webhook().url, [SECRET], {"X-Key": secret}, 0, "X-Signature")
    cut = data.draw(st.integers(6, len(secret)))
    masked = request.mask(Response(500, {"x-echo": f"got {secret[:cut]}"}, f"got {secret[:cut]}".encode()))
    assert masked.headers == {"x-echo": f"got {MASK}"}
    assert masked.body.decode() == f"got {MASK}"
