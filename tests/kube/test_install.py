"""The chart installs on a real cluster as its document and its notes say."""

import json
import re
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from e2e.system import until
from kube.documented import command
from kube.kubectl import Kubectl
from kube.release import COMMAND_OF_THE_NOTES, NAME, NAMESPACE, Release
from real.process import heed_ctrl_c

pytestmark = pytest.mark.kube

ANSWER_SECONDS = 30.0
PRIVILEGED = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "privileged", "namespace": NAMESPACE},
    "spec": {"containers": [{"name": "shell", "image": "any", "securityContext": {"privileged": True}}]},
}


def test_an_installation_is_ready(release: Release) -> None:
    assert "ready" in release.test()


def test_the_namespace_admits_restricted_pods_only(release: Release) -> None:
    refused = release.kubectl.attempt("kubectl", "apply", "--filename", "-", stdin=json.dumps(PRIVILEGED))
    assert 'violates PodSecurity "restricted' in refused.stderr


def test_every_command_of_the_notes_works(release: Release) -> None:
    notes = release.kubectl.helm("get", "notes", NAME, "--namespace", NAMESPACE)
    test, _, account, forward = re.findall(COMMAND_OF_THE_NOTES, notes, re.MULTILINE)
    assert "Succeeded" in release.kubectl.shell(test)
    assert "acc_" in release.kubectl.shell(account)
    with running(release.kubectl, forward):
        until(api_answers, ANSWER_SECONDS, "the API answers on port 8080")


def test_the_first_account_of_the_document_works(release: Release) -> None:
    assert "acc_" in release.kubectl.shell(command("kubectl exec"))
    with running(release.kubectl, command("kubectl port-forward")):
        until(api_answers, ANSWER_SECONDS, "the API answers on port 8080")


def test_the_chart_of_the_registry_names_its_image_by_digest(release: Release) -> None:
    for pod in release.pods():
        assert "/team/scorm-webhooks@sha256:" in pod["spec"]["containers"][0]["image"]


def test_an_upgrade_that_cannot_start_goes_back_by_itself(release: Release) -> None:
    with pytest.raises(AssertionError, match=r"(?i)upgrade.* failed|rolled back"):
        release.upgrade("--rollback-on-failure", "--timeout", "20s", **{"image.tag": "missing"})
    [status] = json.loads(release.kubectl.helm("list", "--namespace", NAMESPACE, "--output", "json"))
    assert status["status"] == "deployed"
    assert "ready" in release.test()


def test_a_failed_job_stays_with_its_log(release: Release) -> None:
    values = {"kafka.bootstrapServers": "nowhere:9092", "jobs.backoffLimit": 0}
    with pytest.raises(AssertionError, match="pre-upgrade"):
        release.upgrade(**values)
    log = release.kubectl.shell(command("kubectl logs --namespace webhooks job/"))
    assert "nowhere:9092" in log
    # The processes work on.
    assert "ready" in release.test()


@contextmanager
def running(kubectl: Kubectl, line: str) -> Iterator[None]:
    """A command that a person ends by Ctrl-C."""
    command = ["bash", "-c", f"exec {line}"]
    process = subprocess.Popen(command, env=kubectl.env, stdout=subprocess.DEVNULL, preexec_fn=heed_ctrl_c)
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def api_answers() -> bool:
    try:
        with urllib.request.urlopen("http://127.0.0.1:8080/docs", timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False
