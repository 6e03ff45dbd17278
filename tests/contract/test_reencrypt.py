"""A new encryption key replaces an old one without an interruption."""

import asyncio
from dataclasses import replace

import pytest

from builders import SECRET, webhook
from contract.stores import SqlStore, publish_all
from streams.adapters.dns_check import SystemDnsCheck
from streams.adapters.encryption import FernetEncryption, generate_key
from streams.adapters.sql.engine.encryption_check import SqlEncryptionCheck
from streams.core.accounts.audit import AuditFilter
from streams.core.deliveries.schedule import parse_schedule
from streams.core.encryption import WrongKeys
from streams.core.errors import InvalidRecord, Unavailable
from streams.core.webhooks.webhook import EncryptedSecret, Registration
from streams.features.shared.accounts import SqlAccounts
from streams.features.shared.audit_log import SqlAuditLog
from streams.features.webhooks.secrets import SecretService
from streams.features.webhooks.service import WebhookService
from streams.features.webhooks.storage import SqlWebhooks


def service(store: SqlStore, encryption: FernetEncryption) -> SecretService:
    audit = SqlAuditLog(store.database)
    check = SqlEncryptionCheck(store.database, encryption)

    webhooks = WebhookService(
        store.webhooks,
        SqlAccounts(store.database),
        store.propagation,
        encryption,
        SystemDnsCheck(()),
        store.clock,
        bytes,
        parse_schedule("30s"),
    )
    return SecretService(webhooks, store.webhooks, encryption, check, audit, store.clock, bytes)


async def encrypted_with(store: SqlStore, encryption: FernetEncryption) -> None:
    """Give the webhook of the store a secret and a header, encrypted with this key."""

    def locked(known: Registration) -> Registration:
        secrets = (EncryptedSecret(encryption.encrypt(SECRET)),)
        headers = encryption.encrypt('{"X-Gateway-Key": "k"}')
        auth_secret = encryption.encrypt("p4ssword")
        return replace(
            known,
            webhook=replace(
                known.webhook, secrets=secrets, encrypted_headers=headers, encrypted_auth_secret=auth_secret
            ),
        )

    await store.webhooks.change("wh_crm", locked)
    await publish_all(store)


async def test_after_a_reencryption_only_the_newest_key_is_needed(
    database: SqlStore,
) -> None:
    old, new = generate_key(), generate_key()
    await encrypted_with(database, FernetEncryption([old]))
    progress: list[tuple[int, int]] = []
    done = await service(database, FernetEncryption([new, old])).reencrypt(
        lambda *seen: progress.append(seen), actor="ada"
    )
    assert (done, progress) == (1, [(1, 1)])
    found = await database.webhooks.find("wh_crm")
    assert found is not None
    only_new = FernetEncryption([new])
    assert only_new.decrypt(found.webhook.secrets[0].ciphertext) == SECRET
    assert only_new.decrypt_headers(found.webhook.encrypted_headers) == {"X-Gateway-Key": "k"}
    assert only_new.decrypt(found.webhook.encrypted_auth_secret or "") == "p4ssword"
    [due] = await database.outbox.list_due(10)
    assert due.webhook == found.webhook
    [audit_entry] = (await SqlAuditLog(database.database).list(AuditFilter("acme"), None, 10)).rows
    assert (audit_entry.action, audit_entry.object_id) == ("webhook.reencrypted", "wh_crm")


async def test_an_undecryptable_secret_is_named_and_kept(database: SqlStore) -> None:
    await encrypted_with(database, FernetEncryption([generate_key()]))
    before = await database.webhooks.find("wh_crm")
    with pytest.raises(InvalidRecord, match="a key that is not configured here"):
        await service(database, FernetEncryption([generate_key()])).reencrypt(actor="ada")
    assert await database.webhooks.find("wh_crm") == before


async def test_a_webhook_that_was_deleted_meanwhile_is_passed_over(database: SqlStore) -> None:
    old = generate_key()
    await encrypted_with(database, FernetEncryption([old]))
    await database.webhooks.add(Registration(replace(webhook(), id="wh_lrs"), database.clock.now()))
    await database.webhooks.change("wh_crm", lambda known: None)
    await database.webhooks.change("wh_lrs", lambda known: None)
    assert await service(database, FernetEncryption([generate_key(), old])).reencrypt(actor="ada") == 0


async def test_only_the_right_keys_may_change_anything(database: SqlStore) -> None:
    ours, theirs = (FernetEncryption([generate_key()]) for _ in range(2))
    await encrypted_with(database, ours)
    await SqlEncryptionCheck(database.database, ours).require_right_keys()
    check = SqlEncryptionCheck(database.database, theirs)
    webhooks = SqlWebhooks(database.database, database.clock, check)
    with pytest.raises(Unavailable, match="SCORM_WEBHOOKS_ENCRYPTION_KEYS"):
        await webhooks.change("wh_crm", lambda known: replace(known, description="encrypted with a wrong key"))
    [known] = await webhooks.list()
    assert known.description == ""
    assert check.problems()


async def test_any_of_the_keys_opens_the_check(database: SqlStore) -> None:
    old, new = generate_key(), generate_key()
    await encrypted_with(database, FernetEncryption([old]))
    await SqlEncryptionCheck(database.database, FernetEncryption([old])).require_right_keys()
    both = SqlEncryptionCheck(database.database, FernetEncryption([new, old]))
    await both.require_right_keys()
    await both.reencrypt()
    await SqlEncryptionCheck(database.database, FernetEncryption([new])).require_right_keys()
    with pytest.raises(Unavailable):
        await SqlEncryptionCheck(database.database, FernetEncryption([old])).require_right_keys()
    assert both.problems() == []


async def test_two_first_processes_agree_on_one_check(database: SqlStore) -> None:
    encryption = FernetEncryption([generate_key()])
    await encrypted_with(database, encryption)
    checks = [SqlEncryptionCheck(database.database, encryption) for _ in range(5)]
    assert len(set(await asyncio.gather(*(check.require_right_keys() for check in checks)))) == 1


async def test_a_process_with_wrong_keys_does_not_write_the_check(database: SqlStore) -> None:
    ours, theirs = (FernetEncryption([generate_key()]) for _ in range(2))
    await encrypted_with(database, ours)
    with pytest.raises(WrongKeys):
        await SqlEncryptionCheck(database.database, theirs).require_right_keys()
    await SqlEncryptionCheck(database.database, ours).require_right_keys()
