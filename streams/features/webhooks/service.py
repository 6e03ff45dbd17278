"""Register, update, pause, enable and delete webhooks; each returns when the change is on the topic."""

import asyncio
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from streams.core.accounts.audit import AuditEntry
from streams.core.deliveries.held import HeldChoice
from streams.core.deliveries.schedule import Schedule
from streams.core.deliveries.signing import SECRET_BYTES, make_secret
from streams.core.errors import FieldError, Invalid, NotFound, Stale
from streams.core.limits import MAX_WEBHOOKS_PER_ACCOUNT
from streams.core.page import Cursor, Page
from streams.core.webhooks.auth import SECRET_NAMES
from streams.core.webhooks.delivery_options import parse_options
from streams.core.webhooks.url import host_of, is_same_origin
from streams.core.webhooks.webhook import (
    TEMPORARY_LIFE,
    DeliveryMode,
    EncryptedSecret,
    ListedWebhook,
    Pause,
    PauseReason,
    Registration,
    Status,
    Webhook,
)
from streams.core.webhooks.webhook_input import WebhookInput
from streams.features.shared.accounts import SqlAccounts
from streams.features.shared.audit_trail import differences, new_entry
from streams.features.shared.publication import wait_until_published
from streams.features.webhooks.changes import audited_values, to_active, to_paused, with_probe_time
from streams.features.webhooks.input import (
    input_errors,
    to_registration_fields,
    to_webhook_fields,
    to_webhook_input,
    with_delivery,
)
from streams.ids import new_id
from streams.ports.delivery import DnsCheck, Encryption
from streams.ports.runtime import Clock
from streams.ports.webhooks import PublicationStatus, Webhooks


@dataclass(frozen=True, slots=True)
class ChangeResult:
    """A webhook after a change; `propagated` says whether the stages already know the change.

    `unresolved_hosts` are hosts of its new URLs that do not resolve.
    """

    registration: Registration
    propagated: bool
    unresolved_hosts: tuple[str, ...] = ()

    @property
    def warnings(self) -> Sequence[str] | None:
        """A sentence for each host that does not resolve; None if all resolve."""
        return [
            f'The host "{host}" does not resolve. Events fail until it does: check the URL.'
            for host in self.unresolved_hosts
        ] or None


@dataclass(frozen=True, slots=True)
class RegistrationResult:
    """A new webhook with its signing secret."""

    change: ChangeResult
    secret: str = field(repr=False)


