"""Credentials of endpoints: what is accepted, the request for a token, and what a token server's response means."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.deliveries.outcome import Failure, OutcomeKind, Response
from streams.core.deliveries.request import MASK
from streams.core.errors import Invalid, NewerRecord
from streams.core.records.record_checks import parse_recorded_options
from streams.core.webhooks.access_token import (
    MAX_LIFE_SECONDS,
    MIN_LIFE_SECONDS,
    AccessToken,
    is_invalid_client,
    parse_token_response,
    token_request,
)
from streams.core.webhooks.auth import Auth, parse_auth
from streams.core.webhooks.delivery_options import parse_options

OAUTH2: dict[str, Any] = {"type": "oauth2", "tokenUrl": "https://auth.example.com/token", "clientId": "crm"}
NOW = 1_775_000_000.0
SECRET = "a secret: 100% + ~"


def oauth2(**more: str) -> Auth:
    return parse_auth({**OAUTH2, **more})


def token_response(**values: object) -> Response:
    return Response(200, {}, json.dumps({"access_token": "t0k3n", "token_type": "Bearer", **values}).encode())


def jwt(**claims: object) -> str:
    parts = (json.dumps(part).encode() for part in ({"alg": "none"}, claims))
    return ".".join([*(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts), "x"])


# -- the fields ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        {"type": "basic", "username": "Ada Löwe"},
        OAUTH2,
        {**OAUTH2, "scope": "a b", "audience": "https://api.example.com", "resource": "urn:x"},
        {**OAUTH2, "clientAuthentication": "body"},
    ],
)
def test_credentials_come_back_as_they_were(values: dict[str, Any]) -> None:
    auth = parse_auth(values)
    assert auth.to_json() == values
    options = parse_options({"auth": values})
    assert options.auth == auth
    assert parse_options(options.to_json()) == options


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("basic", "auth: must be an object with a type"),
        ({"type": "digest"}, "auth.type: must be one of: basic, oauth2"),
        ({"type": "basic"}, "auth.username: is required"),
        ({"type": "basic", "username": "a:b"}, "auth.username: must not hold a colon"),
        ({"type": "basic", "username": "a", "scope": "b"}, "auth.scope: is not a field of basic"),
        ({"type": "oauth2", "clientId": "crm"}, "auth.tokenUrl: is required"),
        ({**OAUTH2, "username": "s"}, "auth.username: is not a field of oauth2"),
        ({**OAUTH2, "scope": "a\nb"}, "auth.scope: must be printable text of at most 1024 characters"),
        ({**OAUTH2, "clientAuthentication": "jwt"}, "auth.clientAuthentication: must be one of: basic, body"),
    ],
)
def test_wrong_credentials_are_named(value: object, error: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_auth(value)
    assert str(caught.value) == error


@pytest.mark.parametrize("values", [{"type": "mtls"}, {**OAUTH2, "certificate": "x"}])
def test_unknown_credentials_are_of_a_newer_release(values: dict[str, Any]) -> None:
    """An older process waits for the newer one, and sends nothing without them."""
    with pytest.raises(NewerRecord):
        parse_recorded_options(json.dumps({"auth": values}))


def test_a_secret_belongs_to_one_client_at_one_server() -> None:
    assert oauth2().has_same_client(oauth2(scope="a", clientAuthentication="body"))
    assert not oauth2().has_same_client(oauth2(tokenUrl="https://evil.example.com/token"))
    assert not oauth2().has_same_client(oauth2(clientId="other"))
    assert not oauth2().has_same_client(parse_auth({"type": "basic", "username": "crm"}))


# -- the request -----------------------------------------------------------------------------------------------


def test_a_token_is_asked_for_as_oauth_2_says() -> None:
    request = token_request(oauth2(scope="a b", audience="https://x"), SECRET, 10)
    assert request.body == b"grant_type=client_credentials&scope=a+b&audience=https%3A%2F%2Fx"
    assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"
    encoded = base64.b64decode(request.headers["Authorization"].removeprefix("Basic ")).decode()
    assert encoded == "crm:a+secret%3A+100%25+%2B+~"
    raw = token_request(oauth2(), SECRET, 10, is_encoded=False).headers["Authorization"]
    assert base64.b64decode(raw.removeprefix("Basic ")).decode() == f"crm:{SECRET}"
    in_body = token_request(oauth2(clientAuthentication="body"), SECRET, 10)
    assert "Authorization" not in in_body.headers
    assert in_body.body.endswith(b"&client_id=crm&client_secret=a+secret%3A+100%25+%2B+~")


def test_a_token_request_names_the_software_that_sends_it() -> None:
    assert token_request(oauth2(), SECRET, 10, user_agent="acme/1.0").headers["User-Agent"] == "acme/1.0"


def test_only_credentials_of_a_token_request_are_masked() -> None:
    request = token_request(oauth2(), SECRET, 10)
    assert request.public_headers == {**request.headers, "Authorization": MASK}


# -- the response ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "life"),
    [
        ({"expires_in": 3600}, 3600),
        ({"expires_in": "120"}, 120),
        ({}, 300),
        ({"expires_in": None}, 300),
        ({"expires_in": "soon"}, 300),
        ({"expires_in": True}, 300),
        ({"access_token": jwt(exp=NOW + 900)}, 900),
        ({"access_token": jwt(exp=NOW + 900), "expires_in": 60}, 60),
        ({"access_token": "a.b.c"}, 300),
        # A server that lies is not believed.
        ({"expires_in": -5}, MIN_LIFE_SECONDS),
        ({"expires_in": 0}, MIN_LIFE_SECONDS),
        ({"expires_in": 10**11}, MAX_LIFE_SECONDS),
        ({"expires_in": 10**400}, 300),
        ({"access_token": jwt(exp=10**400)}, 300),
        ({"access_token": jwt(exp=NOW - 900)}, MIN_LIFE_SECONDS),
    ],
)
def test_the_life_of_a_token(values: dict[str, Any], life: float) -> None:
    token = parse_token_response(token_response(**values), oauth2(), NOW)
    assert isinstance(token, AccessToken)
    assert token.life_seconds == life


@given(st.floats(MIN_LIFE_SECONDS, MAX_LIFE_SECONDS))
def test_a_token_is_renewed_before_its_end(life: float) -> None:
    renewal = AccessToken("t", life).renewal_seconds
    assert life / 2 <= renewal < life
    assert life < 60 or renewal <= min(0.8 * life, life - 30) + 1e-6


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (401, {"error": "invalid_client"}, OutcomeKind.CREDENTIALS, "Check auth.clientId, auth.clientSecret and"),
        (
            400,
            {"error": "invalid_scope"},
            OutcomeKind.CREDENTIALS,
            "400 (invalid_scope). Check auth.scope.",
        ),
        (400, {"error": "invalid_target"}, OutcomeKind.CREDENTIALS, "Check auth.resource and auth.audience."),
        (400, {"error": "<script>"}, OutcomeKind.CREDENTIALS, "responded with 400. Check auth.tokenUrl"),
        (404, {}, OutcomeKind.CREDENTIALS, "responded with 404. Check auth.tokenUrl"),
        (302, {}, OutcomeKind.CREDENTIALS, "a redirect: set auth.tokenUrl to the final URL"),
        (429, {}, OutcomeKind.TOKEN_UNAVAILABLE, "gives no token at the moment"),
        (503, {"error": "invalid_client"}, OutcomeKind.TOKEN_UNAVAILABLE, "responded with 503"),
        (200, {"access_token": "two words"}, OutcomeKind.TOKEN_UNAVAILABLE, "without a valid bearer token"),
        (200, {"access_token": "x" * 9000}, OutcomeKind.TOKEN_UNAVAILABLE, "without a valid bearer token"),
        (
            200,
            {"access_token": "x", "token_type": "mac"},
            OutcomeKind.TOKEN_UNAVAILABLE,
            "without a valid bearer token",
        ),
        (200, [1], OutcomeKind.TOKEN_UNAVAILABLE, "without a valid bearer token"),
    ],
)
def test_a_failure_says_which_side_and_which_field(status: int, body: object, kind: OutcomeKind, message: str) -> None:
    failure = parse_token_response(Response(status, {}, json.dumps(body).encode()), oauth2(), NOW)
    assert isinstance(failure, Failure)
    assert failure.kind is kind
    assert failure.message is not None
    assert failure.message.startswith("The token server auth.example.com ")
    assert message in failure.message


def test_a_failure_of_the_network_names_the_token_server() -> None:
    failure = parse_token_response(Failure(OutcomeKind.TIMEOUT), oauth2(), NOW)
    assert failure == Failure(
        OutcomeKind.TOKEN_UNAVAILABLE,
        message="The token server auth.example.com gave no token: it did not respond in time.",
    )
    private = parse_token_response(Failure(OutcomeKind.FORBIDDEN_ADDRESS), oauth2(), NOW)
    assert isinstance(private, Failure)
    assert private.kind is OutcomeKind.CREDENTIALS
    by_proxy = parse_token_response(Failure(OutcomeKind.PROXY_ERROR, "it responded with 403"), oauth2(), NOW)
    assert by_proxy == Failure(
        OutcomeKind.PROXY_ERROR,
        message="The token server auth.example.com gave no token: the platform's egress proxy opened no connection to "
        "it (it responded with 403).",
    )


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from([10**400, "a.b.c"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=5,
)
responses = st.binary(max_size=200) | st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("access_token", "token_type", "expires_in", "error"), json_values)
).map(lambda values: json.dumps(values).encode(errors="replace"))


@given(responses)
def test_any_body_is_a_failure_at_most(body: bytes) -> None:
    outcome = parse_token_response(Response(200, {}, body), oauth2(), NOW)
    assert isinstance(parse_token_response(Response(400, {}, body), oauth2(), NOW), Failure)
    assert isinstance(outcome, AccessToken | Failure)
    is_invalid_client(Response(400, {}, body))
