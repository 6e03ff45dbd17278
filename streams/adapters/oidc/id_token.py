"""Validate an id token: its signature, issuer, audience, times and nonce."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry

from streams.adapters.oidc.metadata import Metadata
from streams.core.accounts.oidc import SignInRefused
from streams.core.errors import ProviderFailed

# How far the provider's clock may be off.
LEEWAY_SECONDS = 60
# There may be many groups.
MAX_TOKEN_CHARACTERS = 256 * 1024


def validate_claims(
    token: Mapping[str, Any], keys: KeySet, metadata: Metadata, client_id: str, nonce: str, now: datetime
) -> Mapping[str, object]:
    """The claims of a token response (OpenID Connect Core §3.1.3.7).

    Raises `SignInRefused`, and joserfc's `InvalidKeyIdError` for a key that is not among `keys`.
    """
    id_token = token.get("id_token")
    if not isinstance(id_token, str) or len(id_token) > MAX_TOKEN_CHARACTERS:
        raise ProviderFailed("the provider's token endpoint gives no id token")
    registry = JWSRegistry(algorithms=metadata.algorithms, strict_check_header=False)
    options = {
        "iss": {"essential": True, "value": metadata.issuer},
        "aud": {"essential": True, "value": client_id},
        "nonce": {"essential": True, "value": nonce},
    }
    expected_values = {"nonce": nonce, "client_id": client_id, "access_token": token.get("access_token")}
    try:
        validated_token = jwt.decode(id_token, keys, registry=registry)
        claims = CodeIDToken(validated_token.claims, validated_token.header, options, expected_values)
        claims.validate(now=int(now.timestamp()), leeway=LEEWAY_SECONDS)
    except InvalidKeyIdError:
        raise
    except (JoseError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise SignInRefused(f"the id token is not valid: {_reason(error)}") from None
    return dict(claims)


def _reason(error: Exception) -> str:
    """Why a token is not valid, without the text of the token."""
    return f"{error.error}: {error.description}"[:200] if isinstance(error, JoseError) else type(error).__name__
