"""Every field that holds a URL or a secret is in the registry of who sees it, and in docs/access.md."""

import importlib
import inspect
import json
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic.alias_generators import to_snake

import api
import scorm_webhooks_cli
import streams
from api.visibility import FIELDS
from streams.adapters.sql.tables.types import metadata

ROOT = Path(__file__).parents[2]
SUSPECT = re.compile(
    r"(?:^|_)(?:ur[il]s?|secrets?|passwords?|tokens?|keys?|headers?|body|curl|ciphertext|encrypted|credentials?|issuer"
    r"|endpoint|proxy|proxies|nonce|verifier|code|links?|cookies?|sha256)(?:_|$)"
)
# Fields that are called so and hold neither a URL of a customer nor a secret.
NEITHER = {
    # Whether there is one, how many, how large, and until when.
    *(
        "_Webhook.has_headers",
        "_Webhook.has_fallback_headers",
        "_Webhook.old_secret_until",
        "webhooks.old_secret_until",
    ),
    *("ListedWebhook.has_headers", "ListedWebhook.has_fallback_headers", "ListedWebhook.secret_ends"),
    "Request.kept_body_bytes",
    *("ConnectionLimits.body_bytes", "ConnectionLimits.body_seconds", "ConnectionLimits.header_bytes"),
    *("ConnectionLimits.header_lines", "ConnectionLimits.header_seconds", "TokenBucket.tokens"),
    # Keys of Kafka's records and of rows, and headers of records.
    *("Record.key", "Outgoing.key", "OutgoingEvent.key", "StoredRecord.key", "Topic.key", "outgoing_events.key"),
    *("Record.headers", "Outgoing.headers", "StoredRecord.headers", "Mail.key", "mails.key", "idempotency_keys.key"),
    # What an integrator sends to a receiver from the own machine, with a secret that is typed there.
    *("Exam.secret", "Exam.other_secret", "Exam.signature_header", "ExamRequest.headers", "ExamRequest.body"),
    *("ReceivedRequest.headers", "ReceivedRequest.body", "Receiver.secret", "Receiver.url"),
    # The API that commands of this person use, with the person's key.
    *("ApiTarget.url", "ApiTarget.url_name", "ApiTarget.key", "ApiTarget.key_name"),
    *("LocalKey.url", "LocalKey.key", "Settings.local_key_file"),
    # A pulled item has our signatures, and none of the customer's own headers.
    "PulledItem.headers",
    # An event's payload, which every role may read.
    "PulledItem.body",
    *("Delivery.body", "DeliveryDetails.body", "RecordedEvent.body", "Request.body", "events.body"),
    # Names, kinds, parts and addresses within the dashboard.
    *("DeliveryPolicy.signature_header", "Settings.signature_header", "Site.signature_header", "_Writer.header"),
    *("Settings.trusted_proxies", "Site.trusted_proxies", "EndpointQueue.endpoint_class", "NewKey.key"),
    "NewTerminal.key",
    *("Metadata.token_auth_method", "Services.secrets", "Sample.code", "Choice.link", "OutsideCustomer.secret_file"),
    "Preset.link",
    # The id of a key.
    *("ErasedLearner.hash_key_id", "HashedLearner.hash_key_id", "erased_learners.hash_key_id"),
    # Times, such as that between two looks at the keys of hashes.
    "PublishErasuresPacing.keys_interval_seconds",
    *("Registration.url_changed_at", "ListedWebhook.url_changed_at", "webhooks.url_changed_at"),
    # Our own address.
    "MailService.public_url",
    # Whether a proxy resolves names.
    *("Settings.egress_proxy_resolves", "Site.proxy_resolves"),
}


def fields_of_classes() -> Iterator[str]:
    """`Class.field` of every model, dataclass and named tuple, settings among them. A service's parts are private."""
    for package in (api, scorm_webhooks_cli, streams):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if ".migrations." in found.name or found.name.endswith("__main__"):
                continue
            module = importlib.import_module(found.name)
            for name, one in vars(module).items():
                if inspect.isclass(one) and one.__module__ == module.__name__ and _has_fields(one):
                    yield from (f"{name}.{field}" for field in inspect.get_annotations(one) if field[0] != "_")


def _has_fields(one: type) -> bool:
    return issubclass(one, BaseModel) or is_dataclass(one) or hasattr(one, "_fields")


def columns() -> Iterator[str]:
    return (f"{table.name}.{column.name}" for table in metadata.tables.values() for column in table.columns)


def fields_of_records() -> Iterator[str]:
    for path in (ROOT / "schemas").glob("*.avsc"):
        yield from _of_schema(json.loads(path.read_text()))


def _of_schema(schema: Any) -> Iterator[str]:
    if isinstance(schema, list):
        for part in schema:
            yield from _of_schema(part)
    elif isinstance(schema, dict):
        for field in schema.get("fields", []):
            yield f"{schema['name']}.{to_snake(field['name'])}"
            yield from _of_schema(field["type"])
        yield from _of_schema([part for key, part in schema.items() if key in ("items", "values", "type")])


def variables() -> Iterator[str]:
    """The environment variables of clients; those of ours are fields of `Settings`."""
    named = set(re.findall(r"`([A-Z]+_[A-Z_]+)", (ROOT / "docs" / "settings.md").read_text()))
    return (name for name in named if not name.startswith("SCORM_WEBHOOKS_") and not name.endswith("_FILE"))


def suspects() -> set[str]:
    by_class = [*fields_of_classes(), *columns(), *fields_of_records()]
    return {name for name in by_class if SUSPECT.search(name.rpartition(".")[2])} | {
        name for name in variables() if SUSPECT.search(name.lower())
    }


@pytest.mark.parametrize("name", sorted(suspects()))
def test_a_field_with_a_url_or_a_secret_has_a_rule(name: str) -> None:
    assert (name in FIELDS) != (name in NEITHER), f"say in api/visibility.py who sees {name}"


def test_the_registry_names_fields_that_exist() -> None:
    prefixes = {
        "KAFKA_CONFIG_",
        "SCHEMA_REGISTRY_CONFIG_",
        "AuditEntry.url",
        "AuditEntry.fallbackUrl",
        "AuditEntry.tokenUrl",
    }
    every = {*fields_of_classes(), *columns(), *fields_of_records(), *variables()}
    assert sorted(FIELDS.keys() - every - prefixes) == []
    assert sorted(NEITHER - every) == []


def test_the_document_has_every_rule() -> None:
    section = (ROOT / "docs" / "access.md").read_text().partition("## Who sees what")[2].partition("\n## ")[0]
    rows = [tuple(map(str.strip, row.strip("|").split("|"))) for row in section.splitlines() if row.startswith("|")]
    rules = {(rule.description, rule.viewer, rule.member, rule.owner, rule.operator) for rule in FIELDS.values()}
    assert set(rows[2:]) == rules
