"""For any request the API responds as openapi.json says, and never with 5xx."""

import contextlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis.errors import FlakyStrategyDefinition
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

import parts
from rest.api_fixture import OPERATOR_KEY
from rest.server import Server
from rest.test_permissions import NEEDS

pytestmark = pytest.mark.e2e

# JSON Schema cannot express some rules (event types, public addresses): such requests fit it and are refused.
TOO_STRICT = [positive_data_acceptance]
QUIET = list(HealthCheck)
# Of sequences of operations.
MIN_RESPONSES, MAX_RUNS = 50, 5


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.real)])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('fuzz')}/db.sqlite"
    else:
        url = request.getfixturevalue("postgres").url()
    server = Server(url)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def description(server: Server) -> Any:
    openapi = httpx.get(f"{server.url}/openapi.json").json()
    # Each request has a key with the right scope; test_permissions.py is about the others.
    del openapi["components"]["securitySchemes"]
    for operations in openapi["paths"].values():
        for operation in operations.values():
            operation.pop("security", None)
    schema = schemathesis.openapi.from_dict(openapi)
    schema.config.update(base_url=server.url)
    return schema


def key_of(server: Server, path: str) -> str:
    if path.startswith(("/v1/accounts", "/v1/unknown-accounts", "/v1/audit")):
        return OPERATOR_KEY
    key = server.api.acme.key
    assert key is not None
    return key


# CI always uses the same examples; other runs use new ones.
SAME_EXAMPLES = parts.in_ci()
# Without parameters: no request to them is invalid.
PLAIN = {"GET /v1/event-types", "GET /v1/source-addresses", "GET /v1/account"}
CASES = [(route, mode) for route in NEEDS for mode in GenerationMode if mode.is_positive or route not in PLAIN]


@pytest.mark.parametrize(("route", "mode"), CASES)
def test_each_operation_responds_as_described(
    route: str, mode: GenerationMode, description: Any, server: Server
) -> None:
    method, path = route.split(" ")
    cases = description[path][method].as_strategy(generation_mode=mode)

    @settings(
        max_examples=15,
        deadline=None,
        derandomize=SAME_EXAMPLES,
        suppress_health_check=QUIET,
        phases=[Phase.explicit, Phase.generate],
    )
    @given(case=cases)
    def responses(case: Any) -> None:
        # The server refuses such framing before the application.
        headers = {name.lower() for name in case.headers or ()}
        assume("transfer-encoding" not in headers)
        # A strange ETag gets 412, before the body is looked at.
        assume(mode.is_positive or "if-match" not in headers)
        case.call_and_validate(headers={"Authorization": f"Bearer {key_of(server, path)}"}, excluded_checks=TOO_STRICT)

    responses()


def test_sequences_of_operations_match_the_openapi_description(description: Any, server: Server) -> None:
    validated = 0

    class Machine(description.as_state_machine()):  # type: ignore[misc]
        def get_call_kwargs(self, case: Any) -> dict[str, Any]:
            return {"headers": {"Authorization": f"Bearer {key_of(server, case.path)}"}}

        def validate_response(self, response: Any, case: Any, additional_checks: Any = None, **more: Any) -> None:
            nonlocal validated
            case.validate_response(response, additional_checks=additional_checks, excluded_checks=TOO_STRICT)
            validated += 1

    rules = settings(
        max_examples=30,
        stateful_step_count=8,
        deadline=None,
        derandomize=SAME_EXAMPLES,
        suppress_health_check=QUIET,
        phases=[Phase.generate],
    )
    for _ in range(MAX_RUNS):
        # The generator repeats how a sequence began, but the server has changed since: no fault of either.
        with contextlib.suppress(FlakyStrategyDefinition):
            Machine.run(settings=rules)
        if validated >= MIN_RESPONSES:
            return
    raise AssertionError(f"only {validated} responses in {MAX_RUNS} runs")
