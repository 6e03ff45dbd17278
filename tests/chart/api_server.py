"""Just enough of Kubernetes' API for helm to look Secrets up."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

# Kinds by group and version, as `kubectl api-resources` shows them.
RESOURCES = {
    "api/v1": ["Secret", "ConfigMap", "Service", "ServiceAccount", "Pod"],
    "apis/apps/v1": ["Deployment", "StatefulSet"],
    "apis/batch/v1": ["Job"],
    "apis/policy/v1": ["PodDisruptionBudget"],
}


class FakeApiServer(ThreadingHTTPServer):
    """Serves discovery, and Secrets with the resource versions of `secrets`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.secrets: dict[str, str] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, path: str) -> dict[str, Any] | None:
        if path == "/version":
            return {"major": "1", "minor": "37", "gitVersion": "v1.37.0"}
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(name) for name in RESOURCES]}
        if path.strip("/") in RESOURCES:
            return _resources(path.strip("/"))
        name = path.rpartition("/secrets/")[2]
        if name in self.secrets:
            metadata = {"name": name, "resourceVersion": self.secrets[name]}
            return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata}
        return None


def _group(name: str) -> dict[str, Any]:
    version = name.partition("/")[2]
    return {"name": version.partition("/")[0], "versions": [{"groupVersion": version, "version": "v1"}]}


def _resources(name: str) -> dict[str, Any]:
    found = [
        {"name": f"{kind.lower()}s", "singularName": kind.lower(), "kind": kind, "namespaced": True, "verbs": ["get"]}
        for kind in RESOURCES[name]
    ]
    return {"kind": "APIResourceList", "groupVersion": name.partition("/")[2], "resources": found}


class _Handler(BaseHTTPRequestHandler):
    server: FakeApiServer

    def do_GET(self) -> None:
        found = self.server.answer(self.path.partition("?")[0])
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        missing = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
        self.wfile.write(json.dumps(found or missing).encode())

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@contextmanager
def api_server() -> Iterator[FakeApiServer]:
    with FakeApiServer() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
