"""What all routes share: request ids, limits, idempotency, and errors without secrets."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from api.app import create_app
from api.services import Services
from api.shell.branding import Site
from rest.api_fixture import URL, ApiClient, ApiFixture, errors_of, open_api
from streams.adapters.sql.tables.accounts import idempotency_keys
from streams.core.errors import Misconfigured, Unavailable
from streams.core.limits import MAX_ID_CHARACTERS, MAX_SCOPE_IDS
from streams.core.queues.rate import RateLimits
from streams.features.shared.idempotency import SqlIdempotencyStore
from streams.features.webhooks.service import WebhookService

pytestmark = pytest.mark.slow


async def test_every_response_has_the_requests_id_or_a_new_one(api: ApiFixture) -> None:
    mine = await api.acme.request("GET", "/v1/webhooks", headers={"X-Request-Id": "mine-1"})
    assert mine.headers["x-request-id"] == "mine-1"
    for given in ("", "x" * 200, "a b"):
        response = await api.anonymous.request("GET", "/v1/webhooks", headers={"X-Request-Id": given})
        assert response.headers["x-request-id"].startswith("req_")
        assert response.json()["requestId"] == response.headers["x-request-id"]


async def test_an_error_is_a_problem_with_type_title_and_status(api: ApiFixture) -> None:
    for method, path, status, name in (
        ("GET", "/v1/nothing", 404, "not-found"),
        ("PUT", "/v1/webhooks", 405, "method-not-allowed"),
        ("GET", "/v1/webhooks/wh_unknown", 404, "not-found"),
    ):
        response = await api.acme.request(method, path)
        assert response.status_code == status
        assert response.headers["content-type"] == "application/problem+json"
        assert {"type": f"/docs/problems#{name}", "status": status}.items() <= response.json().items()


async def test_errors_of_values_are_in_our_words(api: ApiFixture) -> None:
    body = b'{"packageId": "p", "learnerId": "", "known": {"scoreRaw": NaN}}'
    response = await api.acme.request(
        "POST", "/v1/sessions", content=body, headers={"Content-Type": "application/json"}
    )
    assert errors_of(response) == {
        "learnerId": "must have 1 or more characters",
        "known.scoreRaw": "must be a finite number",
    }


@pytest.mark.parametrize("path", ["/v1/webhooks", "/v1/events"])
async def test_a_body_that_is_not_json_says_where(api: ApiFixture, path: str) -> None:
    torn = await api.acme.request("POST", path, content=b'{"url": ', headers={"Content-Type": "application/json"})
    problem = torn.json()
    assert (torn.status_code, problem["title"]) == (400, "The body is not JSON")
    assert problem["detail"] == "Expecting value at character 8"


async def test_a_parameter_that_comes_twice_is_refused(api: ApiFixture) -> None:
    response = await api.acme.request("GET", "/v1/deliveries?metadata=a=b&metadata=c=d&state=dead&state=held")
    assert errors_of(response) == {"metadata": "may occur once", "state": "may occur once"}


async def test_an_unknown_parameter_is_refused(api: ApiFixture) -> None:
    response = await api.acme.request("GET", "/v1/deliveries?stat=dead&state=dead")
    assert response.status_code == 422
    assert errors_of(response)["stat"].startswith("is not a parameter here; the parameters are cursor, dispatchId, ")
    assert "none" in errors_of(await api.acme.request("GET", "/v1/webhooks/wh_1?x=1"))["x"]
    assert (await api.anonymous.request("GET", "/v1/deliveries?stat=dead")).status_code == 401


async def test_a_body_over_1_mib_is_refused(api: ApiFixture) -> None:
    async def chunks() -> Any:
        for _ in range(20):
            yield b" " * 65536

    announced = await api.acme.request("POST", "/v1/webhooks", {"url": URL, "description": "x" * 1024 * 1024})
    streamed = await api.acme.request("POST", "/v1/webhooks", content=chunks())
    for response in (announced, streamed):
        assert (response.status_code, response.json()["type"]) == (413, "/docs/problems#too-large")


async def test_a_rate_limited_key_learns_how_long_to_wait(tmp_path: Path) -> None:
    async with open_api(f"sqlite:///{tmp_path}/db.sqlite", requests_a_minute=3) as api:
        responses = [await api.acme.request("GET", "/v1/webhooks") for _ in range(4)]
        assert [response.status_code for response in responses] == [200, 200, 200, 429]
        assert [response.headers["ratelimit-remaining"] for response in responses] == ["2", "1", "0", "0"]
        assert responses[0].headers["ratelimit-limit"] == "3, 3;w=60"
        assert 0 < int(responses[3].headers["retry-after"]) <= 20
        assert (await api.globex.request("GET", "/v1/webhooks")).status_code == 200


async def test_all_keys_of_an_account_share_its_limit(tmp_path: Path) -> None:
    async with open_api(f"sqlite:///{tmp_path}/db.sqlite", requests_a_minute=3) as api:
        keys = [await api.with_scopes(api.acme.account_id, "webhooks:read") for _ in range(4)]
        statuses = [(await key.request("GET", "/v1/webhooks")).status_code for key in keys]
        assert statuses == [200, 200, 200, 429]
        assert (await api.globex.request("GET", "/v1/webhooks")).status_code == 200
        assert (await api.operator.request("GET", "/v1/accounts")).status_code == 200


async def test_a_repeated_idempotency_key_acts_once(api: ApiFixture) -> None:
    headers = {"Idempotency-Key": "register-crm"}
    first = await api.acme.request("POST", "/v1/webhooks", {"url": URL}, headers=headers)
    again = await api.acme.request("POST", "/v1/webhooks", {"url": URL}, headers=headers)
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["idempotent-replayed"] == "true"
    assert (again.headers["etag"], again.headers["location"]) == (first.headers["etag"], first.headers["location"])
    assert len((await api.acme.get("/v1/webhooks"))["data"]) == 1
    other = await api.acme.request("POST", "/v1/webhooks", {"url": f"{URL}/2"}, headers=headers)
    assert "another request" in errors_of(other)["Idempotency-Key"]
    elsewhere = await api.globex.request("POST", "/v1/webhooks", {"url": URL}, headers=headers)
    assert elsewhere.json()["id"] != first.json()["id"]
    assert "Idempotency-Key" in errors_of(
        await api.acme.request("POST", "/v1/webhooks", {"url": URL}, headers={"Idempotency-Key": "x" * 256})
    )


async def stored_bytes(api: ApiFixture) -> list[int]:
    async with api.database.read_transaction() as connection:
        return [len(row.encrypted_response) for row in await connection.execute(select(idempotency_keys))]


async def test_a_large_response_is_not_stored(api: ApiFixture) -> None:
    headers = {"Idempotency-Key": "register-crm"}
    wide = {"url": URL, "packages": [f"{number:p>{MAX_ID_CHARACTERS}}" for number in range(MAX_SCOPE_IDS)]}
    first = await api.acme.request("POST", "/v1/webhooks", wide, headers=headers)
    again = await api.acme.request("POST", "/v1/webhooks", wide, headers=headers)
    assert (first.status_code, again.status_code) == (201, 409)
    assert "was done, with status 201" in again.json()["detail"]
    assert first.headers["location"] in again.json()["detail"]
    assert len((await api.acme.get("/v1/webhooks"))["data"]) == 1
    [size] = await stored_bytes(api)
    assert size < 1000


async def test_an_account_stores_a_limited_size_of_responses(api: ApiFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.app.state, "stored_responses", RateLimits(1000, 86_400))

    async def register(client: ApiClient, key: object) -> int:
        headers = {"Idempotency-Key": f"{key}"}
        return (await client.request("POST", "/v1/webhooks", {"url": URL}, headers=headers)).status_code

    assert [await register(api.acme, key) for key in (1, 1, 2, 3, 4, 5, 5)] == [201] * 6 + [409]
    assert [await register(api.globex, key) for key in (1, 1)] == [201, 201]


async def test_a_concurrent_repeat_has_to_wait(api: ApiFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, going, register = asyncio.Event(), asyncio.Event(), WebhookService.register

    async def slowly(self: WebhookService, *args: Any, **more: Any) -> Any:
        begun.set()
        await going.wait()
        return await register(self, *args, **more)

    monkeypatch.setattr(WebhookService, "register", slowly)
    headers = {"Idempotency-Key": "register-crm"}
    first = asyncio.create_task(api.acme.request("POST", "/v1/webhooks", {"url": URL}, headers=headers))
    await asyncio.wait_for(begun.wait(), 5)
    second = await api.acme.request("POST", "/v1/webhooks", {"url": URL}, headers=headers)
    assert (second.status_code, "in progress" in second.json()["detail"]) == (409, True)
    going.set()
    assert (await first).status_code == 201


async def test_a_response_that_cannot_be_stored_is_still_sent(api: ApiFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*args: object) -> None:
        raise Unavailable("the database is away")

    monkeypatch.setattr(SqlIdempotencyStore, "finish", away)
    response = await api.acme.request("POST", "/v1/webhooks", {"url": URL}, headers={"Idempotency-Key": "register-crm"})
    assert (response.status_code, "secret" in response.json()) == (201, True)
    assert "response_not_stored" in [event for event, _ in api.telemetry.logged]


async def test_failed_requests_can_be_repeated(api: ApiFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    headers = {"Idempotency-Key": "register-crm"}
    bad = await api.acme.request("POST", "/v1/webhooks", {"url": "http://x.example.com"}, headers=headers)
    assert bad.status_code == 422
    services = api.app.state.services
    key = (await api.operator.get(f"/v1/accounts/{api.acme.account_id}/keys"))[0]["id"]
    await services.responses.begin(f"key:{key}", "register-lrs", "the same or not", api.clock.now())
    api.clock.advance(61)
    begun_again = await api.acme.request(
        "POST", "/v1/webhooks", {"url": URL}, headers={"Idempotency-Key": "register-lrs"}
    )
    assert begun_again.status_code == 201
    assert (await api.acme.request("POST", "/v1/webhooks", {"url": URL}, headers=headers)).status_code == 201


async def test_a_wrong_setting_is_named_in_the_log_alone(api: ApiFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(*args: object, **more: object) -> None:
        raise Misconfigured("SCHEMA_REGISTRY_URL: the registry rejects our schema")

    monkeypatch.setattr(WebhookService, "page", refused)
    response = await api.acme.request("GET", "/v1/webhooks")
    assert (response.status_code, response.json()["type"]) == (500, "/docs/problems#misconfigured")
    assert "registry" not in response.text
    [fields] = [ids for event, ids in api.telemetry.logged if event == "request_misconfigured"]
    assert fields["why"] == "SCHEMA_REGISTRY_URL: the registry rejects our schema"
    assert fields["request_id"] == response.headers["x-request-id"]


async def test_a_500_shows_nothing_but_the_request_id(api: ApiFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*args: object, **more: object) -> None:
        raise RuntimeError("canary: what a customer sent")

    monkeypatch.setattr(WebhookService, "page", broken)
    response = await api.acme.request("GET", "/v1/webhooks")
    assert (response.status_code, response.json()["type"]) == (500, "/docs/problems#broken")
    assert "canary" not in response.text
    assert "canary" not in str(api.telemetry.logged)
    [fields] = [ids for event, ids in api.telemetry.logged if event == "request_crashed"]
    assert (fields["error"], fields["request_id"]) == ("RuntimeError", response.headers["x-request-id"])


async def test_a_database_outage_is_503_without_details(api: ApiFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*args: object, **more: object) -> None:
        raise Unavailable("connection to 10.0.0.5 refused")

    monkeypatch.setattr(WebhookService, "page", away)
    response = await api.acme.request("GET", "/v1/webhooks")
    assert (response.status_code, response.headers["retry-after"]) == (503, "5")
    assert "10.0.0.5" not in response.text


async def test_every_request_is_logged_without_ids_or_keys(api: ApiFixture) -> None:
    await api.acme.request("GET", "/v1/webhooks/wh_unknown")
    [line] = [ids for event, ids in api.telemetry.logged if event == "request_handled"]
    assert (line["route"], line["status"]) == ("/v1/webhooks/{webhook_id}", 404)
    assert str(line["by"]).startswith("key:")
    assert api.acme.key
    assert api.acme.key not in str(api.telemetry.logged)
    assert api.telemetry.counts["api_requests_total"] == 1
    assert len(api.telemetry.observed["api_request_seconds"]) == 1


async def test_probes_need_no_key_and_metrics_are_elsewhere(api: ApiFixture) -> None:
    assert (await api.anonymous.request("GET", "/healthz")).text == "ok\n"
    assert (await api.anonymous.request("GET", "/readyz")).text == "ready\n"
    assert (await api.anonymous.request("GET", "/metrics")).status_code == 404
    api.readiness_problems.append("Kafka does not answer: kafka-1.internal:9092 refused")
    response = await api.anonymous.request("GET", "/readyz")
    assert (response.status_code, response.text) == (503, "Kafka does not answer\n")


async def test_the_documentation_loads_nothing_from_elsewhere(api: ApiFixture) -> None:
    page = await api.anonymous.request("GET", "/docs/api/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "http" not in page.text.replace("http-equiv", "")
    for path in (
        "/docs/api/swagger-ui.css",
        "/docs/api/swagger-ui-bundle.js",
        "/docs/api/start.js",
        "/openapi.json",
    ):
        assert path in page.text or path in (await api.anonymous.request("GET", "/docs/api/start.js")).text
        assert (await api.anonymous.request("GET", path)).status_code == 200


async def test_a_body_that_is_not_json_is_refused_everywhere(api: ApiFixture) -> None:
    for path in ("/v1/webhooks", "/v1/sessions", "/v1/events"):
        response = await api.acme.request("POST", path, content=b"{}", headers={"Content-Type": "text/plain"})
        assert (response.status_code, response.json()["type"]) == (415, "/docs/problems#not-json"), path


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ({"url": 5}, "url", "must be a text"),
        ({"url": URL, "events": "all"}, "events", "must be a list"),
        ({"url": URL, "headers": []}, "headers", "must be an object"),
        ({"url": URL, "maxConcurrency": 1.5}, "maxConcurrency", "must be a whole number"),
        ({"url": URL, "maxConcurrency": 257}, "maxConcurrency", "must be at most 256"),
        ({"url": URL, "description": "x" * 5000}, "description", "must have at most 500 characters"),
    ],
)
async def test_a_wrong_type_is_named_in_our_words(
    api: ApiFixture, body: dict[str, Any], field: str, message: str
) -> None:
    assert errors_of(await api.acme.request("POST", "/v1/webhooks", body))[field] == message


async def test_each_operation_has_an_id_for_clients(api: ApiFixture) -> None:
    schema = (await api.anonymous.request("GET", "/openapi.json")).json()
    ids = [one["operationId"] for operations in schema["paths"].values() for one in operations.values()]
    assert len({*ids}) == len(ids)
    assert [one for one in ids if not re.fullmatch(r"[a-z]+([A-Z][a-z]+)*", one)] == []


def test_openapi_names_the_public_address() -> None:
    app = create_app(Services.__new__(Services), "0", 1, Site(origin="https://hooks.example.com"))
    assert app.openapi()["servers"] == [{"url": "https://hooks.example.com"}]


async def test_openapi_names_the_permission_of_each_operation(api: ApiFixture) -> None:
    schema = (await api.anonymous.request("GET", "/openapi.json")).json()
    assert schema["openapi"].startswith("3.1")
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"], f"{method} {path}"
            if path == "/runtime/commit/{token}":  # its path is its credential
                continue
            [security] = operation["security"]
            # Any key may ask for its account.
            assert security["apiKey"] or path == "/v1/account", f"{method} {path}"
            assert {"401", "403", "422"} <= operation["responses"].keys()
            assert operation["responses"]["422"] == {"$ref": "#/components/responses/Problem422"}
