"""Models of webhooks."""

import json
from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import Field, create_model

from api.shared_models import UNCHANGED, Changes, Id, Input, Model, Text, Time, Url, at_most
from api.webhooks.field_types import changed_fields, new_fields, shown_fields
from api.webhooks.filter_model import FilterObject
from api.webhooks.option_models import (
    Basic,
    DataFields,
    NewAuth,
    OAuth2,
    PauseLimit,
    Retries,
    option_values,
    to_input_values,
)
from streams.core.deliveries.held import HeldChoice
from streams.core.limits import (
    DEFAULT_OVERLAP_HOURS,
    MAX_EVENT_TYPE_CHARACTERS,
    MAX_EVENT_TYPES_LISTED,
    MAX_HEADER_NAME_CHARACTERS,
    MAX_HEADER_VALUE_CHARACTERS,
    MAX_OVERLAP_HOURS,
    MAX_SCOPE_IDS,
    MAX_WEBHOOK_HEADERS,
)
from streams.core.webhooks.webhook import (
    DeliveryMode,
    PauseReason,
    Registration,
    Status,
    to_entered_types,
)
from streams.core.webhooks.webhook import ListedWebhook as Listed
from streams.core.webhooks.webhook_input import WebhookInput
from streams.features.webhooks.secrets import RotationResult
from streams.features.webhooks.service import ChangeResult, RegistrationResult

Events = Annotated[
    list[Annotated[Text, Field(max_length=MAX_EVENT_TYPE_CHARACTERS)]],
    Field(max_length=MAX_EVENT_TYPES_LISTED, examples=[["session.completed"]], description="Types, or `*` for all."),
    at_most(MAX_EVENT_TYPES_LISTED, "types"),
]
_SCOPE = (
    "`packages` and `dispatches` are one scope: an event matches when its package or its dispatch is listed. "
    "Both empty: no limit. Events without either, such as `usage.threshold`, match by type alone."
)
Packages = Annotated[
    list[Id],
    Field(max_length=MAX_SCOPE_IDS, examples=[["pkg_def456"]], description=f"Package ids. {_SCOPE}"),
    at_most(MAX_SCOPE_IDS, "ids"),
]
Dispatches = Annotated[
    list[Id],
    Field(max_length=MAX_SCOPE_IDS, examples=[["dsp_ghi789"]], description=f"Dispatch ids. {_SCOPE}"),
    at_most(MAX_SCOPE_IDS, "ids"),
]
Headers = Annotated[
    dict[
        Annotated[Text, Field(max_length=MAX_HEADER_NAME_CHARACTERS)],
        Annotated[Text, Field(max_length=MAX_HEADER_VALUE_CHARACTERS)],
    ],
    Field(
        max_length=MAX_WEBHOOK_HEADERS,
        examples=[{"X-Gateway-Key": "k-123"}],
        description="Headers of your own, sent with every request to `url`.",
    ),
    at_most(MAX_WEBHOOK_HEADERS, "headers"),
]
FallbackHeaders = Annotated[
    Headers,
    Field(
        description="Headers of your own for `fallbackUrl`. Without any, it gets `headers` if it has the same scheme, "
        "host and port as `url`, and none of yours otherwise."
    ),
]
Delivery = Annotated[
    DeliveryMode,
    Field(
        strict=False,
        description="`push`: requests to `url`. `pull`: readers pull, as `POST /v1/webhooks/{id}/pull` says; without a "
        "`url`, and without what only requests need. A change takes back what the new way does not use.",
    ),
]
# The types of the fields that are not plain.
_TYPES = {
    "url": Url,
    "delivery": Delivery,
    "events": Events,
    "packages": Packages,
    "dispatches": Dispatches,
    "fallback_url": Url,
    "headers": Headers,
    "fallback_headers": FallbackHeaders,
    "filter": FilterObject,
    "retries": Retries,
    "pause_after": PauseLimit,
    "auth": NewAuth,
    "fields": DataFields,
}

# Fields that `WebhookInput` does not have.
_FIELDS_BESIDE_INPUT = ("status", "temporary")


class NewWebhook(create_model("NewWebhookFields", __base__=Input, **new_fields(_TYPES))):  # type: ignore[misc]
    """A webhook to register. One that is created paused gets no requests until it is enabled; its events are held."""

    status: Annotated[Status, Field(strict=False)] = Status.ACTIVE
    temporary: Annotated[
        bool, Field(description="For delivery `pull`: it is deleted when no reader has pulled for an hour.")
    ] = False

    def webhook_input(self, account_id: str) -> WebhookInput:
        """The input for an account."""
        return WebhookInput(
            account_id, **to_input_values({name: value for name, value in self if name not in _FIELDS_BESIDE_INPUT})
        )


class WebhookChanges(create_model("WebhookChangesFields", __base__=Changes, **changed_fields(_TYPES))):  # type: ignore[misc]
    """Changes of a webhook; omitted fields do not change. `null` removes a value, or takes the default."""

    status: Annotated[Status, Field(strict=False)] = UNCHANGED


