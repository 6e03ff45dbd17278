"""A webhook's filter by the command line."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from real.migrated import make_tables
from streams.adapters.sql.engine.database import database_url
from streams.cli.app import app

pytestmark = pytest.mark.usefixtures("no_publication_wait")

FILTER = {"scoreScaled": {"gte": 0.8}}


@pytest.fixture(autouse=True)
def _deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path}/db.sqlite"
    make_tables(database_url(url))
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("SCORM_WEBHOOKS_DATA_DIR", str(tmp_path))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--json"])


def made(*arguments: str) -> dict[str, Any]:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    shown: dict[str, Any] = json.loads(result.stdout)
    return shown


def test_a_webhook_needs_an_account() -> None:
    refused = run("webhooks", "create", "--url", "https://example.com/hooks")
    assert str(refused.exception).startswith("--account: is required")


def test_any_field_of_the_api_is_set() -> None:
    account = made("accounts", "create", "Acme")["id"]
    create = ("webhooks", "create", "--account", account, "--url", "https://example.com/hooks")
    webhook = made(*create, "--set", "maxConcurrency=5", "--set", "description=The CRM")
    assert (webhook["maxConcurrency"], webhook["description"]) == (5, "The CRM")
    assert made("webhooks", "update", webhook["id"], "--set", "description=123")["description"] == "123"
    changed = made("webhooks", "update", webhook["id"], "--set", 'filter={"successStatus": "passed"}')
    assert changed["filter"] == {"successStatus": "passed"}
    assert "filter" not in made("webhooks", "update", webhook["id"], "--set", "filter=null")


@pytest.mark.parametrize(
    ("text", "field"), [("maxConcurency=5", "maxConcurency"), ("maxConcurrency=many", "maxConcurrency"), ("x", "--set")]
)
def test_a_wrong_field_is_named(text: str, field: str) -> None:
    account = made("accounts", "create", "Acme")["id"]
    create = ("webhooks", "create", "--account", account, "--url", "https://example.com/hooks")
    assert str(run(*create, "--set", text).exception).startswith(f"{field}: ")


def test_a_filter_is_set_and_removed() -> None:
    account = made("accounts", "create", "Acme")["id"]
    create = ("webhooks", "create", "--account", account, "--url", "https://example.com/hooks")
    webhook = made(*create, "--filter", json.dumps(FILTER))
    assert webhook["filter"] == FILTER
    changed = made("webhooks", "update", webhook["id"], "--filter", '{"successStatus": "passed"}')
    assert changed["filter"] == {"successStatus": "passed"}
    assert made("webhooks", "update", webhook["id"], "--description", "CRM")["filter"] == {"successStatus": "passed"}
    assert "filter" not in made("webhooks", "update", webhook["id"], "--filter", "")
