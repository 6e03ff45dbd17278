"""The small profile goes through the same, and kubectl applies what helm renders."""

from collections.abc import Iterator
from functools import partial

import pytest

from e2e.system import until
from kube.documented import command
from kube.loaded import READY_SECONDS, LoadedRelease
from kube.node import NODE, Node
from kube.release import NAMESPACE, SMALL, Release, stage_of
from kube.test_drain import DRAIN_STAGES
from kube.test_kill import all_have_restarted
from kube.test_upgrade import CHANGED_SETTING

pytestmark = pytest.mark.kube


@pytest.fixture(scope="module")
def small(loaded: LoadedRelease) -> Iterator[LoadedRelease]:
    """The deployment of before, in five processes: topics, tables and Secrets are still there."""
    before, release = loaded.release, Release(loaded.release.kubectl, is_small=True)
    loaded.release = release
    release.upgrade("--install")
    yield loaded
    loaded.release = before


def test_the_small_profile_is_ready(small: LoadedRelease) -> None:
    assert "ready" in small.release.test()
    until(small.is_quiet, READY_SECONDS, "the pods of before are gone", every=0.5)
    assert sorted(map(stage_of, small.release.pods())) == sorted(SMALL)


def test_kubectl_finds_what_helm_has_installed(small: LoadedRelease) -> None:
    # With the cluster, whose Secrets are in the checksums. `diff` ends with 1 where something differs.
    rendered = small.release.render("--no-hooks", "--dry-run=server")
    differ = ["diff", "--server-side", "--force-conflicts", "--filename", "-"]
    done = small.release.kubectl.attempt("kubectl", *differ, stdin=rendered)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_an_upgrade_of_the_small_profile_loses_nothing(small: LoadedRelease) -> None:
    with small.under_load("the small profile: `helm upgrade`", name="small-upgrade") as upgrade:
        small.release.upgrade(**CHANGED_SETTING)
    assert upgrade.unexplained() == 0
    assert upgrade.bad_ends() == []
    assert len(upgrade.ends) == len(SMALL)


def test_killed_processes_of_the_small_profile_lose_nothing(node: Node, small: LoadedRelease) -> None:
    with small.under_load("each of its processes killed (`kill -9`)", name="small-kill") as kills:
        for pod in small.release.pods():
            with kills.doubt():
                node.kill(pod)
        until(partial(all_have_restarted, small.release), READY_SECONDS, "every process starts again", every=0.5)
        small.wait_until_ready()
    assert kills.repeated <= kills.allowed


def test_a_drain_of_the_small_profile_loses_nothing(small: LoadedRelease) -> None:
    with small.under_load("`kubectl drain` of it", name="small-drain") as drain:
        small.release.kubectl.run(*DRAIN_STAGES)
        small.release.kubectl.run("uncordon", NODE)
        small.wait_until_ready()
    assert drain.unexplained() == 0
    assert drain.bad_ends() == []
    assert len(drain.ends) == len(SMALL)


def test_what_helm_renders_is_installed_by_kubectl(small: LoadedRelease) -> None:
    kubectl = small.release.kubectl
    kubectl.shell(f"{command('helm uninstall')} --wait")
    kubectl.run("apply", "--namespace", NAMESPACE, "--filename", "-", stdin=small.release.render())
    small.wait_until_ready()
    with small.under_load("`helm template` and `kubectl apply` in place of `helm install`", name="applied") as applied:
        small.wait_until_ready()
    assert applied.unexplained() == 0
    kubectl.run("delete", "--namespace", NAMESPACE, "--filename", "-", "--wait", stdin=small.release.render())
