"""A new user comes by the platform's link, and has a verified event on a laptop without a public URL."""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page
from standardwebhooks import Webhook

from browser.running import Dashboard, running_dashboard
from e2e.system import until

pytestmark = pytest.mark.e2e

# What a person needs to read and to type is not in it: the machine's part must be small.
MAX_SECONDS = 60


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    with running_dashboard(tmp_path_factory.mktemp("terminal"), {}) as dashboard:
        yield dashboard


def test_a_link_of_the_platform_leads_to_a_verified_event(dashboard: Dashboard, page: Page, tmp_path: Path) -> None:
    receiver, acme = dashboard.receiver, dashboard.customer("Acme Learning")
    began_at = time.monotonic()

    # The platform's link signs the browser in.
    page.goto(f"/sign-in/{dashboard.portal_token(acme)}")
    page.get_by_role("button").first.click()

    # One page has the command.
    page.goto("/account")
    page.get_by_role("link", name="Connect a terminal").click()
    page.get_by_role("button", name="Make the command").click()
    variables, arguments = parse(page.locator("#command").inner_text())
    assert arguments[:2] == ["scorm-webhooks", "listen"]
    arguments[arguments.index("--forward-to") + 1] = receiver.url("/laptop")
    trigger_variables, trigger = parse(page.locator("#trigger").inner_text())
    assert (trigger_variables, trigger[:2]) == (variables, ["scorm-webhooks", "trigger"])

    # It runs, and a test event arrives with a right signature.
    environ = {**variables, "PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    program = [sys.executable, "-m", "streams"]
    listener = subprocess.Popen(
        [*program, *arguments[1:]], env=environ, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert listener.stderr
        assert "listening as webhook" in listener.stderr.readline()
        secret = listener.stderr.readline().split()[2]
        done = subprocess.run(
            [*program, *trigger[1:]],
            env=environ,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        until(lambda: bool(receiver.at("/laptop")), 30, "the test event")
        request = receiver.at("/laptop")[-1]
        event = Webhook(secret).verify(request.body, dict(request.headers))
        assert (event["test"], event["data"]["successStatus"]) == (True, "passed")
        assert time.monotonic() - began_at <= MAX_SECONDS
    finally:
        listener.terminate()
        listener.communicate(timeout=30)
    # The dashboard shows that terminals used their key, and nothing of the webhook is left.
    page.reload()
    assert acme.api.get("/v1/webhooks").json()["data"] == []


def parse(command: str) -> tuple[dict[str, str], list[str]]:
    """The variables and the arguments of a command of a shell."""
    words = shlex.split(command.replace("\\\n", " "))
    count = next(number for number, word in enumerate(words) if not word.startswith("SCORM_WEBHOOKS_"))
    return dict(word.split("=", 1) for word in words[:count]), words[count:]
