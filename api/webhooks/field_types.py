"""The fields of a webhook's models, made from the table of its fields."""

from dataclasses import MISSING, Field, fields
from typing import Annotated, Any

from pydantic import Field as ModelField

from api.shared_models import UNCHANGED, Text
from streams.core.webhooks.delivery_options import DeliveryOptions
from streams.core.webhooks.field_rules import FieldRule, Kind
from streams.core.webhooks.webhook_input import FIELD_RULES, WebhookInput

# A field's type and its default, for `create_model`.
Definitions = dict[str, tuple[Any, Any]]
# The account is the key's, and the secret is in `auth`.
_ENTERED = [attribute for attribute in fields(WebhookInput) if attribute.name not in ("account_id", "auth_secret")]
_DEFAULTS = {
    attribute.name: attribute.default
    for type_ in (WebhookInput, DeliveryOptions)
    for attribute in fields(type_)
    if attribute.name in FIELD_RULES
}
_TYPES = {Kind.TEXT: str, Kind.WHOLE_NUMBER: int, Kind.NUMBER: float}


def plain_type(rule: FieldRule) -> Any:
    """The type of a field that has no type of its own."""
    texts: dict[str, Any] = {
        "description": rule.description or None,
        "examples": [rule.example] if rule.example else None,
    }
    if rule.kind is Kind.TEXT:
        return Annotated[Text, ModelField(max_length=int(rule.largest), **texts)]
    if rule.kind is Kind.CHOICE:
        return Annotated[rule.choices, ModelField(strict=False, **texts)]
    if rule.kind is Kind.WHOLE_NUMBER:
        return Annotated[int, ModelField(ge=int(rule.smallest), le=int(rule.largest), **texts)]
    return Annotated[float, ModelField(ge=rule.smallest, le=rule.largest, **texts)]


def new_fields(types: dict[str, Any]) -> Definitions:
    """The fields of a new webhook. `types` has the types of special fields."""
    return {attribute.name: _new_field(attribute, types) for attribute in _ENTERED}


def changed_fields(types: dict[str, Any]) -> Definitions:
    """The fields of changes, none of which is required."""
    return {name: (type_, UNCHANGED) for name, (type_, _) in new_fields(types).items()}


def _new_field(attribute: "Field[Any]", types: dict[str, Any]) -> tuple[Any, Any]:
    type_ = types.get(attribute.name) or plain_type(FIELD_RULES[attribute.name])
    if attribute.default_factory is not MISSING:
        return type_, ModelField(default_factory=attribute.default_factory)
    if isinstance(attribute.default, tuple):
        values = attribute.default
        return type_, ModelField(default_factory=lambda: list(values))
    # A webhook without a URL is pulled.
    default = None if attribute.name == "url" else attribute.default
    return (type_ | None, None) if default is None else (type_, default)


def shown_fields() -> Definitions:
    """The plain fields of a response; an option without a default is omitted.

    There are no limits: stored values stay valid when a limit changes.
    """
    types = {
        name: Annotated[rule.choices or _TYPES[rule.kind], ModelField(description=rule.description or None)]
        for name, rule in FIELD_RULES.items()
    }
    return {name: (type_ | None, None) if _DEFAULTS[name] is None else (type_, ...) for name, type_ in types.items()}
