"""docs/kubernetes.md and the notes say what is there, and their commands run."""

import json
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from house.test_docs import blocks, command_of

import parts
from chart.rendering import FULLNAME, MINIMAL, NAMESPACE, VALUES_FILES, at, helm, merged
from chart.test_options import leaves
from chart_files import DOCUMENT, ROOT, VALUES, documented_values, expected

VALUES_AS_SHIPPED = yaml.safe_load(VALUES.read_text())
PRODUCTION = yaml.safe_load((ROOT / "deploy" / "helm" / "values" / "production.yaml").read_text())
TEXT = (ROOT / "docs" / "kubernetes.md").read_text()
COMMANDS = blocks(TEXT)
SMALL = ROOT / "docs" / "stages.md"


def test_the_table_has_every_value() -> None:
    assert expected()[DOCUMENT] == DOCUMENT.read_text(), "run: make generated"


def test_every_value_says_what_it_is_for() -> None:
    described = {path for path, _, _ in documented_values()}
    # Settings are described in docs/settings.md, the options of a stage above `stages`.
    own = [path for path in leaves(VALUES_AS_SHIPPED) if not path.startswith(("settings.", "stages."))]
    assert [path for path in own if path not in described] == []


def helm_commands() -> list[list[str]]:
    commands = [*COMMANDS, *blocks(SMALL.read_text())]
    return [words for words in commands if words[0] == "helm" and words[1] in ("install", "upgrade")]


@pytest.mark.parametrize("words", helm_commands(), ids=" ".join)
def test_a_command_of_helm_renders(words: list[str]) -> None:
    done = helm("template", *words[2:], chart=ROOT)
    assert done.returncode == 0, done.stderr


def test_a_rollback_names_its_revision() -> None:
    # Without it Helm takes the one before the last, even if that one failed.
    [words] = [words for words in COMMANDS if words[:2] == ["helm", "rollback"]]
    assert words[3].isdigit()


def test_the_log_of_a_failed_test_is_named() -> None:
    # `helm test` says that it failed, and not why.
    assert "kubectl logs --namespace webhooks pod/events-scorm-webhooks-test" in TEXT
    assert f"kubectl logs --namespace webhooks pod/{FULLNAME}-test" in notes({})


def test_the_secrets_of_the_document_are_those_of_the_values(tmp_path: Path) -> None:
    certificate = trustme.CA().issue_cert("webhooks.example.com")
    certificate.private_key_pem.write_to_path(tmp_path / "webhooks.key")
    for name in ("webhooks.pem", "kafka-ca.pem", "database-ca.pem"):
        certificate.cert_chain_pems[0].write_to_path(tmp_path / name)
    created: dict[str, list[str]] = {}
    for words in (words for words in COMMANDS if words[:3] == ["kubectl", "create", "secret"]):
        command = [str(parts.KUBE / "bin" / "kubectl"), *words[1:], "--dry-run=client", "--output=json"]
        made = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        secret = json.loads(made.stdout)
        created[secret["metadata"]["name"]] = [*secret["data"]]
    tls = {each["secretName"]: ["tls.crt", "tls.key"] for each in PRODUCTION["api"]["ingress"]["tls"]}
    assert created == {name: [key] for name, key in secrets_of(PRODUCTION, VALUES_AS_SHIPPED)} | tls


def secrets_of(values: Mapping[str, Any], shipped: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The Secrets that values name, each with the key that is read."""
    if "existingSecret" in values:
        yield values["existingSecret"], shipped["key"] if "key" in shipped else shipped["passwordKey"]
    for name, inner in values.items():
        if isinstance(inner, dict) and isinstance(shipped.get(name), dict):
            yield from secrets_of(inner, shipped[name])


def test_every_command_of_the_program_exists() -> None:
    found = re.findall(r"scorm-webhooks ((?:[a-z-]+ )[a-z-]+)", " ".join(map(" ".join, COMMANDS)) + " " + TEXT)
    commands = {words for words in found if words.split()[0] in ("accounts", "keys", "secrets", "topics", "db")}
    assert commands >= {"accounts create", "keys generate", "secrets reencrypt", "topics apply"}
    for words in commands:
        assert command_of(words.split())


def test_every_values_file_is_in_the_document() -> None:
    assert all(f"`{path.name}`" in TEXT for path in VALUES_FILES)


# -- notes -----------------------------------------------------------------------------------------------------


def notes(values: dict[str, Any]) -> str:
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        json.dump(merged(MINIMAL, values), file)
        file.flush()
        options = ["--namespace", NAMESPACE, "--dry-run=client", "--values", file.name]
        done = helm("install", "acme", ".", *options)
    assert done.returncode == 0, done.stderr
    return done.stdout.partition("NOTES:\n")[2]


def test_the_notes_say_what_to_do_next() -> None:
    text = notes({})
    assert "helm test acme" in text
    assert "accounts create" in text
    assert "kubectl port-forward --namespace webhooks service/acme-scorm-webhooks-api" in text
    assert "No mail is sent: smtp.existingSecret is not set." in text
    assert "settings.publicUrl is not set" in text


def test_the_notes_leave_out_what_is_done() -> None:
    ingress = at("api.ingress", {"enabled": True, "hosts": ["webhooks.example.com"]})
    settings = {"publicUrl": "https://webhooks.example.com", "trustedProxies": ["10.3.0.0/16"]}
    done = {"smtp": {"existingSecret": "smtp"}, "settings": settings}
    text = notes(merged(ingress, done))
    assert not [word for word in ("port-forward", "No mail", "publicUrl") if word in text]


@pytest.mark.parametrize(
    ("values", "command"),
    [(at("topics.managedBy", "nobody"), "topics apply"), (at("database.upgrade", False), "db upgrade")],
)
def test_the_notes_name_a_command_that_is_yours_to_run(values: dict[str, Any], command: str) -> None:
    assert f"run `scorm-webhooks {command}`" in notes(values)
    assert f"run `scorm-webhooks {command}`" not in notes({})
