"""A file has the webhooks of an account: a second run changes nothing, and only --prune deletes."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cli.command import run
from typer.testing import Result

from rest.api_fixture import ApiFixture
from scorm_webhooks_cli.apply import parse_file
from streams.core.errors import Invalid, Stale

pytestmark = pytest.mark.slow

FILE = """
webhooks:
  - description: The CRM
    url: https://example.com/crm
    events: [session.completed, session.scored]
    filter: {successStatus: passed}
    packages: [pkg_2, pkg_1]
    ratePerSecond: 5
    pauseAfter: {failures: 10}
  - description: The warehouse
    url: https://example.com/warehouse
    headers: {X-Key: "${WAREHOUSE_KEY}"}
    auth: {type: basic, username: hr, password: "${WAREHOUSE_KEY}"}
  - description: The till
    delivery: pull
    retentionDays: 14
"""


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAREHOUSE_KEY", "hidden-value")


def write(text: str) -> None:
    Path("webhooks.yaml").write_text(text)


async def apply(api: ApiFixture, text: str, *options: str, answer: str = "") -> Result:
    write(text)
    return await run("apply", "-f", "webhooks.yaml", "--account", api.acme.account_id, *options, answer=answer)


async def actions(api: ApiFixture, text: str, *options: str) -> list[tuple[str, str]]:
    done = await apply(api, text, "--json", *options)
    assert done.exception is None or done.exit_code == 1, done.exception
    return [(row["action"], row["description"]) for row in json.loads(done.stdout or "[]")]


async def webhooks(api: ApiFixture) -> Sequence[dict[str, Any]]:
    return list((await api.acme.get("/v1/webhooks"))["data"])


async def test_a_second_run_changes_nothing(api: ApiFixture) -> None:
    planned = await actions(api, FILE, "--plan")
    assert planned == [("create", "The CRM"), ("create", "The warehouse"), ("create", "The till")]
    assert await webhooks(api) == []
    done = await apply(api, FILE, "--yes")
    assert (done.exit_code, done.output.count("created ")) == (0, 3)
    # A log of CI must have no secret.
    assert not {"hidden-value", "whsec_"} & set(done.output.replace(":", " ").split())
    nothing = await apply(api, FILE, "--yes")
    assert (nothing.exit_code, nothing.output) == (0, "Nothing to change.\n")
    assert (await apply(api, FILE, "--plan")).exit_code == 0


async def test_only_what_differs_is_changed_after_a_question(api: ApiFixture) -> None:
    await apply(api, FILE, "--yes")
    changed = FILE.replace("ratePerSecond: 5", "ratePerSecond: 7").replace("[pkg_2, pkg_1]", "[pkg_1]")
    no = await apply(api, changed, answer="n\n")
    assert (no.exit_code, "ratePerSecond: 5" in no.output, "1 to change" in no.output) == (1, True, True)
    yes = await apply(api, changed, answer="y\n")
    assert "changed The CRM" in yes.output
    [crm] = [one for one in await webhooks(api) if one["description"] == "The CRM"]
    assert (crm["ratePerSecond"], crm["packagesCount"], crm["pauseAfter"]["failures"]) == (7, 1, 10)


async def test_a_key_that_the_file_drops_is_a_change(api: ApiFixture) -> None:
    token_server = "type: oauth2, tokenUrl: 'https://id.example.com/token', clientId: hr, clientSecret: hidden-value"
    one = "webhooks:\n  - {description: A, url: 'https://example.com/a', pauseAfter: {%s}, auth: {%s}}\n"
    full = one % ("failures: 10, minutes: 30", f"{token_server}, scope: events, clientAuthentication: basic")
    await apply(api, full, "--yes")
    for same in (full, full.replace(", clientAuthentication: basic", "")):
        assert await actions(api, same, "--plan") == []
    for dropped in (", minutes: 30", "failures: 10, ", ", scope: events"):
        assert await actions(api, full.replace(dropped, ""), "--plan") == [("change", "A")]
    await apply(api, full.replace(", minutes: 30", "").replace(", scope: events", ""), "--yes")
    [webhook] = await webhooks(api)
    assert webhook["pauseAfter"] == {"failures": 10, "minutes": 0}
    assert "scope" not in webhook["auth"]


async def test_only_prune_deletes_and_no_listener(api: ApiFixture) -> None:
    await apply(api, FILE, "--yes")
    await api.acme.post("/v1/webhooks", {"delivery": "pull", "temporary": True, "description": "listen: ada"})
    one = "webhooks:\n  - {description: The till, delivery: pull}\n"
    assert await actions(api, one, "--plan") == []
    assert await actions(api, one, "--prune", "--yes") == [("delete", "The warehouse"), ("delete", "The CRM")]
    assert {one["description"] for one in await webhooks(api)} == {"The till", "listen: ada"}


async def test_secrets_are_sent_when_they_are_asked_for(api: ApiFixture) -> None:
    await apply(api, FILE, "--yes")
    assert await actions(api, FILE, "--plan", "--secrets") == [("change", "The warehouse")]
    shown = await apply(api, FILE, "--plan", "--secrets")
    assert ("hidden-value" in shown.output, "not shown" in shown.output) == (False, True)


async def test_a_description_of_two_webhooks_is_refused(api: ApiFixture) -> None:
    for _ in range(2):
        await api.acme.webhook(description="The CRM")
    refused = await apply(api, FILE, "--yes")
    assert "names several webhooks" in str(refused.exception)


async def test_an_error_says_what_was_done_before(api: ApiFixture) -> None:
    wrong = FILE.replace("retentionDays: 14", "retentionDays: 99")
    failed = await apply(api, wrong, "--yes")
    assert isinstance(failed.exception, Invalid)
    assert "2 of 3 done; this one failed: create The till" in failed.output


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("webhooks: [", "is not YAML"),
        ("hooks: []", "the one field `webhooks`"),
        ("webhooks: [1]", r"webhooks\[0\]: must be an object"),
        ("webhooks: [{url: a}]", r"webhooks\[0\].description: is required"),
        ("webhooks: [{description: a}, {description: a}]", "is used twice"),
        ("webhooks: [{description: a, id: wh_1}]", "matched by description"),
        ("webhooks: [{description: a, status: active}]", "a file would undo it"),
        ("a: &a [x]\nwebhooks: [*a]", "must have no aliases"),
        ("webhooks: [{description: a, packages: [2026-01-01]}]", r"packages\[0\]: is a date in YAML: put it into"),
        ("webhooks: [{description: a, createdAt: 2026-13-45}]", "is not YAML|is a"),
        ("webhooks: [{description: a, ratePerSecond: .inf}]", "must be a finite number"),
        ("webhooks: [{description: a, filter: {1: x}}]", "1 must be a text"),
        ("webhooks: [{description: ''}]", "is required"),
        ("webhooks: [{description: a, headers: {X: '${GONE}'}}]", r"webhooks\[0\].headers.X: .* no variable GONE"),
        ("webhooks: [{description: a, filter: " + "[" * 20_000, "must have at most 30 objects and lists"),
        ("webhooks:\n" + "- - - - " * 20_000, "must have at most 30 objects and lists"),
        ("webhooks:\n" + "- {description: a}\n" * 20_000, "webhooks: must be at most 1000"),
    ],
    ids=lambda value: value[:40],
)
def test_a_wrong_file_names_the_place(text: str, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        parse_file(text, {})


def test_an_error_of_yaml_shows_no_line_of_the_file() -> None:
    with pytest.raises(Invalid, match="in line 2, column") as raised:
        parse_file("webhooks:\n  - {headers: {X-Key: hidden-value]}", {})
    assert "hidden-value" not in str(raised.value)


def test_variables_are_replaced_before_descriptions_are_compared() -> None:
    text = "webhooks: [{description: 'CRM ${STAGE}'}, {description: CRM test}]"
    with pytest.raises(Invalid, match="'CRM test' is used twice"):
        parse_file(text, {"STAGE": "test"})
    with pytest.raises(Invalid, match="is required"):
        parse_file("webhooks: [{description: '${EMPTY}'}]", {"EMPTY": ""})


async def test_a_plan_shows_names_of_variables_and_no_query(api: ApiFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "hidden-value")
    file = "webhooks: [{description: a, url: 'https://example.com/?token=${TOKEN}', events: ['${TOKEN}']}]"
    shown = await apply(api, file, "--plan")
    assert "url: https://example.com/?…" in shown.output
    assert 'events: ["${TOKEN}"]' in shown.output
    assert "hidden-value" not in shown.output


async def test_a_change_meanwhile_is_not_overwritten(api: ApiFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    await apply(api, FILE, "--yes")
    [crm] = [one for one in await webhooks(api) if one["description"] == "The CRM"]
    changed = FILE.replace("ratePerSecond: 5", "ratePerSecond: 7")
    loop = asyncio.get_running_loop()

    def confirm(*arguments: object, **options: object) -> bool:
        change = api.acme.patch(f"/v1/webhooks/{crm['id']}", {"ratePerSecond": 9})
        asyncio.run_coroutine_threadsafe(change, loop).result(10)
        return True

    monkeypatch.setattr("scorm_webhooks_cli.apply.typer.confirm", confirm)
    refused = await apply(api, changed)
    assert isinstance(refused.exception, Stale)
    assert "0 of 1 done" in refused.output