class Enabling(Input):
    """What happens to held deliveries: delivered oldest first, kept as dead letters, or discarded."""

    held: Annotated[HeldChoice, Field(strict=False)] = HeldChoice.DELIVER


class Rotation(Input):
    """For how many hours the old secret stays valid; 0 ends it at once."""

    overlap_hours: Annotated[int, Field(ge=0, le=MAX_OVERLAP_HOURS)] = DEFAULT_OVERLAP_HOURS


class _Identity(Model):
    """The identity of a webhook, and what it gets."""

    id: str
    account_id: str
    url: Annotated[
        str | None,
        Field(
            description="For a key without `webhooks:write` it ends in `?…` instead of its query. "
            "A pull webhook has none."
        ),
    ] = None
    delivery: DeliveryMode
    events: list[str]


class _Webhook(create_model("WebhookFields", __base__=_Identity, **shown_fields())):  # type: ignore[misc]
    """What every response shows of a webhook."""

    fallback_url: str | None = None
    has_headers: Annotated[bool, Field(description="Whether it sends headers of your own, which are not shown.")]
    has_fallback_headers: Annotated[bool, Field(description="The same for those of `fallbackUrl` alone.")]
    filter: FilterObject | None = None
    retries: Retries | None = None
    pause_after: PauseLimit
    auth: Basic | OAuth2 | None = None
    fields: list[str] | None = None
    status: Status
    pause_reason: PauseReason | None = None
    paused_at: Time | None = None
    probe_at: Annotated[Time | None, Field(description="When one held event is tried, if that may end the pause.")] = (
        None
    )
    expires_at: Annotated[
        Time | None, Field(description="When a temporary webhook is deleted, unless a reader pulls before.")
    ] = None
    old_secret_until: Annotated[
        Time | None, Field(description="During a rotation: until when the old secret is valid.")
    ] = None
    created_at: Time
    version: int
    propagated: bool | None = None
    warnings: Annotated[
        list[str] | None,
        Field(description="After a registration or a change: what may be wrong, such as a host that does not resolve."),
    ] = None

    @classmethod
    def of_listed(cls, listed_webhook: Listed, now: datetime, *sources: object, **computed_fields: Any) -> Self:
        """As it is now."""
        options = option_values(listed_webhook.options)
        is_pull = listed_webhook.delivery is DeliveryMode.PULL
        options["retention_days"] = listed_webhook.options.retention.days if is_pull else None
        webhook: Self = cls.of(
            listed_webhook,
            *sources,
            events=to_entered_types(listed_webhook.event_types),
            filter=json.loads(listed_webhook.filter) if listed_webhook.filter else None,
            **options,
            url=listed_webhook.url or None,
            pause_reason=listed_webhook.pause.reason if listed_webhook.pause else None,
            old_secret_until=min((end for end in listed_webhook.secret_ends if now < end), default=None),
            **computed_fields,
        )
        return webhook


class Webhook(_Webhook):
    """A webhook. After a change, `propagated` says whether all stages know the change already."""

    packages: list[str]
    dispatches: list[str]

    @classmethod
    def of_registration(cls, registration: Registration, now: datetime, *sources: object) -> Self:
        """As it is now, with its scope."""
        scope = {
            "packages": sorted(registration.webhook.packages),
            "dispatches": sorted(registration.webhook.dispatches),
        }
        return cls.of_listed(registration.listed_webhook, now, *sources, **scope)


class ListedWebhook(_Webhook):
    """A webhook with the number of ids in its scope; `GET /v1/webhooks/{id}` shows them."""

    packages_count: int
    dispatches_count: int


SigningSecret = Annotated[str, Field(examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])]


class WebhookWithSecret(Webhook):
    """A webhook with its signing secret."""

    secret: SigningSecret


class RotatedWebhook(ListedWebhook):
    """A webhook with its new signing secret."""

    secret: SigningSecret


class Secret(Model):
    """The newest signing secret."""

    secret: str


def to_webhook(result: ChangeResult, now: datetime) -> Webhook:
    """A webhook after a change of its fields."""
    return Webhook.of_registration(result.registration, now, result)


def to_webhook_with_secret(result: RegistrationResult, now: datetime) -> WebhookWithSecret:
    """A new webhook with its secret."""
    return WebhookWithSecret.of_registration(result.change.registration, now, result.change, result)


def to_listed_webhook(result: ChangeResult, now: datetime) -> ListedWebhook:
    """A webhook after an action."""
    return ListedWebhook.of_listed(result.registration.listed_webhook, now, result)


def rotated_webhook(result: RotationResult, now: datetime) -> RotatedWebhook:
    """A webhook with its new secret."""
    return RotatedWebhook.of_listed(result.change.registration.listed_webhook, now, result.change, result)
