"""Sign-in by OpenID Connect: the values of a request to the provider, and which claims let a person in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from streams.core.accounts.access import Role
from streams.core.errors import Unauthorized
from streams.core.events.event_data import is_storable
from streams.core.limits import MAX_EMAIL_CHARACTERS, MAX_ID_CHARACTERS, MAX_OIDC_ACCOUNTS, MAX_OIDC_SUBJECT_CHARACTERS

# From the link to the provider's response. People type passwords and codes in this time.
PENDING_LIFETIME = timedelta(minutes=10)
ACTOR_PREFIX = "oidc:"
# Customers who read the audit log must not see an operator's sub.
OPERATOR_ACTOR_PREFIX = "oidc-operator:"
GROUPS_CLAIM = "groups"
# Strongest first.
_ROLES = (Role.OWNER, Role.MEMBER, Role.VIEWER)
EMAIL_CLAIMS = frozenset({"email", "email_verified"})


class SignInRefused(Unauthorized):
    """The provider answers, but the person is not signed in. The message is for the log, not for the person."""


class ProviderRefused(SignInRefused):
    """The provider, or the person there, ended the sign-in. The message is the provider's error code."""


class NotAdmitted(SignInRefused):
    """The provider knows the person, but no rule lets the person in."""


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """The random values of one request to the provider (RFC 6749 §4.1.1, RFC 7636, OpenID Connect Core §3.1.2.1)."""

    state: str = field(repr=False)
    nonce: str = field(repr=False)
    verifier: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class PendingSignIn:
    """A sign-in that waits for the provider's answer. It is used once, by the browser that began it.

    The state and the browser's token are stored as hashes; `ciphertext` has the nonce, the verifier and the page to
    go to.
    """

    state_sha256: str
    browser_sha256: str
    ciphertext: str = field(repr=False)
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class OidcRules:
    """The rules that decide who is let in.

    `account_claim` is the claim with the ids of accounts; without it, the verified e-mail address decides. `role_claim`
    is the claim with the role in them. `operator_group` is the value of the claim `groups` that makes an operator.
    """

    account_claim: str | None = None
    role_claim: str | None = None
    operator_group: str | None = None

    @property
    def claims(self) -> frozenset[str]:
        """The claims that these rules read."""
        names = {self.account_claim, self.role_claim, GROUPS_CLAIM if self.operator_group else None}
        return frozenset(name for name in names if name) | (frozenset() if self.account_claim else EMAIL_CLAIMS)


@dataclass(frozen=True, slots=True)
class OperatorIdentity:
    """An operator."""

    actor: str
    email: str | None


@dataclass(frozen=True, slots=True)
class AccountIdentity:
    """A person whose accounts the provider names. Some of these accounts may not exist."""

    actor: str
    email: str | None
    account_ids: tuple[str, ...]
    role: Role


@dataclass(frozen=True, slots=True)
class EmailIdentity:
    """A person whose e-mail address the provider has verified."""

    actor: str
    email: str


Identity = OperatorIdentity | AccountIdentity | EmailIdentity


def identify(claims: Mapping[str, object], rules: OidcRules) -> Identity:
    """Identify a person by the claims. Raises `NotAdmitted`."""
    subject = _subject(claims)
    if rules.operator_group is not None and rules.operator_group in _texts(claims.get(GROUPS_CLAIM)):
        return OperatorIdentity(OPERATOR_ACTOR_PREFIX + subject, _shown_email(claims))
    if rules.account_claim is None:
        return EmailIdentity(ACTOR_PREFIX + subject, _verified_email(claims))
    account_ids = _account_ids(claims, rules.account_claim)
    return AccountIdentity(ACTOR_PREFIX + subject, _shown_email(claims), account_ids, _role(claims, rules.role_claim))


def _subject(claims: Mapping[str, object]) -> str:
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= MAX_OIDC_SUBJECT_CHARACTERS or not is_storable(subject):
        raise NotAdmitted(f"the claim sub is not a text of 1 to {MAX_OIDC_SUBJECT_CHARACTERS} characters")
    return subject


def _verified_email(claims: Mapping[str, object]) -> str:
    email = _email(claims)
    if email is None:
        raise NotAdmitted("the claim email is missing")
    # A text "true" is not the boolean that the standard asks for (OpenID Connect Core §5.1).
    if claims.get("email_verified") is not True:
        raise NotAdmitted("the claim email_verified is not true")
    return email


def _shown_email(claims: Mapping[str, object]) -> str | None:
    """The address to show. It gives no access."""
    return None if claims.get("email_verified") is False else _email(claims)


def _email(claims: Mapping[str, object]) -> str | None:
    email = claims.get("email")
    is_usable = isinstance(email, str) and 0 < len(email) <= MAX_EMAIL_CHARACTERS and is_storable(email)
    return str(email) if is_usable else None


def _account_ids(claims: Mapping[str, object], name: str) -> tuple[str, ...]:
    ids = tuple(dict.fromkeys(text for text in _texts(claims.get(name)) if 0 < len(text) <= MAX_ID_CHARACTERS))
    if not ids:
        raise NotAdmitted(f"the claim {name} is missing, or names no account")
    if len(ids) > MAX_OIDC_ACCOUNTS:
        raise NotAdmitted(f"the claim {name} names {len(ids)} accounts, and may name at most {MAX_OIDC_ACCOUNTS}")
    return ids


def _role(claims: Mapping[str, object], name: str | None) -> Role:
    """The strongest role in the claim; member if there is none."""
    value = claims.get(name) if name else None
    if value in (None, "", []):
        return Role.MEMBER
    texts = _texts(value)
    best_role = next((role for role in _ROLES if role in texts), None)
    if best_role is None:
        raise NotAdmitted(f"the claim {name} has none of the roles {', '.join(_ROLES)}")
    return best_role


def _texts(value: object) -> tuple[str, ...]:
    """The texts of a claim: one, or a list of them."""
    values = value if isinstance(value, list) else [value]
    return tuple(text for text in values if isinstance(text, str) and is_storable(text))
