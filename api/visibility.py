"""The visibility of each field that holds a URL or a secret: who sees it, and in which form.

Pages and responses decide by the field, never by the look of a text. Log lines and spans contain none of these fields.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import StrEnum
from typing import Any, TypeVar

from streams.core.accounts.access import MANAGE_ACCOUNT, OPERATOR, Scope
from streams.core.accounts.audit import AuditEntry
from streams.core.webhooks.url import without_query

AnyValue = TypeVar("AnyValue")


class Visibility(StrEnum):
    """How much of a field a caller may see."""

    WHOLE = "whole"
    WITHOUT_QUERY = "without query"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class VisibilityRule:
    """What each role sees of a kind of field. An API key sees as a member, or without `webhooks:write` as a viewer."""

    description: str
    viewer: Visibility
    member: Visibility
    owner: Visibility
    operator: Visibility

    def visibility(self, permissions: Collection[str]) -> Visibility:
        if OPERATOR in permissions:
            return self.operator
        if MANAGE_ACCOUNT in permissions:
            return self.owner
        return self.member if Scope.WEBHOOKS_WRITE in permissions else self.viewer


_WHOLE, _NO_QUERY, _NEVER = Visibility
_EVERYBODY, _NOBODY = [_WHOLE] * 4, [_NEVER] * 4
WEBHOOK_URL = VisibilityRule("URL of an endpoint", _NO_QUERY, _WHOLE, _WHOLE, _WHOLE)
URL_IN_A_MAIL = VisibilityRule(
    "URL of an endpoint in a mail, its subject too, and in events about a webhook", *[_NO_QUERY] * 4
)
REQUEST_AND_RESPONSE = VisibilityRule("headers of an attempt, and its response", _NEVER, _WHOLE, _WHOLE, _WHOLE)
OWN_HEADERS = VisibilityRule("values of a webhook's own headers", *_NOBODY)
SIGNING_SECRET = VisibilityRule("signing secret, when somebody asks for it", _NEVER, _WHOLE, _WHOLE, _WHOLE)
COMMIT_URL = VisibilityRule("commit URL, once, when a session is opened", _NEVER, _WHOLE, _WHOLE, _WHOLE)
API_KEY = VisibilityRule("API key, once, when it is made", _NEVER, _NEVER, _WHOLE, _WHOLE)
TERMINAL_KEY = VisibilityRule("API key of the own terminal, once, when it is made", _NEVER, _WHOLE, _WHOLE, _WHOLE)
SIGN_IN_LINK = VisibilityRule("link that signs in, once, when it is made", _NEVER, _NEVER, _NEVER, _WHOLE)
SIGN_IN = VisibilityRule("token, code or state of a sign-in", *_NOBODY)
STORED_SECRET = VisibilityRule("ciphertexts and hashes", *_NOBODY)
SETTING = VisibilityRule("secret of the deployment, which the environment has", *_NOBODY)
RETURN_URL = VisibilityRule("`returnUrl`, for who uses its portal link", *_EVERYBODY)
PUBLIC_URL = VisibilityRule("URL of the deployment and of its provider", *_EVERYBODY)

_FIELDS_BY_RULE: Mapping[VisibilityRule, tuple[str, ...]] = {
    WEBHOOK_URL: (
        *("Webhook.url", "Webhook.fallback_url", "ListedWebhook.url", "ListedWebhook.fallback_url"),
        *("_Identity.url", "_Webhook.fallback_url", "WebhookInput.url", "WebhookInput.fallback_url"),
        *("Auth.token_url", "OAuth2.token_url"),
        *("Attempt.url", "AttemptDetails.url", "Request.url", "SendNow.url"),
        *("webhooks.url", "webhooks.fallback_url", "attempts.url", "Customer.url", "OutsideCustomer.url"),
        *("AuditEntry.url", "AuditEntry.fallbackUrl", "AuditEntry.tokenUrl"),
    ),
    URL_IN_A_MAIL: (
        *("Mail.details", "WebhookFailing.url", "WebhookPaused.url", "WebhookRecovered.url", "WebhookDeadletters.url"),
        *("WebhookSecretEnding.url", "WebhookCertificateEnding.url"),
    ),
    REQUEST_AND_RESPONSE: (
        *("Attempt.request_headers", "Attempt.response_headers", "Attempt.response_body"),
        *("AttemptDetails.request_headers", "AttemptDetails.response_headers", "AttemptDetails.response_body"),
        *("attempts.request_headers", "attempts.response_headers", "attempts.response_body"),
        *("Request.headers", "Response.headers", "Response.body", "TimelineStep.curl"),
    ),
    OWN_HEADERS: (
        *("WebhookInput.headers", "WebhookInput.fallback_headers"),
        *("Webhook.encrypted_headers", "Webhook.encrypted_fallback_headers"),
        *("NewBasic.password", "NewOAuth2.client_secret", "WebhookInput.auth_secret", "Webhook.encrypted_auth_secret"),
        "Request.secrets",
        *("webhooks.encrypted_auth_secret", "_Token.credentials", "_Token.token"),
        *("webhooks.encrypted_headers", "webhooks.encrypted_fallback_headers", "Masked.ciphertext"),
    ),
    SIGNING_SECRET: (
        *(
            "WebhookWithSecret.secret",
            "RotatedWebhook.secret",
            "Secret.secret",
            "RegistrationResult.secret",
            "RotationResult.secret",
        ),
        "Customer.secret",
    ),
    COMMIT_URL: ("OpenSession.commit_url", "OpenedSession.token"),
    API_KEY: (
        *("AccountWithKey.api_key", "KeyWithText.api_key", "NewKey.api_key", "OpenedAccount.api_key", "Demo.api_key"),
    ),
    TERMINAL_KEY: ("NewTerminal.api_key",),
    SIGN_IN_LINK: ("PortalLink.url", "Link.url", "Demo.sign_in_link"),
    SIGN_IN: (
        *("OpenedSignIn.token", "StartedSignIn.url", "StartedSignIn.browser_token", "ProviderAnswer.code"),
        *("AuthorizationRequest.nonce", "AuthorizationRequest.verifier"),
    ),
    STORED_SECRET: (
        *("ApiKey.sha256", "OperatorKey.sha256", "CommitUrl.token_sha256", "SignIn.sha256", "SignIn.code_sha256"),
        *("SignIn.browser_sha256", "PendingSignIn.state_sha256", "PendingSignIn.browser_sha256"),
        *("PendingSignIn.ciphertext", "EncryptedSecret.ciphertext", "Webhook.secrets", "webhooks.secrets"),
        *("api_keys.sha256", "commit_urls.token_sha256", "sessions.sha256", "sign_ins.sha256", "sign_ins.code_sha256"),
        *("sign_ins.browser_sha256", "pending_sign_ins.state_sha256", "pending_sign_ins.browser_sha256"),
        *(
            "pending_sign_ins.ciphertext",
            "encryption_check.ciphertext",
            "learner_hash_key.ciphertext",
            "HashKey.ciphertext",
        ),
        *("erasures.encrypted_learner", "idempotency_keys.encrypted_response", "EarlierRequest.encrypted_response"),
        "player_states.encrypted_state",
    ),
    SETTING: (
        *("Settings.encryption_keys", "Settings.operator_keys", "Settings.oidc_client_secret"),
        *("OidcClient.client_secret", "SmtpServer.password", "DATABASE_URL", "SMTP_URL", "SCHEMA_REGISTRY_URL"),
        *("KAFKA_CONFIG_", "SCHEMA_REGISTRY_CONFIG_", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        *("ClientCredentials.client_secret", "ClientCredentials.endpoint"),
        *("Settings.egress_proxy", "Settings.egress_proxy_credentials", "EgressProxy.credentials"),
    ),
    RETURN_URL: (
        *("NewPortalLink.return_url", "SignIn.return_url", "Session.return_url"),
        *("sign_ins.return_url", "sessions.return_url"),
    ),
    PUBLIC_URL: (
        *("Settings.public_url", "Settings.oidc_issuer", "OpenedSession.public_url", "OidcClient.issuer"),
        *("OidcClient.redirect_uri", "Metadata.issuer", "Metadata.authorization_endpoint", "Metadata.token_endpoint"),
        *("Metadata.userinfo_endpoint", "Metadata.jwks_uri"),
    ),
}
# By `Class.field`, `table.column` or variable. A test fails for a field that is neither here nor in its own list.
FIELDS: Mapping[str, VisibilityRule] = {name: rule for rule, names in _FIELDS_BY_RULE.items() for name in names}


def visible(value: AnyValue, permissions: Collection[str]) -> AnyValue:
    """The visible parts of `value` for a caller, within its rows and fields; the other parts are empty."""
    by_field = {
        name: FIELDS[name].visibility(permissions)
        for rule in (WEBHOOK_URL, REQUEST_AND_RESPONSE)
        for name in _FIELDS_BY_RULE[rule]
    }
    restricted = {name: visibility for name, visibility in by_field.items() if visibility is not Visibility.WHOLE}
    return _visible(value, restricted) if restricted else value


def _visible(value: Any, restricted: Mapping[str, Visibility]) -> Any:
    if isinstance(value, AuditEntry):
        return replace(value, details=_details(value.details, restricted))
    if isinstance(value, Mapping):
        visible_values = {key: _visible(inner, restricted) for key, inner in value.items()}
        return value if visible_values == value else visible_values
    if type(value) in (list, tuple):
        return type(value)(_visible(inner, restricted) for inner in value)
    if not is_dataclass(value) or isinstance(value, type):
        return value
    changes: dict[str, Any] = {}
    for attribute in fields(value):
        inner = getattr(value, attribute.name)
        visibility = restricted.get(f"{type(value).__name__}.{attribute.name}")
        visible_value = _visible(inner, restricted) if visibility is None else _to_visible(inner, visibility)
        if visible_value != inner:
            changes[attribute.name] = visible_value
    return replace(value, **changes) if changes else value


def _details(value: Any, restricted: Mapping[str, Visibility], visibility: Visibility | None = None) -> Any:
    """Details of an entry of the audit log; a changed field has its old and its new value."""
    if isinstance(value, Mapping):
        return {
            name: _details(inner, restricted, visibility or restricted.get(f"AuditEntry.{name}"))
            for name, inner in value.items()
        }
    return _to_visible(value, visibility) if visibility else value


def _to_visible(value: Any, visibility: Visibility) -> Any:
    if not value:
        return value
    return type(value)() if visibility is Visibility.NEVER else without_query(value)
