"""A Kubernetes of one node: the real programs, inside the namespaces that `kube.namespaces` makes."""

import secrets
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from string import Template
from typing import Any

import trustme
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

import parts
from e2e.system import until
from kube.images import STORES
from kube.kubectl import Kubectl
from kube.namespaces import NODE_ADDRESS
from real.process import Process

CONFIGS = Path(__file__).parent / "configs"
NODE = "node1"
READY_SECONDS = 120.0
SERVICE_ADDRESSES = "10.96.0.0/24"
API_SERVER_ADDRESS = "10.96.0.1"
ETCD, ETCD_PEER = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
CONTAINERD = "/run/containerd/containerd.sock"


class Node:
    """Runs from its creation, in `folder`. Its processes end with this one."""

    def __init__(self, folder: Path, images: Sequence[Path]) -> None:
        self._folder = folder
        self.kubectl = Kubectl(folder / "kubeconfig")
        self._write_configs()
        self._write_certificates()
        self._start("containerd", "--config", f"{folder}/containerd.toml")
        until(lambda: self._ctr("version") == 0, READY_SECONDS, "containerd responds")
        with ThreadPoolExecutor(1) as importing:
            imported = importing.submit(self._import, images)
            self._start_control_plane()
            imported.result()
        self._start_node()

    def is_ready(self) -> bool:
        return self.kubectl.succeeds("wait", f"node/{NODE}", "--for=condition=Ready", "--timeout=1s")

    def kill(self, pod: dict[str, Any]) -> None:
        """kill -9 of the process of a pod's only container; the container starts again."""
        [container] = pod["status"]["containerStatuses"]
        running = container["containerID"].removeprefix("containerd://")
        assert self._ctr("tasks", "kill", "--signal", "SIGKILL", running) == 0, "the process runs"

    def enforce_policies(self) -> None:
        """NetworkPolicies act from now on, between pods of this node too, by kube-router's firewall."""
        subprocess.run(["sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=1"], check=True)
        access = ["--kubeconfig", f"{self._folder}/kubeconfig", "--hostname-override", NODE]
        nothing_else = ["--run-router=false", "--run-service-proxy=false", "--run-loadbalancer=false"]
        addresses = ["--enable-cni=false", "--service-cluster-ip-range", SERVICE_ADDRESSES, "--health-port", "0"]
        self._start("kube-router", "--run-firewall", *nothing_else, *addresses, *access)

    def _start_control_plane(self) -> None:
        etcd = ["--listen-client-urls", ETCD, "--advertise-client-urls", ETCD, "--listen-peer-urls", ETCD_PEER]
        etcd += ["--initial-advertise-peer-urls", ETCD_PEER, "--initial-cluster", f"default={ETCD_PEER}"]
        self._start("etcd", "--data-dir", f"{self._folder}/etcd", "--unsafe-no-fsync", *etcd)
        self._start("kube-apiserver", *self._api_server_flags())
        until(lambda: self.kubectl.succeeds("get", "--raw", "/readyz"), READY_SECONDS, "the API server is ready")
        self._start_with_access("kube-controller-manager", *self._controller_flags())
        self._start_with_access("kube-scheduler")

    def _start_node(self) -> None:
        kubelet = ["--hostname-override", NODE, "--node-ip", NODE_ADDRESS, "--root-dir", f"{self._folder}/kubelet"]
        certificates = ["--cert-dir", f"{self._folder}/kubelet-certificates"]
        access = ["--kubeconfig", f"{self._folder}/kubeconfig"]
        self._start("kubelet", "--config", f"{self._folder}/kubelet.yaml", *access, *kubelet, *certificates)
        self._start("kube-proxy", "--config", f"{self._folder}/kube-proxy.yaml")
        self._start("coredns", "-conf", f"{self._folder}/Corefile")
        until(self.is_ready, READY_SECONDS, "the node is ready")

    def _api_server_flags(self) -> list[str]:
        folder = self._folder
        flags = {
            "etcd-servers": ETCD,
            "bind-address": "127.0.0.1",
            "advertise-address": "127.0.0.1",
            "secure-port": "6443",
            "tls-cert-file": f"{folder}/server.pem",
            "tls-private-key-file": f"{folder}/server.key",
            "cert-dir": f"{folder}/api-server",
            "client-ca-file": f"{folder}/authority.pem",
            "token-auth-file": f"{folder}/tokens.csv",
            "authorization-mode": "RBAC",
            "service-account-key-file": f"{folder}/accounts.pub",
            "service-account-signing-key-file": f"{folder}/accounts.key",
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-cluster-ip-range": SERVICE_ADDRESSES,
            "endpoint-reconciler-type": "none",
            "kubelet-preferred-address-types": "InternalIP",
            "allow-privileged": "true",
            "disable-admission-plugins": "DefaultStorageClass",
        }
        return [f"--{name}={value}" for name, value in flags.items()]

    def _controller_flags(self) -> list[str]:
        keys = ["--service-account-private-key-file", f"{self._folder}/accounts.key"]
        return [*keys, "--root-ca-file", f"{self._folder}/authority.pem"]

    def _start_with_access(self, program: str, *flags: str) -> None:
        config = f"{self._folder}/kubeconfig"
        access = ["--kubeconfig", config, "--authentication-kubeconfig", config, "--authorization-kubeconfig", config]
        local = ["--leader-elect=false", "--bind-address", "127.0.0.1", "--cert-dir", f"{self._folder}/{program}"]
        self._start(program, *access, *local, *flags)

    def _start(self, program: str, *arguments: str) -> None:
        built = parts.KUBE_BINARIES / program
        Process([built if built.exists() else program, *arguments], log=self._folder / f"{program}.log")

    def _import(self, images: Sequence[Path]) -> None:
        for image in images:
            assert self._ctr("images", "import", str(image)) == 0, f"{image} is an image"

    def _ctr(self, *arguments: str) -> int:
        command = ["ctr", "--address", CONTAINERD, "--namespace", "k8s.io", *arguments]
        return subprocess.run(command, capture_output=True, check=False).returncode

    def _write_configs(self) -> None:
        token = secrets.token_hex(16)
        values = {"folder": self._folder, "node": NODE_ADDRESS, "sandbox": STORES, "token": token}
        for config in CONFIGS.iterdir():
            place = self._folder / ("network" if config.suffix == ".conflist" else "")
            place.mkdir(exist_ok=True)
            (place / config.name).write_text(Template(config.read_text()).substitute(values))
        (self._folder / "tokens.csv").write_text(f"{token},admin,admin,system:masters\n")

    def _write_certificates(self) -> None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self._folder / "authority.pem")
        server = authority.issue_cert("127.0.0.1", API_SERVER_ADDRESS, "kubernetes.default.svc")
        server.cert_chain_pems[0].write_to_path(self._folder / "server.pem")
        server.private_key_pem.write_to_path(self._folder / "server.key")
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        (self._folder / "accounts.key").write_bytes(private)
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (self._folder / "accounts.pub").write_bytes(public)
        (self._folder / "accounts.key").chmod(0o600)
