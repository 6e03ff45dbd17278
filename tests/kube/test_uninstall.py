"""A release is removed and installed again while events flow."""

import pytest

from e2e.system import until
from kube.documented import command
from kube.kubectl import Kubectl
from kube.loaded import READY_SECONDS, LoadedRelease
from kube.release import NAMESPACE

pytestmark = pytest.mark.kube

KINDS = "all,configmap,serviceaccount,poddisruptionbudget"
# Kubernetes makes these in each namespace.
OF_THE_NAMESPACE = ["configmap/kube-root-ca.crt", "serviceaccount/default"]


def test_a_new_installation_continues(loaded: LoadedRelease) -> None:
    release = loaded.release
    with loaded.under_load("`helm uninstall`, then `helm install`", name="reinstall") as reinstalled:
        release.kubectl.shell(f"{command('helm uninstall')} --wait")
        release.install()
    assert reinstalled.unexplained() == 0
    assert reinstalled.bad_ends() == []


def test_an_uninstallation_leaves_what_the_document_says(loaded: LoadedRelease) -> None:
    kubectl = loaded.release.kubectl
    kubectl.shell(command("helm uninstall"))
    kubectl.shell(command("kubectl delete configmap"))
    until(lambda: names_of(kubectl, KINDS) == OF_THE_NAMESPACE, READY_SECONDS, "everything is gone", every=0.5)
    assert names_of(kubectl, "secret") == ["secret/webhooks-database", "secret/webhooks-keys"]


def names_of(kubectl: Kubectl, kinds: str) -> list[str]:
    return kubectl.run("get", kinds, "--namespace", NAMESPACE, "--output", "name").split()
