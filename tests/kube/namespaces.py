"""Runs a command where the cluster may do as it likes: in network, mount and process namespaces of its own.

The kernel removes the namespaces with their last process, and ends every process with the first one of them, even after
kill -9. What is left then is a folder, and control groups that are empty.
"""

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

NODE_ADDRESS = "10.10.10.1"
# It ends with the process that starts it, even if that one is killed.
ENTER = ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--mount", "--pid", "--fork", "--kill-child"]
# The kubelet would set these values for the whole machine: here it reads that they are set.
TUNABLES = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1_000_000,
    "kernel/keys/root_maxbytes": 25_000_000,
}
# Bash stays the first process, and reaps those that lost their parent.
SETUP = f"""\
set -e
tunables=$1 networks=$2; shift 2
for folder in /run /var/log "$networks"; do mount -t tmpfs tmpfs "$folder"; done
for tunable in $(cd "$tunables" && find . -type f); do mount --bind "$tunables/$tunable" "/proc/sys/$tunable"; done
ip link set lo up
ip link add node0 type bridge
ip address add {NODE_ADDRESS}/24 dev node0
ip link set node0 up
ip route add default via 10.10.10.2 dev node0
sysctl -qw net.ipv4.ip_forward=1
"$@" && exit 0 || exit $?
"""
# Where the network plugins note each pod. No setting of containerd names another place.
NETWORKS = Path("/var/lib/cni")
CONTROL_GROUPS = Path("/sys/fs/cgroup")
PATIENCE_SECONDS = 30.0


def run_inside(command: Sequence[str], folder: Path) -> int:
    """Run it to its end; return its exit code. `folder` is for what the cluster writes."""
    tunables = folder / "tunables"
    for name, value in TUNABLES.items():
        (tunables / name).parent.mkdir(parents=True, exist_ok=True)
        (tunables / name).write_text(f"{value}\n")
    with network_folder(), control_groups_removed():
        setup = ["--mount-proc", "bash", "-c", SETUP, "bash", str(tunables), str(NETWORKS)]
        inside = subprocess.Popen([*ENTER, *setup, *command])
        try:
            return inside.wait()
        except KeyboardInterrupt:
            # The terminal has sent the signal to the command too.
            return wait_or_kill(inside)
        finally:
            if inside.poll() is None:
                inside.kill()
                inside.wait()


def wait_or_kill(inside: "subprocess.Popen[bytes]") -> int:
    try:
        return inside.wait(PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        inside.send_signal(signal.SIGKILL)
        return inside.wait()


@contextmanager
def network_folder() -> Iterator[None]:
    there = NETWORKS.exists()
    NETWORKS.mkdir(exist_ok=True)
    try:
        yield
    finally:
        if not there:
            NETWORKS.rmdir()


@contextmanager
def control_groups_removed() -> Iterator[None]:
    """Remove the control groups that came meanwhile, and that no process is in."""
    before = control_groups()
    try:
        yield
    finally:
        for group in sorted(control_groups() - before, reverse=True):
            remove(group)


def control_groups() -> set[Path]:
    """Those of containerd and the kubelet, of each kind (version 1) or the only one."""
    return {
        Path(folder) for folder, _, _ in os.walk(CONTROL_GROUPS) if {"k8s.io", "kubepods"} & set(Path(folder).parts)
    }


def remove(group: Path) -> None:
    try:
        group.rmdir()
    except OSError as error:
        print(f"left: the control group {group} ({error.strerror})", flush=True)
