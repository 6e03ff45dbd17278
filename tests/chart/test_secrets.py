"""An upgrade restarts the processes whose Secrets have changed."""

from collections.abc import Iterator

import pytest

from chart.api_server import FakeApiServer, api_server
from chart.rendering import MINIMAL, STAGES, Rendered, parse, template


@pytest.fixture
def server() -> Iterator[FakeApiServer]:
    with api_server() as running:
        running.secrets = {"webhooks-database": "1", "webhooks-keys": "1"}
        yield running


def rendered_on(server: FakeApiServer) -> Rendered:
    options = ["--dry-run=server", "--disable-openapi-validation", "--kube-apiserver", server.url]
    done = template(MINIMAL, *options)
    assert done.returncode == 0, done.stderr
    return parse(done.stdout)


def changed(before: Rendered, after: Rendered) -> set[str]:
    """The stages whose pods an upgrade replaces."""
    return {stage for stage in STAGES.values() if before.pod(stage) != after.pod(stage)}


@pytest.mark.parametrize(
    ("secret", "without"), [("webhooks-keys", {"fan-out", "meter"}), ("webhooks-database", {"fan-out"})]
)
def test_a_new_secret_restarts_the_stages_that_have_it(server: FakeApiServer, secret: str, without: set[str]) -> None:
    before = rendered_on(server)
    server.secrets[secret] = "2"
    assert changed(before, rendered_on(server)) == set(STAGES.values()) - without


def test_the_same_secrets_restart_nothing(server: FakeApiServer) -> None:
    assert changed(rendered_on(server), rendered_on(server)) == set()


def test_a_missing_secret_does_not_stop_the_rendering(server: FakeApiServer) -> None:
    server.secrets.clear()
    assert rendered_on(server).of_kind("Deployment")
