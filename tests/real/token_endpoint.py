"""A token endpoint on loopback for client credentials. It signs JWTs, serves its keys, and can answer wrongly."""

import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs
from uuid import uuid4

from joserfc import jwt
from joserfc.jwk import RSAKey

from real.process import free_ports

CLIENT_ID, CLIENT_SECRET = "webhooks", "a secret: 100% + ~"
AUDIENCE, SUBJECT = "kafka", "webhooks"

# The status and the body of a response. With None, the endpoint does not answer until it stops.
Respond = Callable[[], tuple[int, bytes] | None]


class TokenEndpoint:
    """Serves `/token` and `/jwks` from `start` to `stop`, on the same port each time.

    `seconds` is how long a token lives, `audience` whom it is for; `instead` answers in place of the endpoint.
    """

    def __init__(self, seconds: float = 60, audience: str = AUDIENCE) -> None:
        self.seconds = seconds
        self.audience = audience
        self.instead: Respond | None = None
        # The form and the credentials of each request for a token.
        self.forms: list[dict[str, str]] = []
        self.credentials: list[str] = []
        self.tokens: list[str] = []
        self._key = RSAKey.generate_key(2048, {"kid": "first", "use": "sig", "alg": "RS256"})
        [self._port] = free_ports(1)
        self.url = f"http://127.0.0.1:{self._port}/token"
        self.keys_url = f"http://127.0.0.1:{self._port}/jwks"
        self._server: ThreadingHTTPServer | None = None
        self._stopped = threading.Event()

    def start(self) -> None:
        self._stopped.clear()
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        if self._server:
            self._stopped.set()
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def token(self) -> str:
        """A token that is valid from now on."""
        now = int(time.time())
        claims = {"sub": SUBJECT, "aud": self.audience, "iss": self.url, "iat": now, "jti": uuid4().hex}
        claims["exp"] = now + int(self.seconds)
        return jwt.encode({"alg": "RS256", "kid": "first"}, claims, self._key)

    def _respond(self, form: dict[str, str], credentials: str) -> tuple[int, bytes] | None:
        self.forms.append(form)
        self.credentials.append(credentials)
        if self.instead:
            return self.instead()
        self.tokens.append(self.token())
        answer = {"access_token": self.tokens[-1], "token_type": "Bearer", "expires_in": int(self.seconds)}
        return 200, json.dumps(answer).encode()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._send(200, json.dumps({"keys": [endpoint._key.as_dict(private=False)]}).encode())

            def do_POST(self) -> None:
                text = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                form = {name: values[0] for name, values in parse_qs(text).items()}
                response = endpoint._respond(form, self.headers.get("Authorization", ""))
                if response is None:
                    endpoint._stopped.wait()
                    return
                self._send(*response)

            def _send(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                # A client may have read enough.
                with suppress(ConnectionError):
                    self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None: ...

        return Handler
