"""A provider's metadata and keys."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry, Key, KeySet

from streams.core.errors import ProviderFailed

DISCOVERY_PATH = "/.well-known/openid-configuration"
# Signatures by a private key. With HS256 a public key could be used as a secret, and `none` signs nothing.
ALGORITHMS = frozenset(f"{family}{bits}" for family in ("RS", "PS", "ES") for bits in (256, 384, 512)) | {
    "EdDSA",
    "Ed25519",
}
MAX_KEYS = 100


@dataclass(frozen=True, slots=True)
class Metadata:
    """The parts of a provider's metadata that a sign-in needs (OpenID Connect Discovery 1.0 §3)."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None
    algorithms: frozenset[str]
    token_auth_method: str


def parse_metadata(document: object, issuer: str) -> Metadata:
    """Parse a provider's metadata. Raises `ProviderFailed`."""
    if not isinstance(document, Mapping):
        raise ProviderFailed("the provider's metadata is not a JSON object")
    document_issuer = document.get("issuer")
    # People forget the slash at the end, or add one; both lead to the same host.
    if not isinstance(document_issuer, str) or document_issuer.rstrip("/") != issuer.rstrip("/"):
        raise ProviderFailed("the provider's metadata names another issuer than SCORM_WEBHOOKS_OIDC_ISSUER")
    algorithms = ALGORITHMS & {*_string_list(document, "id_token_signing_alg_values_supported", "RS256")}
    if not algorithms:
        raise ProviderFailed("the provider signs id tokens with none of the algorithms RS, PS, ES and EdDSA")
    methods = _string_list(document, "token_endpoint_auth_methods_supported", "client_secret_basic")
    supported_methods = [method for method in ("client_secret_basic", "client_secret_post") if method in methods]
    if not supported_methods:
        raise ProviderFailed("the provider's token endpoint accepts no client secret")
    return Metadata(
        document_issuer,
        _url(document, "authorization_endpoint", issuer),
        _url(document, "token_endpoint", issuer),
        _url(document, "jwks_uri", issuer),
        _url(document, "userinfo_endpoint", issuer) if document.get("userinfo_endpoint") else None,
        algorithms,
        supported_methods[0],
    )


def parse_keys(document: object) -> KeySet:
    """The public keys for signatures. Unsupported keys are left out. Raises `ProviderFailed`."""
    keys = document.get("keys") if isinstance(document, Mapping) else None
    if not isinstance(keys, list):
        raise ProviderFailed("the provider's key set is not a JSON object with a list of keys")
    return KeySet([key for key_data in keys[:MAX_KEYS] if (key := _public_key(key_data)) is not None])


def _public_key(parameters: object) -> Key | None:
    if not isinstance(parameters, dict) or parameters.get("kty") == "oct" or parameters.get("use") == "enc":
        return None
    try:
        return JWKRegistry.import_key(parameters)
    except (JoseError, UnsupportedAlgorithm, ValueError, TypeError, KeyError):
        return None


def _url(document: Mapping[str, object], name: str, issuer: str) -> str:
    """An endpoint: https, unless the issuer itself is not."""
    url = document.get(name)
    try:
        parts = urlsplit(url) if isinstance(url, str) and url.isprintable() else None
    except ValueError:
        parts = None
    if parts is None or not parts.hostname or parts.scheme not in ("https", urlsplit(issuer).scheme):
        raise ProviderFailed(f"the provider's metadata has no https URL as {name}")
    return parts.geturl()


def _string_list(document: Mapping[str, object], name: str, default: str) -> tuple[str, ...]:
    value = document.get(name, [default])
    return tuple(text for text in value if isinstance(text, str)) if isinstance(value, list) else ()
