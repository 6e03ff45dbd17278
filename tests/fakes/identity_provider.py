"""An OpenID Connect provider in memory."""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from urllib.parse import urlencode

from streams.core.accounts.oidc import AuthorizationRequest, SignInRefused
from streams.core.errors import ScormWebhooksError


@dataclass
class FakeIdentityProvider:
    """An `IdentityProvider` with one person, `claims_of_person`. It gives the code `code` to each request.

    While `failure` is set, it raises that.
    """

    claims_of_person: Mapping[str, object] = field(default_factory=lambda: {"sub": "ada"})
    failure: ScormWebhooksError | None = None
    requests: list[AuthorizationRequest] = field(default_factory=list)

    async def authorization_url(self, request: AuthorizationRequest) -> str:
        self._fail()
        self.requests.append(request)
        return f"https://login.example.com/authorize?{urlencode({'state': request.state})}"

    async def claims(self, code: str, request: AuthorizationRequest, wanted: Set[str]) -> Mapping[str, object]:
        self._fail()
        if code != "code" or request not in self.requests:
            raise SignInRefused("the provider does not accept the code")
        return self.claims_of_person

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure
