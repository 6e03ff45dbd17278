"""Sign people in by an OpenID Connect provider: redirect the browser to it, and handle the callback."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from streams.core.accounts.access import digest
from streams.core.accounts.oidc import (
    PENDING_LIFETIME,
    AccountIdentity,
    AuthorizationRequest,
    EmailIdentity,
    Identity,
    NotAdmitted,
    OidcRules,
    OperatorIdentity,
    PendingSignIn,
    ProviderRefused,
    SignInRefused,
    identify,
)
from streams.core.accounts.session import SignInMethod
from streams.core.errors import InvalidRecord, ProviderFailed, Unauthorized
from streams.features.shared.accounts import SqlAccounts
from streams.features.shared.emails import normalize_email
from streams.features.sign_in.service import Browser, OpenedSignIn, SignInService
from streams.features.sign_in.storage import SqlPendingSignIns
from streams.ports.access import IdentityProvider
from streams.ports.delivery import Encryption
from streams.ports.runtime import Clock, Telemetry

# The path of the dashboard that the provider sends browsers back to.
OIDC_CALLBACK_PATH = "/sign-in/oidc/callback"
# The length of a provider's error code in a log line; the browser sends it.
MAX_LOGGED_CHARACTERS = 100


@dataclass(frozen=True, slots=True)
class StartedSignIn:
    """A sign-in that the browser continues at `url`. The browser keeps the token, and shows it in the callback."""

    url: str = field(repr=False)
    browser_token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class FinishedSignIn:
    """A new session, and the page to go to."""

    opened_sign_in: OpenedSignIn
    next_page: str


@dataclass(frozen=True, slots=True)
class ProviderAnswer:
    """The provider's answer, sent through the browser: a code, or an error (RFC 6749 §4.1.2)."""

    state: str = field(repr=False)
    code: str = field(default="", repr=False)
    error: str = ""


@dataclass
class OidcService:
    """`name` is the provider's name on the sign-in page. `_new_token` makes random texts of 43 or more characters."""

    name: str
    _rules: OidcRules
    _provider: IdentityProvider
    _pending: SqlPendingSignIns
    _accounts: SqlAccounts
    _sign_in: SignInService
    _encryption: Encryption
    _clock: Clock
    _telemetry: Telemetry
    _new_token: Callable[[], str]

    @property
    def admits_operators(self) -> bool:
        return self._rules.operator_group is not None

    async def begin(self, next_page: str) -> StartedSignIn:
        """Prepare a sign-in that ends at a page of the dashboard. Raises `ProviderFailed`."""
        request = AuthorizationRequest(self._new_token(), self._new_token(), self._new_token())
        browser_token, now = self._new_token(), self._clock.now()
        try:
            url = await self._provider.authorization_url(request)
        except ProviderFailed as error:
            self._record_failure(error)
            raise
        secrets = {"nonce": request.nonce, "verifier": request.verifier, "next": next_page}
        await self._pending.add(
            PendingSignIn(
                digest(request.state),
                digest(browser_token),
                self._encryption.encrypt(json.dumps(secrets)),
                now,
                now + PENDING_LIFETIME,
            )
        )
        return StartedSignIn(url, browser_token)

    async def finish(self, answer: ProviderAnswer, browser_token: str, browser: Browser) -> FinishedSignIn:
        """Open a session for the person that the provider names. Raises `SignInRefused` and `ProviderFailed`."""
        try:
            finished_sign_in = await self._finish(answer, browser_token, browser)
        except SignInRefused as error:
            self._telemetry.count("oidc_sign_ins_total", outcome="refused")
            self._telemetry.info("oidc_sign_in_refused", why=str(error))
            raise
        except ProviderFailed as error:
            self._record_failure(error)
            raise
        self._telemetry.count("oidc_sign_ins_total", outcome="signed_in")
        return finished_sign_in

    async def _finish(self, answer: ProviderAnswer, browser_token: str, browser: Browser) -> FinishedSignIn:
        now = self._clock.now()
        pending = await self._pending.take(digest(answer.state), digest(browser_token), now)
        if pending is None:
            raise SignInRefused("the state is unknown, used, expired, or of another browser")
        if not answer.code:
            raise ProviderRefused(answer.error[:MAX_LOGGED_CHARACTERS] or "no code and no error")
        secrets = self._decrypt_secrets(pending)
        request = AuthorizationRequest(answer.state, secrets["nonce"], secrets["verifier"])
        claims = await self._provider.claims(answer.code, request, self._rules.claims)
        return FinishedSignIn(await self._open(identify(claims, self._rules), browser), secrets["next"])

    def _decrypt_secrets(self, pending: PendingSignIn) -> Mapping[str, str]:
        try:
            secrets: dict[str, str] = json.loads(self._encryption.decrypt(pending.ciphertext))
        except InvalidRecord:
            raise SignInRefused("the encryption key was replaced during the sign-in") from None
        return secrets

    async def _open(self, identity: Identity, browser: Browser) -> OpenedSignIn:
        match identity:
            case OperatorIdentity(actor, email):
                return await self._sign_in.sign_in_operator(actor, browser, SignInMethod.OIDC, email)
            case EmailIdentity(_, email):
                return await self._open_by_email(email, browser)
            case AccountIdentity(actor, email, account_ids, role):
                existing_ids = [
                    account_id for account_id in account_ids if await self._accounts.find(account_id) is not None
                ]
                if not existing_ids:
                    raise NotAdmitted("none of the accounts that the provider names exists")
                return await self._sign_in.sign_in_member(actor, existing_ids, role, email, browser)

    async def _open_by_email(self, email: str, browser: Browser) -> OpenedSignIn:
        try:
            return await self._sign_in.sign_in_by_email(normalize_email(email).lower(), browser)
        except (ValueError, Unauthorized):
            raise NotAdmitted("no user has the e-mail address") from None

    def _record_failure(self, error: ProviderFailed) -> None:
        self._telemetry.count("oidc_sign_ins_total", outcome="failed")
        self._telemetry.warning("oidc_provider_failed", why=str(error))
