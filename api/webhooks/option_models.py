"""Models of a webhook's own rules of delivery."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from api.shared_models import Input, Model, Text, Url, at_most
from streams.core.limits import (
    MAX_AUTH_CHARACTERS,
    MAX_FAILURES_TO_PAUSE,
    MAX_FIELD_PATH_CHARACTERS,
    MAX_FIELDS_SENT,
    MAX_MINUTES_TO_PAUSE,
    MAX_RETRY_TIERS,
    MAX_URL_CHARACTERS,
    MAX_WAITS_IN_TIER,
)
from streams.core.webhooks.auth import SECRET_NAMES, AuthType, ClientAuthentication
from streams.core.webhooks.delivery_options import DEFAULT_PAUSE_AFTER, OPTION_RULES, DeliveryOptions

Retries = Annotated[
    list[Annotated[Text, Field(max_length=8)]],
    Field(
        max_length=MAX_RETRY_TIERS,
        examples=[["30s", "2m", "10m", "1h", "6h", "24h"]],
        description="The wait before each retry, none shorter than the one before: waits of the system's schedule, or "
        f"2 to {MAX_WAITS_IN_TIER} times its longest. Empty: no retries. Absent: the system's schedule.",
    ),
    at_most(MAX_RETRY_TIERS, "waits"),
]
DataFields = Annotated[
    list[Annotated[Text, Field(max_length=MAX_FIELD_PATH_CHARACTERS)]],
    Field(
        min_length=1,
        max_length=MAX_FIELDS_SENT,
        examples=[["sessionId", "successStatus", "metadata.department"]],
        description="The fields of `data` that are sent. Other fields are not sent, and not stored with the attempt. "
        "Filters see all. Absent: all fields.",
    ),
    at_most(MAX_FIELDS_SENT, "fields"),
]


class PauseLimit(Input):
    """When a failing webhook is paused: after this number of failures in a row over at least these minutes."""

    failures: Annotated[int, Field(ge=1, le=MAX_FAILURES_TO_PAUSE)] = DEFAULT_PAUSE_AFTER.failures
    minutes: Annotated[int, Field(ge=0, le=MAX_MINUTES_TO_PAUSE)] = DEFAULT_PAUSE_AFTER.minutes


AuthText = Annotated[Text, Field(min_length=1, max_length=MAX_AUTH_CHARACTERS)]


class Basic(Model):
    """HTTP Basic (RFC 7617)."""

    type: Literal["basic"]
    username: AuthText


class NewBasic(Basic, Input):
    """HTTP Basic with its password, which no response shows. A change may leave it out for the same user."""

    password: AuthText | None = None


class OAuth2(Model):
    """OAuth 2.0 client credentials: a token for the client is sent as `Bearer`, and renewed before it expires."""

    type: Literal["oauth2"]
    token_url: Url
    client_id: AuthText
    scope: AuthText | None = None
    audience: AuthText | None = None
    resource: Annotated[Text, Field(min_length=1, max_length=MAX_URL_CHARACTERS)] | None = None
    client_authentication: Annotated[ClientAuthentication, Field(strict=False)] | None = None


class NewOAuth2(OAuth2, Input):
    """OAuth 2.0 client credentials with the secret, which no response shows.

    A change may leave it out for the same client at the same token server.
    """

    client_secret: AuthText | None = None


NewAuth = Annotated[
    NewBasic | NewOAuth2,
    Field(
        discriminator="type",
        description="How requests authenticate at the endpoint, and at a fallback URL with the same origin.",
    ),
]


def to_input_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """A request's values as `WebhookInput` expects them, with the secret of `auth` separate."""
    input_values = {name: dict(value) if isinstance(value, PauseLimit) else value for name, value in values.items()}
    if "url" in input_values:
        input_values["url"] = input_values["url"] or ""
    if isinstance(auth := values.get("auth"), NewBasic | NewOAuth2):
        texts = auth.model_dump(mode="json", by_alias=True, exclude_none=True)
        secret = texts.pop(SECRET_NAMES[AuthType(auth.type)], None)
        input_values |= {"auth": texts, "auth_secret": secret}
    return input_values


def option_values(options: DeliveryOptions) -> dict[str, Any]:
    """The rules in the form of a webhook's models."""
    return {
        **{name: getattr(options, name) for name in OPTION_RULES},
        "retries": None if options.retries is None else options.retries.names,
        "pause_after": PauseLimit(failures=options.pause_after.failures, minutes=options.pause_after.minutes),
        "auth": options.auth.to_json() if options.auth else None,
        "fields": None if options.fields is None else list(options.fields),
    }
