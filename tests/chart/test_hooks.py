"""Jobs prepare Kafka and the database before each install and upgrade; `helm test` says whether all is ready."""

import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from chart.rendering import FULLNAME, STAGES, Resource, at, merged, render, variables_of
from chart_files import CHART

BEFORE = "pre-install,pre-upgrade"


def annotations(resource: Resource) -> dict[str, str]:
    return dict(resource["metadata"]["annotations"])


def weight(resource: Resource) -> int:
    return int(annotations(resource)["helm.sh/hook-weight"])


@pytest.mark.parametrize(
    ("name", "command"), [("topics-apply", ["topics", "apply"]), ("db-upgrade", ["db", "upgrade"])]
)
def test_a_job_runs_before_install_and_upgrade(name: str, command: list[str]) -> None:
    job = render().find("Job", name)
    assert annotations(job)["helm.sh/hook"] == BEFORE
    # One that failed stays with its log, and does not block the next try.
    assert annotations(job)["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded"
    [container] = job["spec"]["template"]["spec"]["containers"]
    assert container["args"] == command
    assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never"


def test_what_a_job_needs_exists_before_it() -> None:
    rendered = render(at("networkPolicy.enabled", True))
    account = rendered.find("ServiceAccount", "hooks")
    policies = [rendered.find("NetworkPolicy", name) for name in ("topics-apply", "db-upgrade")]
    jobs = rendered.of_kind("Job")
    for before in (account, *policies):
        assert annotations(before)["helm.sh/hook"] == BEFORE
        assert weight(before) < min(weight(job) for job in jobs)
    # A ConfigMap of the release does not exist yet at an install.
    assert all("envFrom" not in job["spec"]["template"]["spec"]["containers"][0] for job in jobs)


def test_a_job_has_the_settings_of_the_stages() -> None:
    [container] = render().find("Job", "topics-apply")["spec"]["template"]["spec"]["containers"]
    [config] = render().of_kind("ConfigMap")
    assert variables_of(container) == config["data"]


def test_a_job_gets_only_the_secrets_that_it_needs() -> None:
    values = at("kafka.sasl", {"enabled": True, "existingSecret": "kafka"})
    found = {job["metadata"]["name"]: job for job in render(values).of_kind("Job")}
    secrets = {
        name: {
            value
            for variable, value in variables_of(job["spec"]["template"]["spec"]["containers"][0]).items()
            if "/" in value and variable != "SCORM_WEBHOOKS_USER_AGENT"
        }
        for name, job in found.items()
    }
    assert secrets == {
        f"{FULLNAME}-topics-apply": {"kafka/username", "kafka/password"},
        f"{FULLNAME}-db-upgrade": {"webhooks-database/url"},
    }


def test_only_the_migration_has_the_owner_of_the_tables() -> None:
    rendered = render(at("database", {"owner": {"existingSecret": "owner", "key": "uri"}, "grantTo": "stages"}))
    [container] = rendered.find("Job", "db-upgrade")["spec"]["template"]["spec"]["containers"]
    assert variables_of(container)["DATABASE_URL"] == "owner/uri"
    assert container["args"] == ["db", "upgrade", "--grant-to", "stages"]
    for stage in ("deliver", "record", "publish", "maintain", "meter", "notify", "api"):
        assert rendered.variables(stage)["DATABASE_URL"] == "webhooks-database/url", stage


def test_a_job_can_be_left_to_you() -> None:
    values = merged(at("topics.managedBy", "nobody"), at("database.upgrade", False))
    left = render(merged(values, at("networkPolicy.enabled", True)))
    hooks = [one for one in left.resources if one["metadata"].get("annotations", {}).get("helm.sh/hook") == BEFORE]
    assert [one["metadata"]["name"] for one in hooks] == []


def test_a_job_ends_in_time() -> None:
    values = at("jobs", {"backoffLimit": 1, "activeDeadlineSeconds": 60, "resources": {"requests": {"cpu": "1"}}})
    for job in render(values).of_kind("Job"):
        assert (job["spec"]["backoffLimit"], job["spec"]["activeDeadlineSeconds"]) == (1, 60)
        assert job["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"] == "1"


def test_the_release_test_asks_every_stage_through_its_service() -> None:
    [pod] = render().of_kind("Pod")
    assert annotations(pod)["helm.sh/hook"] == "test"
    urls = pod["spec"]["containers"][0]["args"][1:]
    probes = {f"http://{FULLNAME}-{stage}:9090/readyz" for stage in STAGES.values() if stage != "api"}
    assert set(urls) == probes | {f"http://{FULLNAME}-api-metrics:9090/readyz", f"http://{FULLNAME}-api:80/readyz"}
    services = {service["metadata"]["name"] for service in render().of_kind("Service")}
    assert {url.split("/")[2].split(":")[0] for url in urls} == services


def test_the_release_test_skips_a_stage_without_processes() -> None:
    [pod] = render(merged(at("stages.meter.replicas", 0), at("stages.notify.enabled", False))).of_kind("Pod")
    assert not [url for url in pod["spec"]["containers"][0]["args"][1:] if "meter" in url or "notify" in url]


class Probe(BaseHTTPRequestHandler):
    """Ready at the second request."""

    requests = 0

    def do_GET(self) -> None:
        Probe.requests += 1
        self.send_response(200 if Probe.requests > 1 else 503)
        self.end_headers()
        self.wfile.write(b"ready" if Probe.requests > 1 else b"missing topics: deliveries")

    def log_message(self, format: str, *arguments: object) -> None:
        pass


def run_the_test(url: str, seconds: int) -> "subprocess.CompletedProcess[str]":
    script = (CHART / "files" / "test_ready.py").read_text().replace("+ 120", f"+ {seconds}")
    return subprocess.run([sys.executable, "-c", script, url], capture_output=True, text=True, timeout=60, check=False)


def test_the_script_of_the_release_test_waits_and_says_why() -> None:
    with HTTPServer(("127.0.0.1", 0), Probe) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/readyz"
        Probe.requests = 0
        late = run_the_test(url, 0)
        assert (late.returncode, late.stdout) == (1, f"{url}: 503: missing topics: deliveries\n")
        Probe.requests = 0
        done = run_the_test(url, 60)
        assert (done.returncode, done.stdout) == (0, f"{url}: ready\n")
        server.shutdown()
