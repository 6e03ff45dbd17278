"""Whatever a client sends, the API answers as it says it does: no 5xx, no answer that its description does not have."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

import parts
from rest.api_fixture import OPERATOR_KEY
from rest.server import Server
from rest.test_permissions import NEEDS

pytestmark = pytest.mark.e2e

# What JSON Schema cannot say (a type of event, an address that is not public) is refused although it fits the schema.
TOO_STRICT = [positive_data_acceptance]
QUIET = list(HealthCheck)


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
    described = httpx.get(f"{server.url}/openapi.json").json()
    # Every request of the fuzzer has a key that permits it: what happens without is told in test_permissions.
    del described["components"]["securitySchemes"]
    for operations in described["paths"].values():
        for operation in operations.values():
            del operation["security"]
    schema = schemathesis.openapi.from_dict(described)
    schema.config.update(base_url=server.url)
    return schema


def key_of(server: Server, path: str) -> str:
    if path.startswith(("/v1/accounts", "/v1/audit")):
        return OPERATOR_KEY
    key = server.api.acme.key
    assert key is not None
    return key


# In CI the examples are the same each time; elsewhere they are new ones, for whoever works on this to find out.
SAME_EXAMPLES = parts.in_ci()
# They take nothing: nothing can be wrong.
PLAIN = {"GET /v1/event-types", "GET /v1/accounts"}
CASES = [(route, mode) for route in NEEDS for mode in GenerationMode if mode.is_positive or route not in PLAIN]


@pytest.mark.parametrize(("route", "mode"), CASES)
def test_an_operation_answers_anything_as_it_is_described(
    route: str, mode: GenerationMode, description: Any, server: Server
) -> None:
    method, path = route.split(" ")
    cases = description[path][method].as_strategy(generation_mode=mode)

    @settings(
        max_examples=25,
        deadline=None,
        derandomize=SAME_EXAMPLES,
        suppress_health_check=QUIET,
        phases=[Phase.explicit, Phase.generate],
    )
    @given(case=cases)
    def responses(case: Any) -> None:
        # What is no HTTP never comes to us.
        assume("transfer-encoding" not in {name.lower() for name in case.headers or ()})
        case.call_and_validate(headers={"Authorization": f"Bearer {key_of(server, path)}"}, excluded_checks=TOO_STRICT)

    responses()


def test_sequences_of_operations_match_the_openapi_description(description: Any, server: Server) -> None:
    class Machine(description.as_state_machine()):  # type: ignore[misc]
        def get_call_kwargs(self, case: Any) -> dict[str, Any]:
            return {"headers": {"Authorization": f"Bearer {key_of(server, case.path)}"}}

        def validate_response(self, response: Any, case: Any, additional_checks: Any = None, **more: Any) -> None:
            case.validate_response(response, additional_checks=additional_checks, excluded_checks=TOO_STRICT)

    Machine.run(
        settings=settings(
            max_examples=30,
            stateful_step_count=8,
            deadline=None,
            derandomize=SAME_EXAMPLES,
            suppress_health_check=QUIET,
            phases=[Phase.generate],
        )
    )
