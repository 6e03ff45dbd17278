"""The token of a process is fetched once, kept until shortly before its end, and its outages say why."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError
from joserfc import jwt
from joserfc.jwk import OctKey

from contract.test_security import in_background
from fakes import FakeTelemetry, until
from real.process import free_ports
from real.token_endpoint import CLIENT_ID, CLIENT_SECRET, TokenEndpoint
from streams.adapters.faust.credentials import FaustTokens
from streams.adapters.kafka.connection import tokens
from streams.adapters.kafka.connection.client_credentials import parse_response
from streams.adapters.kafka.connection.config import kafka_properties
from streams.adapters.kafka.connection.security import token_source
from streams.adapters.kafka.connection.tokens import Token, TokenSource, keep_token
from streams.adapters.oidc import limited_transport
from streams.core.errors import Misconfigured, TokenUnavailable
from streams.outage import Outages
from streams.producer import EventProducer


class Provider:
    """Gives tokens of 100 seconds, numbered from 1, or fails."""

    def __init__(self) -> None:
        self.now = 0.0
        self.problem: Exception | None = None
        self.fetches = 0
        self.may_answer = threading.Event()
        self.may_answer.set()

    def fetch(self) -> Token:
        self.fetches += 1
        self.may_answer.wait(30)
        if self.problem:
            raise self.problem
        return Token(f"token-{self.fetches}", 100)

    def source(self, fetch_seconds: float = 10) -> TokenSource:
        return TokenSource(self.fetch, now=lambda: self.now, fetch_seconds=fetch_seconds)


@pytest.fixture
def provider() -> Provider:
    return Provider()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


# -- when it is fetched ----------------------------------------------------------------------------------------


def test_a_token_is_kept_until_shortly_before_its_end(provider: Provider) -> None:
    source = provider.source()
    assert source.token() == Token("token-1", 100)
    provider.now = 59
    assert source.token() == Token("token-1", 41)
    assert source.renew() == pytest.approx(1)
    provider.now = 60
    source.renew()
    assert source.token() == Token("token-2", 100)


def test_nobody_with_a_valid_token_waits_for_the_next(provider: Provider) -> None:
    source = provider.source()
    source.token()
    provider.now = 70
    provider.may_answer.clear()
    assert source.token() == Token("token-1", 30)
    provider.may_answer.set()
    wait_for(lambda: source.token().value == "token-2")
    assert provider.fetches == 2


def test_many_threads_fetch_one_token(provider: Provider) -> None:
    source, got = provider.source(), list[str]()
    provider.may_answer.clear()
    threads = [threading.Thread(target=lambda: got.append(source.token().value)) for _ in range(8)]
    for thread in threads:
        thread.start()
    provider.may_answer.set()
    for thread in threads:
        thread.join(10)
    assert got == ["token-1"] * 8


def test_a_failure_is_not_repeated_at_once(provider: Provider) -> None:
    source = provider.source()
    provider.problem = TokenUnavailable("away")
    for _ in range(3):
        with pytest.raises(TokenUnavailable, match="away"):
            source.token()
    assert provider.fetches == 1
    provider.now, provider.problem = 2, None
    assert source.token().value == "token-2"


def test_a_slow_provider_is_not_asked_twice(provider: Provider) -> None:
    source = provider.source(fetch_seconds=0.01)
    provider.may_answer.clear()
    for _ in range(2):
        with pytest.raises(TokenUnavailable, match=r"within 0.01 seconds"):
            source.token()
    assert provider.fetches == 1
    provider.may_answer.set()
    wait_for(lambda: source.problem() is None)
    assert source.token().value == "token-1"


def test_an_unknown_error_is_named_without_its_text(provider: Provider) -> None:
    provider.problem = RuntimeError("the secret is canary")
    with pytest.raises(TokenUnavailable, match=r"^no token for Kafka: RuntimeError$"):
        provider.source().token()


# -- librdkafka and aiokafka -----------------------------------------------------------------------------------


def test_librdkafka_asks_when_the_next_token_is_there(provider: Provider) -> None:
    source = provider.source()
    value, end, principal, extensions = source("")
    assert (value, principal, extensions) == ("token-1", "", {})
    # It asks after 80 % of the time.
    assert 0.8 * (end - time.time()) == pytest.approx(60, abs=1)


def test_librdkafka_keeps_the_last_token_in_an_outage(provider: Provider) -> None:
    source = provider.source()
    source.token()
    provider.now, provider.problem = 200, TokenUnavailable("away")
    value, end, _, _ = source("")
    assert value == "token-1"
    assert end - time.time() == pytest.approx(2, abs=1)


def test_librdkafka_gets_no_error_without_any_token(provider: Provider) -> None:
    provider.problem = TokenUnavailable("away")
    assert provider.source()("")[0] == "unavailable"


async def test_aiokafka_gets_an_error_that_it_waits_for(provider: Provider) -> None:
    faust = FaustTokens(provider.source())
    assert await faust.token() == "token-1"
    provider.now, provider.problem = 200, TokenUnavailable("away")
    with pytest.raises(KafkaConnectionError, match="away"):
        await faust.token()


async def test_an_outage_is_logged_before_the_token_ends(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "RETRY_SECONDS", 0.01)
    source, telemetry = provider.source(), FakeTelemetry()
    source.token()
    provider.now, provider.problem = 61, TokenUnavailable("away")
    async with in_background(keep_token(source, Outages(telemetry))):
        await until(lambda: bool(telemetry.logged), 10)
        assert telemetry.logged == [("kafka_token_unavailable", {"why": "away"})]
        assert source.token().value == "token-1"
        provider.now, provider.problem = 62, None
        await until(lambda: len(telemetry.logged) == 2, 10)
        assert telemetry.logged[1][0] == "kafka_token_available"


# -- the token endpoint ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def endpoint() -> Iterator[TokenEndpoint]:
    endpoint = TokenEndpoint()
    endpoint.start()
    yield endpoint
    endpoint.stop()


SASL = {
    "KAFKA_BOOTSTRAP_SERVERS": "kafka:9092",
    "KAFKA_CONFIG_SECURITY_PROTOCOL": "SASL_SSL",
    "KAFKA_CONFIG_SASL_MECHANISM": "OAUTHBEARER",
}


def oidc(url: str, **more: str) -> Mapping[str, str]:
    named = {
        "METHOD": "oidc",
        "CLIENT_ID": CLIENT_ID,
        "CLIENT_SECRET": CLIENT_SECRET,
        "TOKEN_ENDPOINT_URL": url,
        **more,
    }
    return SASL | {f"KAFKA_CONFIG_SASL_OAUTHBEARER_{name}": value for name, value in named.items()}


def source_of(environ: Mapping[str, str]) -> TokenSource:
    source = token_source(kafka_properties(environ))
    assert source
    return source


def test_the_request_is_that_of_librdkafka(endpoint: TokenEndpoint) -> None:
    source = source_of(
        oidc(endpoint.url, SCOPE="kafka other", EXTENSIONS="logicalCluster=lkc-1, identityPoolId=pool-1")
    )
    assert source.token().value == endpoint.tokens[-1]
    assert endpoint.forms[-1] == {"grant_type": "client_credentials", "scope": "kafka other"}
    # librdkafka sends id and secret as they are.
    assert endpoint.credentials[-1] == "Basic d2ViaG9va3M6YSBzZWNyZXQ6IDEwMCUgKyB+"
    assert source("")[3] == {"logicalCluster": "lkc-1", "identityPoolId": "pool-1"}


WRONG: dict[str, tuple[int, bytes, str]] = {
    "html": (200, b"<html>", "answers with something else than a JSON object"),
    "list": (200, b"[]", "answers with something else than a JSON object"),
    "deep": (200, b"[" * 100_000, "answers with something else than a JSON object"),
    "no token": (200, b'{"expires_in": 60}', "answers without an access_token"),
    "no end": (200, b'{"access_token": "opaque"}', "does not say how long the token is valid"),
    "ended": (200, b'{"access_token": "a", "expires_in": 0}', "has ended already"),
    "infinite": (200, b'{"access_token": "a", "expires_in": Infinity}', "does not say how long"),
    "two words": (200, b'{"access_token": "a\\u0001b", "expires_in": 60}', "is not one word of ASCII"),
    "huge": (200, b"x" * 1_100_000, "is longer than 1 MiB"),
    "long token": (200, json.dumps({"access_token": "x" * 70_000, "expires_in": 9}).encode(), "is longer than 65536"),
    "refused": (
        401,
        b'{"error": "invalid_client", "error_description": "canary"}',
        "refuses this client: invalid_client",
    ),
    "redirect": (302, b"", "answers with status 302"),
    "failed": (500, b"canary", "answers with status 500"),
}


@pytest.mark.parametrize(("status", "body", "reason"), WRONG.values(), ids=WRONG)
def test_a_wrong_response_is_named(endpoint: TokenEndpoint, status: int, body: bytes, reason: str) -> None:
    endpoint.instead = lambda: (status, body)
    with pytest.raises(TokenUnavailable) as raised:
        source_of(oidc(endpoint.url)).token()
    endpoint.instead = None
    assert reason in str(raised.value)
    assert "canary" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_token_endpoint_that_is_away_is_named() -> None:
    [port] = free_ports(1)
    with pytest.raises(TokenUnavailable, match=f"the token endpoint 127.0.0.1:{port} failed"):
        source_of(oidc(f"http://127.0.0.1:{port}/token")).token()


def test_a_slow_token_endpoint_is_named(endpoint: TokenEndpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limited_transport, "TIMEOUT_SECONDS", 0.2)
    endpoint.instead = lambda: None
    with pytest.raises(TokenUnavailable, match=r"did not respond within 0.2 seconds"):
        source_of(oidc(endpoint.url)).token()
    endpoint.instead = None


def test_a_jwt_says_itself_when_it_ends() -> None:
    token = jwt.encode({"alg": "HS256"}, {"exp": int(time.time()) + 300}, OctKey.generate_key())
    assert parse_response(200, json.dumps({"access_token": token}).encode()).seconds == pytest.approx(300, abs=2)


# -- settings --------------------------------------------------------------------------------------------------

URL = "https://login.example.com/token"


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        (
            {**SASL, "KAFKA_CONFIG_SASL_MECHANISM": "GSSAPI"},
            "KAFKA_CONFIG_SASL_MECHANISM is GSSAPI (Kerberos), or not set",
        ),
        ({**SASL, "KAFKA_CONFIG_SASL_MECHANISM": ""}, "use one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER"),
        (SASL, "KAFKA_CONFIG_SASL_OAUTHBEARER_METHOD is not oidc"),
        (oidc(URL, CLIENT_ID=""), "KAFKA_CONFIG_SASL_OAUTHBEARER_CLIENT_ID is not set"),
        (oidc(URL, CLIENT_SECRET=""), "KAFKA_CONFIG_SASL_OAUTHBEARER_CLIENT_SECRET is not set"),
        (oidc("login.example.com"), "KAFKA_CONFIG_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL must be a URL"),
        (oidc("https://me:canary@login.example.com"), "KAFKA_CONFIG_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL must be a URL"),
        (oidc(URL, EXTENSIONS="auth=x"), "KAFKA_CONFIG_SASL_OAUTHBEARER_EXTENSIONS must be name=value"),
        ({**oidc(URL), "KAFKA_CONFIG_HTTPS_CA_LOCATION": "/nowhere"}, "KAFKA_CONFIG_HTTPS_CA_LOCATION: [Errno 2]"),
        ({**SASL, "KAFKA_MSK_REGION": "eu-central-1"}, "cannot be set together with KAFKA_MSK_REGION"),
        ({"KAFKA_BOOTSTRAP_SERVERS": "k:1", "KAFKA_MSK_REGION": "https://x"}, "KAFKA_MSK_REGION must be the name"),
        ({"KAFKA_BOOTSTRAP_SERVERS": "k:1", "KAFKA_MSK_ROLE_ARN": "arn"}, "KAFKA_MSK_REGION is not"),
    ],
)
def test_a_wrong_setting_is_one_line_with_its_name(environ: dict[str, str], message: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        kafka_properties(environ)
    assert message in str(refused.value)
    assert "canary" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_event_producer_refuses_gssapi_by_its_name() -> None:
    properties: dict[str, Any] = {"security.protocol": "sasl_ssl"}
    with pytest.raises(Misconfigured, match=r"sasl\.mechanism is GSSAPI"):
        EventProducer("kafka:9092", properties=properties)


def test_no_secret_is_in_a_repr(endpoint: TokenEndpoint) -> None:
    source = source_of(oidc(endpoint.url))
    source.token()
    shown = repr([source, source._fetch, source._token, kafka_properties(oidc(endpoint.url))])
    assert CLIENT_SECRET not in shown
    assert endpoint.tokens[-1] not in shown


def test_the_check_of_properties_asks_for_no_token(endpoint: TokenEndpoint) -> None:
    asked = len(endpoint.forms)
    kafka_properties(oidc(endpoint.url))
    assert len(endpoint.forms) == asked


async def test_a_wait_for_a_token_does_not_stop_the_loop(provider: Provider) -> None:
    provider.may_answer.clear()
    waiting = asyncio.create_task(FaustTokens(provider.source()).token())
    await until(lambda: provider.fetches == 1, 10)
    assert not waiting.done()
    provider.may_answer.set()
    assert await waiting == "token-1"
