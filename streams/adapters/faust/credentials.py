"""Translate librdkafka's security properties for Faust, which uses aiokafka."""

import ssl
from collections.abc import Mapping
from typing import Any

from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import KafkaConnectionError
from faust.auth import OAuthCredentials, SASLCredentials, SSLCredentials
from faust.types.auth import CredentialsT

from streams.adapters.kafka.connection.client_credentials import https_context
from streams.adapters.kafka.connection.config import variable
from streams.adapters.kafka.connection.security import SUPPORTED_OPTIONS, mechanism_of, token_source
from streams.adapters.kafka.connection.tokens import TokenSource
from streams.adapters.threads import run_in_daemon_thread
from streams.core.errors import Misconfigured, TokenUnavailable

_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_SUPPORTED = frozenset(
    {
        "enable.ssl.certificate.verification",
        "sasl.mechanism",
        "sasl.mechanisms",
        "sasl.password",
        "sasl.username",
        "security.protocol",
        "ssl.ca.location",
        "ssl.ca.pem",
        "ssl.certificate.location",
        "ssl.endpoint.identification.algorithm",
        "ssl.key.location",
        "ssl.key.password",
    }
)


class FaustTokens(AbstractTokenProvider):  # type: ignore[misc]
    """The tokens of this process for aiokafka, which asks for one at each new connection."""

    def __init__(self, source: TokenSource) -> None:
        self._source = source

    async def token(self) -> str:
        try:
            return (await run_in_daemon_thread(self._source.token)).value
        except TokenUnavailable as error:
            # aiokafka logs the error, and tries again.
            raise KafkaConnectionError(str(error)) from None

    def extensions(self) -> dict[str, str]:
        return self._source.extensions


def faust_security(properties: Mapping[str, Any]) -> CredentialsT | None:
    """Faust's `broker_credentials` for librdkafka's properties. None for plain text.

    Raises `Misconfigured` for a property that Faust does not support, because the connection may be less safe.
    """
    for name in properties:
        # An option that a token source supports comes here only together with an unsupported one.
        if name.startswith(("sasl.", "ssl.", "enable.ssl.")) and name not in _SUPPORTED | SUPPORTED_OPTIONS:
            raise Misconfigured(f"{variable(name)} cannot be used: fan-out reads with Faust, which has no such option")
    protocol = properties.get("security.protocol", "plaintext").lower()
    context = _ssl_context(properties) if protocol.endswith("ssl") else None
    if protocol.startswith("sasl_") and (source := token_source(properties)):
        return OAuthCredentials(oauth_cb=FaustTokens(source), ssl_context=context)
    if protocol.startswith("sasl_"):
        return SASLCredentials(
            mechanism=_mechanism(properties),
            username=properties.get("sasl.username"),
            password=properties.get("sasl.password"),
            ssl_context=context,
        )
    return SSLCredentials(context) if context else None


def _mechanism(properties: Mapping[str, Any]) -> str:
    mechanism = mechanism_of(properties)
    if mechanism not in _MECHANISMS:
        names = ", ".join(_MECHANISMS)
        raise Misconfigured(
            f"{variable('sasl.mechanism')} is {mechanism}: fan-out can do {names}, and OAUTHBEARER by oidc"
        )
    return mechanism


def _ssl_context(properties: Mapping[str, Any]) -> ssl.SSLContext:
    files = ("ssl.ca.location", "ssl.ca.pem", "ssl.certificate.location", "ssl.key.location")
    try:
        context = https_context(properties.get("ssl.ca.location"), properties.get("ssl.ca.pem"))
        if certificate := properties.get("ssl.certificate.location"):
            # Without a password, OpenSSL asks the terminal for one.
            password = properties.get("ssl.key.password", "")
            context.load_cert_chain(certificate, properties.get("ssl.key.location"), password)
    except OSError as error:
        names = ", ".join(variable(name) for name in files if name in properties)
        raise Misconfigured(f"{names}: {error}") from error
    if properties.get("ssl.endpoint.identification.algorithm", "https").lower() == "none":
        context.check_hostname = False
    if properties.get("enable.ssl.certificate.verification", "true").lower() in ("false", "f", "0"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
