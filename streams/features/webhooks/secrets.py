"""Show, rotate and re-encrypt the secrets of webhooks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from streams.core.accounts.audit import AuditEntry
from streams.core.deliveries.signing import SECRET_BYTES, make_secret
from streams.core.errors import Conflict, FieldError, Invalid
from streams.core.limits import DEFAULT_OVERLAP_HOURS, MAX_OVERLAP_HOURS
from streams.core.times import format_time
from streams.core.webhooks.webhook import EncryptedSecret, Registration
from streams.features.shared.audit_log import SqlAuditLog
from streams.features.shared.audit_trail import new_entry
from streams.features.webhooks.service import ChangeResult, WebhookService
from streams.ports.delivery import Encryption, EncryptionCheck
from streams.ports.runtime import Clock
from streams.ports.webhooks import Webhooks


@dataclass(frozen=True, slots=True)
class RotationResult:
    """A webhook with its new secret; the old one is valid until `old_valid_until`, or has ended if that is None."""

    change: ChangeResult
    secret: str = field(repr=False)
    old_valid_until: datetime | None


@dataclass
class SecretService:
    """`_new_key` makes random bytes. `actor` is the caller; `account_id` limits it to one account."""

    _webhooks: WebhookService
    _webhook_store: Webhooks
    _encryption: Encryption
    _check: EncryptionCheck
    _audit: SqlAuditLog
    _clock: Clock
    _new_key: Callable[[int], bytes]

    async def show(self, webhook_id: str, *, actor: str, account_id: str | None = None) -> str:
        """The newest secret. Raises `NotFound`."""
        return (await self.show_valid(webhook_id, actor=actor, account_id=account_id))[-1]

    async def show_valid(self, webhook_id: str, *, actor: str, account_id: str | None = None) -> Sequence[str]:
        """The valid secrets, the newest last: one, or two during a rotation. Raises `NotFound`."""
        webhook = (await self._webhooks.find(webhook_id, account_id)).webhook
        await self._audit.add(new_entry(self._clock, actor, "webhook.secret_shown", webhook_id, webhook.account_id))
        return [self._encryption.decrypt(secret.ciphertext) for secret in webhook.valid_secrets(self._clock.now())]

    async def rotate(
        self,
        webhook_id: str,
        overlap_hours: int = DEFAULT_OVERLAP_HOURS,
        *,
        actor: str,
        account_id: str | None = None,
    ) -> RotationResult:
        """Start a rotation: a new secret, while the old one stays valid for `overlap_hours`.

        Without an overlap the old secrets end at once, even during a rotation.
        Raises `Invalid`, `NotFound`, and `Conflict` if a rotation is in progress.
        """
        if not 0 <= overlap_hours <= MAX_OVERLAP_HOURS:
            raise Invalid(FieldError("overlapHours", f"must be from 0 to {MAX_OVERLAP_HOURS}"))
        now = self._clock.now()
        secret = make_secret(self._new_key(SECRET_BYTES))
        new_secret = EncryptedSecret(self._encryption.encrypt(secret))
        old_valid_until = now + timedelta(hours=overlap_hours) if overlap_hours else None

        def apply_rotation(registration: Registration) -> Registration:
            valid_secrets = registration.webhook.valid_secrets(now)
            if old_valid_until is None:
                return _replace_secrets(registration, new_secret)
            if len(valid_secrets) > 1:
                overlap_end = format_time(valid_secrets[0].valid_until) if valid_secrets[0].valid_until else ""
                raise Conflict(f"a rotation lasts until {overlap_end}: finish it first, or rotate without an overlap")
            return _replace_secrets(registration, replace(valid_secrets[-1], valid_until=old_valid_until), new_secret)

        change = await self._webhooks.update(
            webhook_id, apply_rotation, actor, "webhook.secret_rotated", account_id, overlap_hours=overlap_hours
        )
        return RotationResult(change, secret, old_valid_until)

    async def finish_rotation(self, webhook_id: str, *, actor: str, account_id: str | None = None) -> ChangeResult:
        """End the old secret now. Without a rotation, nothing changes. Raises `NotFound`."""
        return await self._webhooks.update(
            webhook_id,
            lambda registration: _replace_secrets(registration, registration.webhook.secrets[-1]),
            actor,
            "webhook.secret_rotation_finished",
            account_id,
        )

    async def reencrypt(self, on_progress: Callable[[int, int], None] = lambda done, total: None, *, actor: str) -> int:
        """Encrypt every webhook's secrets, headers and credentials with the newest key. Returns the number of webhooks.

        Raises `InvalidRecord` for a webhook that no configured key decrypts; the webhooks before it are done.
        """

        def audit(previous: Registration, updated: Registration | None) -> AuditEntry:
            return new_entry(
                self._clock, actor, "webhook.reencrypted", previous.webhook.id, previous.webhook.account_id
            )

        registrations = await self._webhook_store.list()
        for count, registration in enumerate(registrations, 1):
            await self._webhook_store.change(registration.id, self._reencrypt_registration, audit=audit)
            on_progress(count, len(registrations))
        await self._check.reencrypt()
        return len(registrations)

    def _reencrypt_registration(self, registration: Registration) -> Registration:
        webhook, reencrypt = registration.webhook, self._encryption.reencrypt
        headers, fallback_headers = webhook.encrypted_headers, webhook.encrypted_fallback_headers
        auth_secret = webhook.encrypted_auth_secret
        return replace(
            registration,
            webhook=replace(
                webhook,
                secrets=tuple(replace(secret, ciphertext=reencrypt(secret.ciphertext)) for secret in webhook.secrets),
                encrypted_headers=headers and reencrypt(headers),
                encrypted_fallback_headers=fallback_headers and reencrypt(fallback_headers),
                encrypted_auth_secret=auth_secret and reencrypt(auth_secret),
            ),
        )


def _replace_secrets(registration: Registration, *secrets: EncryptedSecret) -> Registration:
    return replace(registration, webhook=replace(registration.webhook, secrets=secrets))
