"""Whatever a client sends, the API answers as it says it does: no 5xx, no answer that its description does not have."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings

from rest.office import OPERATOR_KEY
from rest.server import Server

pytestmark = pytest.mark.e2e

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
    return schemathesis.openapi.from_url(f"{server.url}/openapi.json")


schema = schemathesis.pytest.from_fixture("description")


def key_of(server: Server, path: str) -> str:
    if path.startswith(("/v1/accounts", "/v1/audit")):
        return OPERATOR_KEY
    key = server.office.acme.key
    assert key is not None
    return key


@schema.parametrize()
@settings(max_examples=25, deadline=None, suppress_health_check=QUIET, phases=[Phase.explicit, Phase.generate])
def test_an_operation_answers_anything_as_it_is_described(case: Any, server: Server) -> None:
    case.call_and_validate(headers={"Authorization": f"Bearer {key_of(server, case.path)}"})


def test_operations_one_after_another_answer_as_they_are_described(description: Any, server: Server) -> None:
    class Machine(description.as_state_machine()):  # type: ignore[misc]
        def get_call_kwargs(self, case: Any) -> dict[str, Any]:
            return {"headers": {"Authorization": f"Bearer {key_of(server, case.path)}"}}

    Machine.run(
        settings=settings(
            max_examples=30, stateful_step_count=8, deadline=None, suppress_health_check=QUIET, phases=[Phase.generate]
        )
    )
