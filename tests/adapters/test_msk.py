"""Tokens for Amazon MSK are what its brokers expect. Keys are false, and nothing leaves this machine."""

import time
from base64 import urlsafe_b64decode
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from faust.auth import OAuthCredentials
from faust.types.auth import AuthProtocol
from pytest_httpserver import HTTPServer

from real.process import free_ports
from streams.adapters.faust.credentials import FaustTokens, faust_security
from streams.adapters.kafka.connection import msk
from streams.adapters.kafka.connection.config import kafka_properties
from streams.adapters.kafka.connection.msk import msk_properties
from streams.adapters.kafka.connection.security import token_source
from streams.adapters.kafka.connection.tokens import TokenSource
from streams.core.errors import Misconfigured, TokenUnavailable
from streams.producer import EventProducer

ENVIRON = {"KAFKA_BOOTSTRAP_SERVERS": "b-1.example.com:9098", "KAFKA_MSK_REGION": "eu-central-1"}
SECRET = "canary-of-the-tests"
ROLE = "arn:aws:iam::123456789012:role/kafka"


@pytest.fixture(autouse=True)
def nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials but those of a test, and no question to the network for them."""
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)


def source_of(**more: str) -> TokenSource:
    source = token_source(kafka_properties({**ENVIRON, **more}))
    assert source
    return source


@pytest.mark.usefixtures("keys")
def test_a_token_is_a_signed_request_to_connect() -> None:
    token = source_of().token()
    url = urlsplit(urlsafe_b64decode(token.value + "=" * (-len(token.value) % 4)).decode())
    query = {name: values[0] for name, values in parse_qs(url.query).items()}
    assert (url.scheme, url.netloc, url.path) == ("https", "kafka.eu-central-1.amazonaws.com", "/")
    assert query["Action"] == "kafka-cluster:Connect"
    assert query["X-Amz-Algorithm"] == "AWS4-HMAC-SHA256"
    assert query["X-Amz-SignedHeaders"] == "host"
    assert query["X-Amz-Expires"] == "900"
    assert query["X-Amz-Credential"].startswith("AKIAEXAMPLE/")
    assert query["X-Amz-Credential"].endswith("/eu-central-1/kafka-cluster/aws4_request")
    assert len(query["X-Amz-Signature"]) == 64
    signed = time.mktime(time.strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%SZ")) - time.timezone
    assert signed == pytest.approx(time.time(), abs=5)
    assert token.seconds == pytest.approx(900, abs=60)
    assert SECRET not in url.geturl()


@pytest.mark.usefixtures("keys")
async def test_every_client_gets_the_same_token() -> None:
    properties = kafka_properties(ENVIRON)
    assert (properties["security.protocol"], properties["sasl.mechanism"]) == ("SASL_SSL", "OAUTHBEARER")
    value, *_ = properties["oauth_cb"]("")
    credentials = faust_security(properties)
    assert isinstance(credentials, OAuthCredentials)
    assert credentials.protocol is AuthProtocol.SASL_SSL
    assert isinstance(credentials.oauth_cb, FaustTokens)
    assert await credentials.oauth_cb.token() == value
    assert SECRET not in repr(properties)


@pytest.mark.usefixtures("keys")
def test_an_event_producer_takes_the_properties() -> None:
    properties = {**msk_properties("eu-central-1"), "message.timeout.ms": "1000"}
    [port] = free_ports(1)
    with EventProducer(f"127.0.0.1:{port}", properties=properties) as producer:
        assert producer.flush(0)


def test_missing_credentials_are_named() -> None:
    with pytest.raises(TokenUnavailable, match="AWS's libraries find no credentials"):
        source_of().token()


def test_credentials_that_come_later_are_used(tmp_path: Path) -> None:
    tokens = msk.MskTokens("eu-central-1", None)
    with pytest.raises(TokenUnavailable):
        tokens.fetch()
    (tmp_path / "credentials").write_text(
        f"[default]\naws_access_key_id = AKIAEXAMPLE\naws_secret_access_key = {SECRET}\n"
    )
    assert tokens.fetch().seconds > 890


@pytest.mark.usefixtures("keys")
def test_a_role_that_cannot_be_assumed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    [port] = free_ports(1)
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{port}")
    with pytest.raises(TokenUnavailable, match="AWS gives no credentials: Could not connect") as raised:
        source_of(KAFKA_MSK_ROLE_ARN=ROLE).token()
    assert SECRET not in str(raised.value)


ASSUMED = """<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>
<AccessKeyId>ASIAROLE</AccessKeyId><SecretAccessKey>other</SecretAccessKey><SessionToken>session</SessionToken>
<Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"""
DENIED = """<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>
<Code>AccessDenied</Code><Message>canary</Message></Error></ErrorResponse>"""


@pytest.mark.usefixtures("keys")
def test_a_role_signs_with_its_own_credentials(monkeypatch: pytest.MonkeyPatch, httpserver: HTTPServer) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", httpserver.url_for(""))
    httpserver.expect_request("/").respond_with_data(ASSUMED, content_type="text/xml")
    value = source_of(KAFKA_MSK_ROLE_ARN=ROLE).token().value
    [(request, _)] = httpserver.log
    assert request.form["RoleArn"] == ROLE
    signed = urlsafe_b64decode(value + "=" * (-len(value) % 4)).decode()
    assert "X-Amz-Credential=ASIAROLE" in signed
    assert "X-Amz-Security-Token=session" in signed


@pytest.mark.usefixtures("keys")
def test_a_role_that_aws_refuses_is_named(monkeypatch: pytest.MonkeyPatch, httpserver: HTTPServer) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", httpserver.url_for(""))
    httpserver.expect_request("/").respond_with_data(DENIED, status=403, content_type="text/xml")
    with pytest.raises(TokenUnavailable, match=r"^AWS refuses AssumeRole: AccessDenied$"):
        source_of(KAFKA_MSK_ROLE_ARN=ROLE).token()


def test_without_the_extra_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(msk, "find_spec", lambda name: None)
    with pytest.raises(Misconfigured, match=r"pip install 'scorm-webhooks\[msk\]'"):
        kafka_properties(ENVIRON)
