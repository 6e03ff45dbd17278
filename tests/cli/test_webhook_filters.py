"""A webhook's filter by the command line."""

import json
from typing import Any

import pytest
from cli.command import run

from rest.api_fixture import ApiFixture

FILTER = {"scoreScaled": {"gte": 0.8}}


async def made(*arguments: str) -> dict[str, Any]:
    result = await run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    shown: dict[str, Any] = json.loads(result.stdout)
    return shown


async def test_a_webhook_needs_an_account(api: ApiFixture) -> None:
    refused = await run("webhooks", "create", "--url", "https://example.com/hooks")
    assert str(refused.exception).startswith("--account: is required")


async def test_any_field_of_the_api_is_set(api: ApiFixture) -> None:
    create = ("webhooks", "create", "--account", api.acme.account_id, "--url", "https://example.com/hooks")
    webhook = await made(*create, "--set", "maxConcurrency=5", "--set", "description=The CRM")
    assert (webhook["maxConcurrency"], webhook["description"]) == (5, "The CRM")
    assert (await made("webhooks", "update", webhook["id"], "--set", "description=123"))["description"] == "123"
    changed = await made("webhooks", "update", webhook["id"], "--set", 'filter={"successStatus": "passed"}')
    assert changed["filter"] == {"successStatus": "passed"}
    assert "filter" not in await made("webhooks", "update", webhook["id"], "--set", "filter=null")


@pytest.mark.parametrize(
    ("text", "field"), [("maxConcurency=5", "maxConcurency"), ("maxConcurrency=many", "maxConcurrency"), ("x", "--set")]
)
async def test_a_wrong_field_is_named(api: ApiFixture, text: str, field: str) -> None:
    create = ("webhooks", "create", "--account", api.acme.account_id, "--url", "https://example.com/hooks")
    assert str((await run(*create, "--set", text)).exception).startswith(f"{field}: ")


async def test_a_filter_is_set_and_removed(api: ApiFixture) -> None:
    create = ("webhooks", "create", "--account", api.acme.account_id, "--url", "https://example.com/hooks")
    webhook = await made(*create, "--filter", json.dumps(FILTER))
    assert webhook["filter"] == FILTER
    changed = await made("webhooks", "update", webhook["id"], "--filter", '{"successStatus": "passed"}')
    assert changed["filter"] == {"successStatus": "passed"}
    assert (await made("webhooks", "update", webhook["id"], "--description", "CRM"))["filter"] == {
        "successStatus": "passed"
    }
    assert "filter" not in await made("webhooks", "update", webhook["id"], "--filter", "")
