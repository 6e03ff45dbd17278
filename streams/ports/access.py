"""The identity provider, which says who a person is."""

from collections.abc import Mapping, Set
from typing import Protocol

from streams.core.accounts.oidc import AuthorizationRequest


class IdentityProvider(Protocol):
    """An OpenID Connect provider. Raises `ProviderFailed` while it is away, and when its response is wrong."""

    async def authorization_url(self, request: AuthorizationRequest) -> str:
        """The URL to which the browser goes to sign in."""

    async def claims(self, code: str, request: AuthorizationRequest, claim_names: Set[str]) -> Mapping[str, object]:
        """The validated claims of the person who signed in: those of `claim_names` that the provider has.

        Raises `SignInRefused` when the code or the token is not valid.
        """
