"""Run Apicurio Registry, which has the REST API of Confluent's schema registry; its schemas are in memory."""

import json
import os
import shutil
import signal
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import parts
from real.process import Process, free_ports
from schemas import Schema

JAVA_OPTIONS = ("-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
# Every request needs a password. `reader` may not register schemas.
PROPERTIES = """\
quarkus.http.host=127.0.0.1
quarkus.http.port={port}
quarkus.http.auth.basic=true
quarkus.http.auth.permission.all.paths=/*
quarkus.http.auth.permission.all.policy=authenticated
quarkus.security.users.embedded.plain-text=true
quarkus.security.users.embedded.users.writer=secret
quarkus.security.users.embedded.roles.writer=sr-admin
quarkus.security.users.embedded.users.reader=secret
quarkus.security.users.embedded.roles.reader=sr-readonly
apicurio.auth.enabled=true
apicurio.auth.role-based-authorization=true
"""


class SchemaRegistry:
    """Runs from its creation."""

    def __init__(self) -> None:
        java, jar = parts.java(), parts.registry()
        assert java, "tests/parts.py brings Java"
        assert jar, "tests/parts.py brings the schema registry"
        self._folder = Path(tempfile.mkdtemp(prefix="registry-"))
        [port] = free_ports(1)
        self.url = f"http://127.0.0.1:{port}/apis/ccompat/v7"
        config = self._folder / "application.properties"
        config.write_text(PROPERTIES.format(port=port))
        command: list[str | Path] = [java, *JAVA_OPTIONS, f"-Dquarkus.config.locations={config}", "-jar", jar]
        self._process = Process(command, self._folder / "log")
        self._process.wait_until(self._answers)

    def client(self, user: str = "writer", **properties: Any) -> Any:
        """Confluent's client."""
        from confluent_kafka.schema_registry import SchemaRegistryClient

        return SchemaRegistryClient({"url": self.url, "basic.auth.user.info": f"{user}:secret", **properties})

    def serialized(self, schema: Schema, topic: str, fields: Mapping[str, Any], **conf: Any) -> bytes:
        """A value as Confluent's serializer writes it."""
        from confluent_kafka.schema_registry.avro import AvroSerializer
        from confluent_kafka.serialization import MessageField, SerializationContext

        serializer = AvroSerializer(self.client(), json.dumps(schema), conf=conf)
        value: bytes = serializer(fields, SerializationContext(topic, MessageField.VALUE))
        return value

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It accepts connections, and answers nothing."""
        os.kill(self._process.pid, signal.SIGSTOP)
        # On a busy machine its threads go on for a moment.
        self._process.wait_until(self._is_stopped)
        try:
            yield
        finally:
            os.kill(self._process.pid, signal.SIGCONT)

    def _is_stopped(self) -> bool:
        tasks = Path(f"/proc/{self._process.pid}/task").glob("*/stat")
        return all(task.read_text().rpartition(")")[2].split()[0] == "T" for task in tasks)

    def remove(self) -> None:
        self._process.end(signal.SIGKILL)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.url}/subjects", timeout=5).close()
        except urllib.error.HTTPError as error:
            return error.code == 401
        except OSError:
            return False
        return True
