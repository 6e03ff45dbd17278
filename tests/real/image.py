"""Build the image as `make image` does, over a base made on this machine, and run it as a cluster would."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import parts

ROOT = Path(__file__).resolve().parents[2]
BASE = "localhost/scorm-webhooks-tests-base"
ARM64_BASE = f"{BASE}-arm64"
IMAGE = "localhost/scorm-webhooks-tests"
SOURCE = "https://example.com/scorm-webhooks"
# The certificate authorities of this machine: its way to the package index may need one of its own.
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
BASE_DOCKERFILE = f"""\
FROM scratch
ADD base.tar /
COPY certificates.pem {CERTIFICATES}
ENV PATH=/usr/local/bin:/usr/bin:/bin SSL_CERT_FILE={CERTIFICATES}
"""
# A mount namespace of its own, in which the root is read-only, and then the program in it: the process keeps its id.
READ_ONLY_ROOT = """\
set -e
root=$1 data=$2 user=$3; shift 3
mount --bind "$root" "$root"
mount --rbind /proc "$root/proc"
mount --rbind /dev "$root/dev"
[ -z "$data" ] || mount --bind "$data" "$root/data"
mount -o remount,bind,ro "$root"
exec chroot --userspec="$user" --groups="" "$root" "$@"
"""


@dataclass(frozen=True)
class Config:
    """What an image says about how it runs."""

    user: str
    entrypoint: list[str]
    labels: dict[str, str]
    env: dict[str, str]


class Image(Protocol):
    """The built image. `data` is a folder to mount as /data; the rest of the root is read-only."""

    config: Config

    def bytes_above_base(self) -> int: ...

    def read(self, path: str) -> str: ...

    def command(self, words: list[str], env: Mapping[str, str], data: Path | None) -> list[str | Path]: ...

    def remove(self) -> None: ...


class BuildahImage:
    """An image that buildah built. It runs in a chroot, on the network of this machine, without an engine."""

    def __init__(self) -> None:
        ensure_base("buildah", "bud", "--isolation", "chroot")
        _make_image("buildah bud", "--isolation chroot --pull-never")
        self._containers: list[str] = []
        said = json.loads(output("buildah", "inspect", "--type", "image", IMAGE))
        self.config = _config(said["OCIv1"]["config"])
        self._root = self._mounted(IMAGE)

    def bytes_above_base(self) -> int:
        return _bytes_in(self._root) - _bytes_in(self._mounted(BASE))

    def read(self, path: str) -> str:
        return (self._root / path.removeprefix("/")).read_text()

    def command(self, words: list[str], env: Mapping[str, str], data: Path | None) -> list[str | Path]:
        variables = [f"{name}={value}" for name, value in {**self.config.env, **env}.items()]
        into = ["unshare", "--mount", "sh", "-c", READ_ONLY_ROOT, "sh"]
        return [*into, self._root, data or "", self.config.user, "env", "-i", *variables, *words]

    def remove(self) -> None:
        subprocess.run(["buildah", "rm", *self._containers], check=True, capture_output=True)
        subprocess.run(["buildah", "rmi", IMAGE], check=True, capture_output=True)

    def _mounted(self, image: str) -> Path:
        container = output("buildah", "from", "--pull-never", image).strip()
        self._containers.append(container)
        return Path(output("buildah", "mount", container).strip())


class DockerImage:
    """An image that a Docker engine built and runs."""

    def __init__(self) -> None:
        if _fails("docker", "image", "inspect", BASE):
            _build_base("docker", "build")
        _make_image("docker build", "--network host")
        self.config = _config(self._inspect(IMAGE)["Config"])

    def bytes_above_base(self) -> int:
        return int(self._inspect(IMAGE)["Size"]) - int(self._inspect(BASE)["Size"])

    def read(self, path: str) -> str:
        return output("docker", "run", "--rm", "--entrypoint", "cat", IMAGE, path)

    def command(self, words: list[str], env: Mapping[str, str], data: Path | None) -> list[str | Path]:
        run = ["docker", "run", "--rm", "--init", "--read-only", "--network", "host", "--entrypoint", words[0]]
        variables = [part for name, value in env.items() for part in ("--env", f"{name}={value}")]
        volume = ["--volume", f"{data}:/data"] if data else []
        return [*run, *variables, *volume, IMAGE, *words[1:]]

    def remove(self) -> None:
        subprocess.run(["docker", "image", "rm", IMAGE], check=True, capture_output=True)

    def _inspect(self, image: str) -> Any:
        return json.loads(output("docker", "image", "inspect", image))[0]


def build_image() -> Image:
    """The image of this checkout, built by what this machine has."""
    return DockerImage() if parts.image_builder() == parts.docker() else BuildahImage()


def run(image: Image, *words: str, **env: str) -> "subprocess.CompletedProcess[str]":
    """Run a program of the image until it ends."""
    return subprocess.run(image.command(list(words), env, None), capture_output=True, text=True, timeout=60)


def ensure_base(*build: str, base: str = BASE) -> None:
    """Build the base with buildah, unless it is there."""
    if _fails("buildah", "inspect", "--type", "image", base):
        platform = ("--platform", "linux/arm64") if base == ARM64_BASE else ()
        _build_base(*build, *platform, base=base)


def _build_base(*build: str, base: str = BASE) -> None:
    """Build the base of the file system that tests/parts.py made."""
    made = parts.image_base_arm64() if base == ARM64_BASE else parts.image_base()
    assert made, "tests/parts.py brings it"
    # Beside it, because a link cannot lead to another file system.
    with tempfile.TemporaryDirectory(prefix="context-", dir=made.parent) as folder:
        context = Path(folder)
        os.link(made, context / "base.tar")
        shutil.copy(CERTIFICATES, context / "certificates.pem")
        (context / "Dockerfile").write_text(BASE_DOCKERFILE)
        output(*build, "--tag", base, folder)


def _make_image(build: str, options: str) -> None:
    arguments = f"{options} --build-arg BASE={BASE}"
    output("make", "image", f"BUILD_IMAGE={build}", f"IMAGE={IMAGE}", f"SOURCE={SOURCE}", f"ARGS={arguments}")


def _config(said: dict[str, Any]) -> Config:
    env = dict(variable.split("=", 1) for variable in said["Env"])
    return Config(said["User"], said["Entrypoint"], said["Labels"], env)


def _fails(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode != 0


def output(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def _bytes_in(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*"))
