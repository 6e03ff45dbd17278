"""Generated clients change the fields that they set, and no others."""

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import parts
from api.accounts import access_models as access
from api.accounts import models as accounts
from api.shared_models import Changes
from api.webhooks import models as webhooks
from rest.api_fixture import OPERATOR_KEY, URL, ApiFixture
from rest.server import Server

WEBHOOK = {
    "url": URL,
    "events": ["session.completed"],
    "description": "before",
    "packages": ["pkg_1"],
    "dispatches": ["dsp_1"],
    "fallbackUrl": "https://fallback.example.com/hooks",
    "headers": {"X-Gateway-Key": "k-123"},
    "maxConcurrency": 7,
}
ACCOUNT = {"name": "Acme", "emails": ["ops@example.com"], "planLimit": 1000}
CHANGE_WEBHOOK = """
import { client } from './client/client.gen';
import { updateWebhook as change } from './client/sdk.gen';

declare const process: { argv: string[] };
const [url, key, webhook_id] = process.argv.slice(2);
client.setConfig({ baseUrl: url, auth: () => key });
change({ path: { webhook_id }, body: { description: 'after' }, throwOnError: true })
  .then(({ data }) => console.log(JSON.stringify(data)));
"""
COMPILE = {
    "compilerOptions": {
        "module": "commonjs",
        "target": "es2022",
        "lib": ["es2022", "dom", "dom.iterable"],
        "strict": True,
        "skipLibCheck": True,
        "types": [],
        "outDir": "made",
    },
    "files": ["change.ts"],
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(f"sqlite:///{tmp_path_factory.mktemp('generated')}/db.sqlite")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def openapi_file(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("openapi") / "openapi.json"
    path.write_text(httpx.get(f"{server.url}/openapi.json").text)
    return path


class Caller:
    """An HTTP client of the server."""

    def __init__(self, server: Server, key: str | None) -> None:
        assert key
        self.key = key
        self.client = httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {key}"})

    def request(self, method: str, path: str, json: Any = None) -> dict[str, Any]:
        response = self.client.request(method, path, json=json)
        assert response.is_success, response.text
        found: dict[str, Any] = response.json()
        return found


def changed_fields(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    ignored = {"version", "propagated", "secret", "apiKey"}
    return {name: after.get(name) for name in before if before[name] != after.get(name) and name not in ignored}


# -- Python ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def python_client(openapi_file: Path) -> Iterator[str]:
    """The name of a package that openapi-python-client generates."""
    folder = openapi_file.parent
    program = Path(sys.executable).with_name("openapi-python-client")
    (folder / "config.yaml").write_text("post_hooks: []")
    options: list[str | Path] = ["--path", openapi_file, "--output-path", folder / "made_client", "--meta", "none"]
    options += ["--config", folder / "config.yaml", "--fail-on-warning"]
    made = subprocess.run([program, "generate", *options], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    sys.path.insert(0, str(folder))
    yield "made_client"
    sys.path.remove(str(folder))


def test_a_python_client_changes_one_field_of_a_webhook(server: Server, python_client: str) -> None:
    caller = Caller(server, server.api.acme.key)
    before = caller.request("POST", "/v1/webhooks", WEBHOOK)
    call = importlib.import_module(f"{python_client}.api.webhooks.update_webhook")
    models, made = importlib.import_module(f"{python_client}.models"), importlib.import_module(python_client)
    client = made.AuthenticatedClient(base_url=server.url, token=caller.key)
    response = call.sync_detailed(before["id"], client=client, body=models.WebhookChanges(description="after"))
    assert response.status_code == 200, response.content
    after = caller.request("GET", f"/v1/webhooks/{before['id']}")
    assert changed_fields(before, after) == {"description": "after"}


def test_a_python_client_changes_one_field_of_an_account(server: Server, python_client: str) -> None:
    caller = Caller(server, OPERATOR_KEY)
    before = caller.request("POST", "/v1/accounts", ACCOUNT)
    name = f"{python_client}.api.accounts_operators.update_account"
    call, models = importlib.import_module(name), importlib.import_module(f"{python_client}.models")
    client = importlib.import_module(python_client).AuthenticatedClient(base_url=server.url, token=caller.key)
    response = call.sync_detailed(before["id"], client=client, body=models.AccountChanges(weekly_digest=False))
    assert response.status_code == 200, response.content
    after = caller.request("GET", f"/v1/accounts/{before['id']}")
    assert changed_fields(before, after) == {"weeklyDigest": False}


def test_a_python_client_retries_by_a_filter(server: Server, python_client: str) -> None:
    """It tells the three kinds of responses apart."""
    caller = Caller(server, server.api.acme.key)
    name = f"{python_client}.api.deliveries.retry_deliveries"
    call, models = importlib.import_module(name), importlib.import_module(f"{python_client}.models")
    client = importlib.import_module(python_client).AuthenticatedClient(base_url=server.url, token=caller.key)
    only_dead = models.RetryFilter(state=models.State("dead"))
    responses = [
        call.sync_detailed(client=client, body=models.DeliveryChoice(filter_=only_dead, count_only=True)),
        call.sync_detailed(client=client, body=models.DeliveryChoice(filter_=only_dead)),
        call.sync_detailed(client=client, body=models.DeliveryChoice(ids=["of_nobody"])),
    ]
    assert [response.status_code for response in responses] == [200, 202, 200]
    counted, job, affected = [response.parsed for response in responses]
    assert (type(counted).__name__, counted.at_least) == ("DeliveryCount", False)
    assert (type(job).__name__, str(job.kind)) == ("JobDetails", "retry")
    assert (type(affected).__name__, affected.unknown) == ("AffectedDeliveries", ["of_nobody"])


# -- TypeScript ------------------------------------------------------------------------------------------------


@pytest.mark.real
@pytest.mark.skipif(not parts.clients() and not parts.in_ci(), reason="the TypeScript client generator is missing")
def test_a_typescript_client_changes_one_field_of_a_webhook(server: Server, openapi_file: Path) -> None:
    programs = parts.CLIENTS / "node_modules" / ".bin"
    folder = openapi_file.parent / "typescript"
    folder.mkdir()
    (folder / "node_modules").symlink_to(parts.CLIENTS / "node_modules")
    run(programs / "openapi-ts", "-i", openapi_file, "-o", folder / "client", folder=folder)
    (folder / "change.ts").write_text(CHANGE_WEBHOOK)
    (folder / "tsconfig.json").write_text(json.dumps(COMPILE))
    run(programs / "tsc", folder=folder)
    caller = Caller(server, server.api.acme.key)
    before = caller.request("POST", "/v1/webhooks", WEBHOOK)
    output = run("node", folder / "made" / "change.js", server.url, caller.key, before["id"], folder=folder)
    assert changed_fields(before, json.loads(output)) == {"description": "after"}


def run(*command: str | Path, folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# -- openapi.json ------------------------------------------------------------------------------------------

CHANGES = [accounts.AccountChanges, access.UserChanges, webhooks.WebhookChanges]


@pytest.mark.parametrize("model", CHANGES)
def test_no_field_of_a_change_has_a_default(model: type[Changes]) -> None:
    schema = model.model_json_schema()
    assert "default" not in json.dumps(schema["properties"])
    assert "required" not in schema


async def test_every_patch_body_is_a_changes_model(api: ApiFixture) -> None:
    schema = (await api.anonymous.request("GET", "/openapi.json")).json()
    bodies = [
        operations["patch"]["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        for operations in schema["paths"].values()
        if "patch" in operations
    ]
    assert sorted(bodies) == sorted(model.__name__ for model in CHANGES)


async def test_an_example_is_never_a_default(api: ApiFixture) -> None:
    schema = (await api.anonymous.request("GET", "/openapi.json")).json()
    for name, model in schema["components"]["schemas"].items():
        for field, details in model.get("properties", {}).items():
            if "default" in details and details["default"] is not None:
                assert details["default"] not in details.get("examples", []), f"{name}.{field}"
