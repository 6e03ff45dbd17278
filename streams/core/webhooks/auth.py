"""How requests authenticate at an endpoint: HTTP Basic, or OAuth 2.0 client credentials. Secrets are elsewhere."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any
from urllib.parse import quote_plus

from streams.core.errors import FieldError, Invalid
from streams.core.limits import MAX_AUTH_CHARACTERS, MAX_URL_CHARACTERS


class AuthType(StrEnum):
    """The kind of authentication."""

    BASIC = "basic"
    OAUTH2 = "oauth2"


class ClientAuthentication(StrEnum):
    """How the client authenticates at the token server (RFC 6749 §2.3.1)."""

    BASIC = "basic"
    BODY = "body"


@dataclass(frozen=True, slots=True)
class Auth:
    """The public part of a webhook's credentials. `audience` and `resource` (RFC 8707) are different fields."""

    type: AuthType
    username: str | None = None
    token_url: str | None = None
    client_id: str | None = None
    scope: str | None = None
    audience: str | None = None
    resource: str | None = None
    client_authentication: ClientAuthentication | None = None

    def to_json(self) -> dict[str, str]:
        """The fields by the names of the API."""
        present_values = {FIELD_NAMES[one.name]: getattr(self, one.name) for one in fields(self)}
        return {name: str(value) for name, value in present_values.items() if value is not None}

    def has_same_client(self, other: "Auth") -> bool:
        """Whether the secret of `other` belongs to this client, at the same token server."""
        return (self.type, self.username, self.token_url, self.client_id) == (
            *(other.type, other.username, other.token_url, other.client_id),
        )


# Each field with its name in the API.
FIELD_NAMES = {
    "type": "type",
    "username": "username",
    "token_url": "tokenUrl",
    "client_id": "clientId",
    "scope": "scope",
    "audience": "audience",
    "resource": "resource",
    "client_authentication": "clientAuthentication",
}
_REQUIRED = {AuthType.BASIC: ("username",), AuthType.OAUTH2: ("tokenUrl", "clientId")}
_OPTIONAL: Mapping[AuthType, tuple[str, ...]] = {
    AuthType.BASIC: (),
    AuthType.OAUTH2: ("scope", "audience", "resource", "clientAuthentication"),
}
# The name of the secret in a request to the API.
SECRET_NAMES = {AuthType.BASIC: "password", AuthType.OAUTH2: "clientSecret"}


class UnknownOption(Invalid):
    """An option, or a part of one, that a newer release may know."""


def parse_auth(value: object) -> Auth:
    """Parse the public part of credentials. Raises `Invalid`, which names each wrong field, and `UnknownOption`."""
    if not isinstance(value, Mapping):
        raise Invalid(FieldError("auth", "must be an object with a type"))
    if value.get("type") not in tuple(AuthType):
        raise UnknownOption(FieldError("auth.type", "must be one of: " + ", ".join(AuthType)))
    if unknown_names := sorted(map(str, value.keys() - set(FIELD_NAMES.values()))):
        raise UnknownOption(FieldError(f"auth.{unknown_names[0][:40]}", "is not a field of auth"))
    auth_type = AuthType(value["type"])
    names = _REQUIRED[auth_type] + _OPTIONAL[auth_type]
    errors = [
        FieldError(f"auth.{name}", f"is not a field of {auth_type}")
        for name, text in value.items()
        if name not in (*names, "type") and text is not None
    ]
    present_values = {name: value[name] for name in names if value.get(name) is not None}
    errors += [
        FieldError(f"auth.{name}", "is required") for name in _REQUIRED[auth_type] if not present_values.get(name)
    ]
    for name, text in present_values.items():
        limit = MAX_URL_CHARACTERS if name in ("tokenUrl", "resource") else MAX_AUTH_CHARACTERS
        if not isinstance(text, str) or not text.isprintable() or len(text) > limit:
            errors.append(FieldError(f"auth.{name}", f"must be printable text of at most {limit} characters"))
    if auth_type is AuthType.BASIC and ":" in str(present_values.get("username", "")):
        # RFC 7617 §2.
        errors.append(FieldError("auth.username", "must not hold a colon"))
    if present_values.get("clientAuthentication", ClientAuthentication.BASIC) not in tuple(ClientAuthentication):
        message = "must be one of: " + ", ".join(ClientAuthentication)
        errors.append(FieldError("auth.clientAuthentication", message))
    if errors:
        raise Invalid(*errors)
    known_values: dict[str, Any] = {field: present_values.get(name) for field, name in FIELD_NAMES.items()}
    if (method := known_values["client_authentication"]) is not None:
        known_values["client_authentication"] = ClientAuthentication(method)
    return Auth(**{**known_values, "type": auth_type})


def basic_credentials(username: str, password: str) -> str:
    """The value of `Authorization` for HTTP Basic (RFC 7617), in UTF-8."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def client_credentials(client_id: str, client_secret: str, *, is_encoded: bool) -> str:
    """The value of `Authorization` for a client, form-encoded as RFC 6749 §2.3.1 asks for, or raw."""
    if is_encoded:
        client_id, client_secret = quote_plus(client_id), quote_plus(client_secret)
    return basic_credentials(client_id, client_secret)