@dataclass
class WebhookService:
    """`_new_key` makes random bytes.

    `actor` is the caller, for the audit log; `account_id` limits it to one account.
    """

    _webhooks: Webhooks
    _accounts: SqlAccounts
    _propagation: PublicationStatus
    _encryption: Encryption
    _dns_check: DnsCheck
    _clock: Clock
    _new_key: Callable[[int], bytes]
    _schedule: Schedule
    _allow_http: bool = False
    _webhooks_per_account: int = MAX_WEBHOOKS_PER_ACCOUNT

    async def register(
        self, webhook_input: WebhookInput, status: Status = Status.ACTIVE, *, is_temporary: bool = False, actor: str
    ) -> RegistrationResult:
        """Register a webhook. Raises `Invalid`, which names each field, and `NotFound` or `Conflict`.

        A temporary one is deleted when no reader has pulled for an hour.
        """
        errors = input_errors(webhook_input, self._allow_http, self._schedule)
        if is_temporary and webhook_input.delivery != DeliveryMode.PULL:
            errors.append(FieldError("temporary", f"is for delivery {DeliveryMode.PULL} alone"))
        if errors:
            raise Invalid(*errors)
        unresolved_hosts = await self._unresolved_hosts(
            webhook_input.account_id, webhook_input.url, webhook_input.fallback_url, webhook_input.auth
        )
        await self._accounts.require(webhook_input.account_id)
        secret = make_secret(self._new_key(SECRET_BYTES))
        webhook = Webhook(
            id=new_id("wh"),
            secrets=(EncryptedSecret(self._encryption.encrypt(secret)),),
            encrypted_headers=self._encrypt_headers(webhook_input.headers),
            encrypted_fallback_headers=self._encrypt_headers(webhook_input.fallback_headers),
            encrypted_auth_secret=self._encrypt_auth_secret(webhook_input, None),
            **to_webhook_fields(webhook_input),
        )
        audit_entry = new_entry(
            self._clock, actor, "webhook.created", webhook.id, webhook_input.account_id, url=webhook_input.url or None
        )
        now = self._clock.now()
        expires_at = now + TEMPORARY_LIFE if is_temporary else None
        fields = to_registration_fields(webhook_input)
        new_registration = Registration(webhook, now, **fields, expires_at=expires_at)
        if status is Status.PAUSED:
            new_registration = to_paused(new_registration, Pause(new_id("pause"), PauseReason.MANUAL), now)
        registration = await self._webhooks.add(new_registration, audit_entry, self._webhooks_per_account)
        change = await self._wait_until_published(registration)
        return RegistrationResult(replace(change, unresolved_hosts=unresolved_hosts), secret)

    async def list(self, account_id: str | None = None) -> Sequence[ListedWebhook]:
        return await self._webhooks.list(account_id)

    async def page(self, account_id: str | None, cursor: Cursor | None, limit: int) -> Page[ListedWebhook]:
        """The webhooks of an account or of all, newest first."""
        return await self._webhooks.page(account_id, cursor, limit)

    async def list_paused(self, account_id: str, limit: int) -> Page[ListedWebhook]:
        """The paused webhooks of an account."""
        return await self._webhooks.page(account_id, None, limit, Status.PAUSED)

    async def find_many(self, account_id: str, webhook_ids: Collection[str]) -> Mapping[str, ListedWebhook]:
        """The account's webhooks among these ids, deleted ones included, by id."""
        registrations = await self._webhooks.find_many(account_id, webhook_ids) if webhook_ids else []
        return {registration.id: registration for registration in registrations}

    async def find(self, webhook_id: str, account_id: str | None = None) -> Registration:
        """Find a webhook. Raises `NotFound`."""
        registration = await self._webhooks.find(webhook_id)
        if registration is None or account_id not in (None, registration.webhook.account_id):
            raise _not_found(webhook_id)
        return registration

    async def change(
        self,
        webhook_id: str,
        changes: Mapping[str, Any],
        *,
        actor: str,
        account_id: str | None = None,
        version: int | None = None,
    ) -> ChangeResult:
        """Set some fields of a `WebhookInput`, and `status`; with a `version`, only if it is the current one.

        Raises `Invalid`, which names each field, `NotFound`, and `Stale`.
        """
        new_values = with_delivery({name: value for name, value in changes.items() if name != "status"})
        status, now = changes.get("status"), self._clock.now()
        pause = Pause(new_id("pause"), PauseReason.MANUAL)
        unresolved_hosts = await self._unresolved_hosts(
            account_id or "", new_values.get("url"), new_values.get("fallback_url"), new_values.get("auth")
        )

        def apply_changes(registration: Registration) -> Registration:
            if version is not None and registration.webhook.version != version:
                raise Stale(f"webhook {webhook_id} has changed since it was read: read it again")
            previous = to_webhook_input(registration)
            updated = replace(previous, **new_values)
            # Fields that were valid at registration stay valid when the rules change.
            existing_errors, errors = (
                input_errors(webhook_input, self._allow_http, self._schedule) for webhook_input in (previous, updated)
            )
            errors = [error for error in errors if error not in existing_errors]
            if registration.expires_at is not None and updated.delivery != DeliveryMode.PULL:
                errors.append(FieldError("delivery", f"of a temporary webhook must be {DeliveryMode.PULL}"))
            if errors:
                raise Invalid(*errors)
            result = with_probe_time(self._revise(registration, updated, new_values), now)
            if status is Status.PAUSED:
                return to_paused(result, pause, now)
            old_pause = registration.webhook.pause
            # Its old URL had paused it.
            has_lost_reason = updated.delivery == DeliveryMode.PULL and old_pause and old_pause.reason.is_automatic
            return to_active(result) if status is Status.ACTIVE or has_lost_reason else result

        changed_webhook = await self.update(webhook_id, apply_changes, actor, "webhook.changed", account_id)
        return replace(changed_webhook, unresolved_hosts=unresolved_hosts)

    async def pause(self, webhook_id: str, *, actor: str, account_id: str | None = None) -> ChangeResult:
        """Pause a webhook: no request is sent, and its deliveries are held. An automatic pause becomes one by a person.

        A second call changes nothing.
        """
        now = self._clock.now()
        pause = Pause(new_id("pause"), PauseReason.MANUAL)
        return await self.update(
            webhook_id,
            lambda registration: to_paused(registration, pause, now),
            actor,
            "webhook.paused",
            account_id,
            reason="manual",
        )

    async def enable(
        self,
        webhook_id: str,
        held_choice: HeldChoice = HeldChoice.DELIVER,
        *,
        actor: str,
        account_id: str | None = None,
    ) -> ChangeResult:
        """Enable a paused webhook in a new health epoch; `held_choice` decides about the held deliveries.

        A second call changes nothing.
        """
        return await self.update(
            webhook_id, to_active, actor, "webhook.enabled", account_id, held_choice, held=str(held_choice)
        )

    async def delete(self, webhook_id: str, *, actor: str, account_id: str | None = None) -> ChangeResult:
        """Delete a webhook. Its pending deliveries become dead letters."""
        return await self.update(webhook_id, lambda registration: None, actor, "webhook.deleted", account_id)

    async def update(
        self,
        webhook_id: str,
        change: Callable[[Registration], Registration | None],
        actor: str,
        action: str,
        account_id: str | None,
        choice: HeldChoice = HeldChoice.DELIVER,
        **details: object,
    ) -> ChangeResult:
        """Apply a change, with the name and details of its audit entry. Raises `NotFound` and errors of `change`."""
        existing = await self.find(webhook_id, account_id)

        def audit(previous: Registration, updated: Registration | None) -> AuditEntry:
            changes = differences(audited_values(previous), audited_values(updated)) if updated else None
            owner = existing.webhook.account_id
            return new_entry(self._clock, actor, action, webhook_id, owner, **details, changes=changes or None)

        registration = await self._webhooks.change(webhook_id, change, choice, audit)
        if registration is None:
            raise _not_found(webhook_id)
        return await self._wait_until_published(registration)

    async def _wait_until_published(self, registration: Registration) -> ChangeResult:
        """Wait up to two seconds for the newest version on the topic, and a moment more. Returns the result."""
        is_published = await wait_until_published(lambda: self._propagation.is_published(registration.webhook.id))
        if is_published:
            await asyncio.sleep(self._propagation.propagation_seconds)
        return ChangeResult(registration, propagated=is_published)

    def _check_hosts(self, previous: Webhook, webhook_input: WebhookInput, new_values: Mapping[str, Any]) -> None:
        """Raise `Invalid` for a change that would send a secret to another host than the one it was entered for."""
        has_other_host = not is_same_origin(previous.url, webhook_input.url)
        errors = []
        auth = parse_options(webhook_input.options).auth
        is_kept = auth is not None and webhook_input.auth_secret is None and previous.options.auth is not None
        if auth is not None and is_kept and has_other_host:
            errors.append(_given_again(f"auth.{SECRET_NAMES[auth.type]}", "the URL"))
        if previous.encrypted_headers and "headers" not in new_values and has_other_host:
            errors.append(_given_again("headers", "the URL"))
        # Without a fallback URL its headers are sent nowhere.
        has_other_fallback = webhook_input.fallback_url is not None and not is_same_origin(
            previous.fallback_url or "", webhook_input.fallback_url
        )
        if previous.encrypted_fallback_headers and "fallback_headers" not in new_values and has_other_fallback:
            errors.append(_given_again("fallbackHeaders", "the fallback URL"))
        if errors:
            raise Invalid(*errors)

    def _revise(
        self, registration: Registration, webhook_input: WebhookInput, new_values: Mapping[str, Any]
    ) -> Registration:
        webhook = registration.webhook
        has_new_url = webhook_input.url != webhook.url
        self._check_hosts(webhook, webhook_input, new_values)
        revised_webhook = replace(
            webhook,
            **to_webhook_fields(webhook_input),
            encrypted_headers=self._encrypt_headers(webhook_input.headers)
            if "headers" in new_values
            else webhook.encrypted_headers,
            encrypted_fallback_headers=self._encrypt_headers(webhook_input.fallback_headers)
            if "fallback_headers" in new_values
            else webhook.encrypted_fallback_headers,
            encrypted_auth_secret=self._encrypt_auth_secret(webhook_input, webhook)
            if "auth" in new_values
            else webhook.encrypted_auth_secret,
            # Failures of the old URL do not count for the new one.
            health_epoch=webhook.health_epoch + 1 if has_new_url else webhook.health_epoch,
        )
        url_changed_at = self._clock.now() if has_new_url else registration.url_changed_at
        return replace(
            registration,
            webhook=revised_webhook,
            url_changed_at=url_changed_at,
            **to_registration_fields(webhook_input),
        )

    def _encrypt_auth_secret(self, webhook_input: WebhookInput, previous: Webhook | None) -> str | None:
        """The secret of the input's `auth`, encrypted. If omitted, it stays for the same client at the same server.

        Raises `Invalid` if it must be given.
        """
        auth = parse_options(webhook_input.options).auth
        if auth is None:
            return None
        if webhook_input.auth_secret is not None:
            return self._encryption.encrypt(webhook_input.auth_secret)
        old_auth = previous.options.auth if previous else None
        if previous is not None and old_auth is not None and auth.has_same_client(old_auth):
            return previous.encrypted_auth_secret
        message = "is required" if old_auth is None else "must be given again, because its client or server has changed"
        raise Invalid(FieldError(f"auth.{SECRET_NAMES[auth.type]}", message))

    async def _unresolved_hosts(
        self, account_id: str, url: str | None, fallback_url: str | None, auth: Mapping[str, str] | None
    ) -> tuple[str, ...]:
        """The hosts of these URLs that do not resolve. Raises `Invalid` for addresses that are not allowed."""
        named_urls = {"url": url, "fallbackUrl": fallback_url, "auth.tokenUrl": (auth or {}).get("tokenUrl")}
        # The checks of the input refuse an invalid URL.
        urls = {name: host_url for name, host_url in named_urls.items() if host_url and host_of(host_url)}
        results = {name: await self._dns_check.check(host_url, account_id) for name, host_url in urls.items()}
        if errors := [FieldError(name, result.problem) for name, result in results.items() if result.problem]:
            raise Invalid(*errors)
        hosts = {host_of(urls[name]): None for name, result in results.items() if not result.resolves}
        return tuple(filter(None, hosts))

    def _encrypt_headers(self, headers: Mapping[str, str]) -> str | None:
        return self._encryption.encrypt(json.dumps(dict(headers))) if headers else None


def _given_again(field: str, url_name: str) -> FieldError:
    return FieldError(field, f"must be given again, because {url_name} has another host")


def _not_found(webhook_id: str) -> NotFound:
    return NotFound(f"there is no webhook {webhook_id}")
