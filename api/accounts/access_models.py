"""Models of API keys, users, links and sessions."""

from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, Field

from api.shared_models import UNCHANGED, Changes, Email, Input, Model, Moment, Text, Time, Url, at_most
from streams.core.accounts.access import Role, Scope
from streams.core.accounts.session import MAX_LINK_LIFETIME
from streams.core.limits import MAX_NAME_CHARACTERS

Scopes = Annotated[
    list[Annotated[Scope, Field(strict=False)]],
    Field(min_length=1, max_length=len(Scope)),
    at_most(len(Scope), "scopes"),
]
ROLE_DESCRIPTION = (
    "`owner`: everything, people and keys included; `member`: webhooks, deliveries and events; `viewer`: reads, "
    "without secrets and headers."
)
MAX_LINK_MINUTES = MAX_LINK_LIFETIME // timedelta(minutes=1)


class NewKey(Input):
    """An API key to create."""

    name: Annotated[Text, Field(min_length=1, max_length=MAX_NAME_CHARACTERS, examples=["The nightly export"])]
    scopes: Scopes
    expires_at: Moment | None = None


class Key(Model):
    """An API key; `prefix` is its first characters."""

    id: str
    name: str
    prefix: str
    scopes: Annotated[list[Scope], BeforeValidator(sorted)]
    created_at: Time
    last_used_at: Time | None = None
    expires_at: Time | None = None
    revoked_at: Time | None = None


class KeyWithText(Key):
    """An API key with its text, which is shown only once."""

    api_key: str


class NewUser(Input):
    """A user to add, who may sign in to the account's dashboard."""

    email: Annotated[Email, Field(min_length=3, examples=["ada@example.com"])]
    role: Annotated[Role, Field(strict=False, description=ROLE_DESCRIPTION)] = Role.OWNER


class UserChanges(Changes):
    """Changes of a user."""

    role: Annotated[Role, Field(strict=False, description=ROLE_DESCRIPTION)] = UNCHANGED


class UserDetails(Model):
    """A user, who may sign in to the account's dashboard."""

    id: str
    email: str
    role: Role
    created_at: Time


class NewPortalLink(Input):
    """A link that signs one browser in to the account's dashboard, without a mail."""

    role: Annotated[Role, Field(strict=False, description=ROLE_DESCRIPTION)] = Role.MEMBER
    minutes: Annotated[int, Field(ge=1, le=MAX_LINK_MINUTES, description="How long the link is valid.")] = 15
    return_url: Annotated[Url | None, Field(description="Where the dashboard's link back to the platform leads.")] = (
        None
    )


class PortalLink(Model):
    """A link for one browser, which works once."""

    url: Annotated[str, Field(examples=["https://hooks.example.com/sign-in/mV3x…"])]
    expires_at: Time


class SignInLink(PortalLink):
    """A link that signs a user in once, within 15 minutes."""


class SessionDetails(Model):
    """A browser that is signed in."""

    id: str
    actor: str
    role: Role
    created_at: Time
    used_at: Annotated[Time, Field(description="Its last request, to the minute.")]
    expires_at: Time
    address: str
    user_agent: str
