"""Authentication of clients: check the SASL mechanism, and make the token source of OAUTHBEARER."""

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from streams.adapters.kafka.connection.client_credentials import ClientCredentials, https_context
from streams.adapters.kafka.connection.tokens import TokenSource
from streams.core.errors import Misconfigured

Properties = dict[str, Any]

CALLBACK_PROPERTY = "oauth_cb"
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")
OAUTH_PREFIX = "sasl.oauthbearer."
_ENDPOINT_PROPERTY = f"{OAUTH_PREFIX}token.endpoint.url"
_ID_PROPERTIES = (f"{OAUTH_PREFIX}client.id", f"{OAUTH_PREFIX}client.credentials.client.id")
_SECRET_PROPERTIES = (f"{OAUTH_PREFIX}client.secret", f"{OAUTH_PREFIX}client.credentials.client.secret")
# The options that `ClientCredentials` supports. librdkafka handles the others, such as assertions.
SUPPORTED_OPTIONS = frozenset(
    {
        *_ID_PROPERTIES,
        *_SECRET_PROPERTIES,
        _ENDPOINT_PROPERTY,
        f"{OAUTH_PREFIX}extensions",
        f"{OAUTH_PREFIX}grant.type",
        f"{OAUTH_PREFIX}method",
        f"{OAUTH_PREFIX}scope",
        "https.ca.location",
        "https.ca.pem",
    }
)


def with_token_source(properties: Mapping[str, Any], name_of: Callable[[str], str]) -> Properties:
    """The properties, with a token source as `oauth_cb` if OAUTHBEARER requires one.

    `name_of` returns the name of a property that people set. Raises `Misconfigured`.
    """
    secured_properties = dict(properties)
    if not str(secured_properties.get("security.protocol", "")).lower().startswith("sasl_"):
        return secured_properties
    mechanism = mechanism_of(secured_properties)
    if mechanism not in MECHANISMS:
        advice = f"is {mechanism}" if mechanism != "GSSAPI" else "is GSSAPI (Kerberos), or not set"
        raise Misconfigured(f"{name_of('sasl.mechanism')} {advice}: use one of {', '.join(MECHANISMS)}")
    if mechanism != "OAUTHBEARER" or CALLBACK_PROPERTY in secured_properties or _is_unsecured(secured_properties):
        return secured_properties
    if secured_properties.get(f"{OAUTH_PREFIX}method", "default").lower() != "oidc":
        raise Misconfigured(
            f"{name_of(f'{OAUTH_PREFIX}method')} is not oidc: OAUTHBEARER needs it, or Kafka gets no token"
        )
    if not is_client_credentials(secured_properties):
        return secured_properties
    source = TokenSource(
        _client_credentials(secured_properties, name_of).fetch, _parse_extensions(secured_properties, name_of)
    )
    # Each client of librdkafka would fetch its own token, take a response of any length, and give its reason late.
    return {name: value for name, value in secured_properties.items() if name not in SUPPORTED_OPTIONS} | {
        CALLBACK_PROPERTY: source
    }


def mechanism_of(properties: Mapping[str, Any]) -> str:
    """The SASL mechanism; without one, librdkafka's default."""
    return str(properties.get("sasl.mechanism") or properties.get("sasl.mechanisms") or "GSSAPI")


def token_source(properties: Mapping[str, Any]) -> TokenSource | None:
    """The source of the tokens of these clients."""
    source = properties.get(CALLBACK_PROPERTY)
    return source if isinstance(source, TokenSource) else None


def require_token(properties: Mapping[str, Any]) -> None:
    """Raise `TokenUnavailable` while these clients have no token. It may wait for one."""
    if source := token_source(properties):
        source.token()


def is_client_credentials(properties: Mapping[str, Any]) -> bool:
    """Whether `ClientCredentials` supports everything that these properties require."""
    names = {name for name in properties if name.startswith((OAUTH_PREFIX, "https."))}
    return (
        names <= SUPPORTED_OPTIONS
        and properties.get(f"{OAUTH_PREFIX}grant.type", "client_credentials") == "client_credentials"
    )


def _is_unsecured(properties: Mapping[str, Any]) -> bool:
    return str(properties.get("enable.sasl.oauthbearer.unsecure.jwt", "false")).lower() in ("true", "t", "1")


def _client_credentials(properties: Mapping[str, Any], name_of: Callable[[str], str]) -> ClientCredentials:
    endpoint = properties.get(_ENDPOINT_PROPERTY, "")
    try:
        parts = urlsplit(endpoint)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and not parts.username
    except ValueError:
        is_url = False
    if not is_url or not endpoint.isascii() or not endpoint.isprintable() or " " in endpoint:
        raise Misconfigured(
            f"{name_of(_ENDPOINT_PROPERTY)} must be a URL such as https://login.example.com/oauth2/token"
        )
    client_id, secret = (
        _require_property(properties, names, name_of) for names in (_ID_PROPERTIES, _SECRET_PROPERTIES)
    )
    try:
        tls = https_context(properties.get("https.ca.location"), properties.get("https.ca.pem"))
    except OSError as error:
        ca_names = [name_of(name) for name in ("https.ca.location", "https.ca.pem") if name in properties]
        raise Misconfigured(f"{', '.join(ca_names)}: {error}") from None
    return ClientCredentials(endpoint, client_id, secret, properties.get(f"{OAUTH_PREFIX}scope"), tls)


def _require_property(properties: Mapping[str, Any], names: tuple[str, str], name_of: Callable[[str], str]) -> str:
    value = properties.get(names[0]) or properties.get(names[1])
    if not value:
        raise Misconfigured(f"{name_of(names[0])} is not set: OAUTHBEARER needs it")
    return str(value)


def _parse_extensions(properties: Mapping[str, Any], name_of: Callable[[str], str]) -> dict[str, str]:
    """SASL extensions such as `logicalCluster=lkc-1,identityPoolId=pool-1` (RFC 7628 §3.1)."""
    extensions: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in properties.get(f"{OAUTH_PREFIX}extensions", "").split(","))):
        name, separator, value = pair.partition("=")
        if not separator or not (name.isascii() and name.isalpha()) or name == "auth" or not value.isprintable():
            raise Misconfigured(f"{name_of(f'{OAUTH_PREFIX}extensions')} must be name=value pairs, separated by commas")
        extensions[name] = value
    return extensions
