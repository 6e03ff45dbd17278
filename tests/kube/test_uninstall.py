"""A release is removed and installed again while events flow."""

import pytest

from kube.documented import command
from kube.loaded import LoadedRelease
from kube.release import NAMESPACE

pytestmark = pytest.mark.kube

KINDS = "all,configmap,serviceaccount,poddisruptionbudget"
# Kubernetes makes these in each namespace.
OF_THE_NAMESPACE = ["configmap/kube-root-ca.crt", "serviceaccount/default"]


def test_a_new_installation_continues(loaded: LoadedRelease) -> None:
    release = loaded.release
    with loaded.under_load("`helm uninstall`, then `helm install`", name="reinstall") as reinstalled:
        release.kubectl.shell(f"{command('helm uninstall')} --wait")
        release.install(**{"image.tag": "new"})
    assert reinstalled.repeated == 0
    assert reinstalled.bad_ends() == []


def test_an_uninstallation_leaves_what_the_document_says(loaded: LoadedRelease) -> None:
    kubectl = loaded.release.kubectl
    kubectl.shell(f"{command('helm uninstall')} --wait")
    kubectl.shell(command("kubectl delete configmap"))
    left = kubectl.run("get", KINDS, "--namespace", NAMESPACE, "--output", "name").split()
    assert left == OF_THE_NAMESPACE
    assert kubectl.succeeds("get", "secret", "webhooks-keys", "--namespace", NAMESPACE)
