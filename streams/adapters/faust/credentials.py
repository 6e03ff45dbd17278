"""Translate librdkafka's security properties for Faust, which uses aiokafka."""

import os
import ssl
from collections.abc import Mapping

from faust.auth import SASLCredentials, SSLCredentials
from faust.types.auth import CredentialsT

from streams.adapters.kafka.config import variable
from streams.core.errors import Misconfigured

_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_KNOWN = frozenset(
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


def faust_security(properties: Mapping[str, str]) -> CredentialsT | None:
    """Faust's `broker_credentials` for librdkafka's properties. None for plain text.

    Raises `Misconfigured` for a property that Faust does not support: without it the connection may be less safe.
    """
    for name in properties:
        if name.startswith(("sasl.", "ssl.", "enable.ssl.")) and name not in _KNOWN:
            raise Misconfigured(f"{variable(name)} cannot be used: fan-out reads with Faust, which has no such option")
    protocol = properties.get("security.protocol", "plaintext").lower()
    context = _ssl_context(properties) if protocol.endswith("ssl") else None
    if protocol.startswith("sasl_"):
        return SASLCredentials(
            mechanism=_mechanism(properties),
            username=properties.get("sasl.username"),
            password=properties.get("sasl.password"),
            ssl_context=context,
        )
    return SSLCredentials(context) if context else None


def _mechanism(properties: Mapping[str, str]) -> str:
    name = "sasl.mechanism" if "sasl.mechanism" in properties else "sasl.mechanisms"
    mechanism = properties.get(name, "GSSAPI")  # librdkafka's default
    if mechanism not in _MECHANISMS:
        known = ", ".join(_MECHANISMS)
        raise Misconfigured(f"{variable('sasl.mechanism')} is {mechanism}: fan-out can do {known}")
    return mechanism


def _ssl_context(properties: Mapping[str, str]) -> ssl.SSLContext:
    authority = properties.get("ssl.ca.location", "probe")
    place = {"capath" if os.path.isdir(authority) else "cafile": authority} if authority != "probe" else {}
    files = ("ssl.ca.location", "ssl.ca.pem", "ssl.certificate.location", "ssl.key.location")
    try:
        # As in librdkafka, a given authority replaces those of the system.
        context = ssl.create_default_context(
            cafile=place.get("cafile"), capath=place.get("capath"), cadata=properties.get("ssl.ca.pem")
        )
        if certificate := properties.get("ssl.certificate.location"):
            # Without a password, OpenSSL asks the terminal for one.
            password = properties.get("ssl.key.password", "")
            context.load_cert_chain(certificate, properties.get("ssl.key.location"), password)
    except OSError as error:
        named = ", ".join(variable(name) for name in files if name in properties)
        raise Misconfigured(f"{named}: {error}") from error
    if properties.get("ssl.endpoint.identification.algorithm", "https").lower() == "none":
        context.check_hostname = False
    if properties.get("enable.ssl.certificate.verification", "true").lower() in ("false", "f", "0"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
