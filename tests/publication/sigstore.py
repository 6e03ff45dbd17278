"""A Sigstore of this machine: an identity provider, and Fulcio, which certifies its identities for ten minutes."""

import base64
import ctypes
import json
import os
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from signal import SIGTERM
from typing import Any

import yaml
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import Certificate, load_pem_x509_certificate
from joserfc import jwt
from joserfc.jwk import ECKey

import parts
from conftest import left_out
from real.process import Process, free_ports

AUDIENCE = "sigstore"
IDENTITY = "release@example.com"
CLONE_NEWNET = 0x40000000
START = {"start": "2026-01-01T00:00:00Z"}


@contextmanager
def own_network() -> Iterator[None]:
    """A network of its own for this thread and all that it starts: Fulcio's metrics listen on every address."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/thread-self/ns/net") as before:
        if libc.unshare(CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        try:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            yield
        finally:
            if libc.setns(before.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")


class IdentityProvider:
    """Says in a token who runs a workflow; its public key is at its URL."""

    def __init__(self) -> None:
        self._key = ECKey.generate_key("P-256", {"use": "sig", "alg": "ES256"})
        self._key.ensure_kid()
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps(provider.document(self.path)).encode())

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def document(self, path: str) -> dict[str, Any]:
        if path == "/keys":
            return {"keys": [self._key.as_dict(private=False)]}
        return {
            "issuer": self.url,
            "jwks_uri": f"{self.url}/keys",
            "authorization_endpoint": f"{self.url}/none",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        }

    def token(self) -> str:
        now = int(time.time())
        claims = {"iss": self.url, "aud": AUDIENCE, "sub": "release", "iat": now, "exp": now + 600}
        header = {"alg": "ES256", "kid": self._key.kid}
        return jwt.encode(header, {**claims, "email": IDENTITY, "email_verified": True}, self._key)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def running_sigstore(folder: Path, provider: IdentityProvider) -> Iterator[Certificate]:
    """Writes the two files of a Sigstore into the folder; gives the certificate of its authority."""
    program = parts.fulcio() or left_out("Fulcio")
    port, grpc_port, metrics_port = free_ports(3)
    issuer = {
        "issuer-url": provider.url,
        "client-id": AUDIENCE,
        "type": "email",
        "contact": IDENTITY,
        "description": "tests",
    }
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump({"oidc-issuers": {provider.url: issuer}}))
    url = f"http://127.0.0.1:{port}"
    running = Process(
        [
            *(program, "serve", "--ca", "ephemeralca", "--ct-log-url", "", "--config-path", config),
            *("--host", "127.0.0.1", "--port", str(port), "--metrics-port", str(metrics_port)),
            *("--grpc-host", "127.0.0.1", "--grpc-port", str(grpc_port)),
        ],
        log=folder / "log",
        env={"PATH": os.environ["PATH"]},
    )
    try:
        running.wait_until(lambda: responds(f"{url}/healthz"))
        with urllib.request.urlopen(f"{url}/api/v2/trustBundle", timeout=10) as response:
            [authority] = json.load(response)["chains"][0]["certificates"]
        write_files(folder, url, authority)
        yield load_pem_x509_certificate(authority.encode())
    finally:
        running.end(SIGTERM)


def write_files(folder: Path, url: str, authority: str) -> None:
    """The two files that `SIGSTORE=` names, without a log and without a clock."""
    service = {"url": url, "majorApiVersion": 1, "validFor": START, "operator": "tests"}
    signing = {
        "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
        "caUrls": [service],
        "rekorTlogConfig": {"selector": "ANY"},
        "tsaConfig": {"selector": "ANY"},
    }
    raw = load_pem_x509_certificate(authority.encode())
    chain = {"certificates": [{"rawBytes": base64.b64encode(raw.public_bytes(Encoding.DER)).decode()}]}
    trusted = {
        "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
        "certificateAuthorities": [{"subject": {}, "uri": url, "certChain": chain, "validFor": START}],
    }
    (folder / "signing_config.json").write_text(json.dumps(signing))
    (folder / "trusted_root.json").write_text(json.dumps(trusted))


def responds(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1):
            return True
    except OSError:
        return False
