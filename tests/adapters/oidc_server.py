"""A small OpenID Connect provider on loopback, which can answer wrongly."""

import asyncio
import json
from base64 import b64decode
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from aiohttp import web
from joserfc import jwt
from joserfc.jwk import Key, RSAKey
from joserfc.jws import JWSRegistry

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
# Of the tests alone: generating one takes a second.
RSA = RSAKey.generate_key(2048, {"kid": "first", "use": "sig"})
OTHER_RSA = RSAKey.generate_key(2048, {"kid": "second", "use": "sig"})
CLIENT_ID, CLIENT_SECRET = "webhooks", "a secret: 100% + ~"


@dataclass
class OidcServer:
    """`claims` are those of the id token, beside the usual ones; `instead` answers a path in place of the server."""

    issuer: str
    now: datetime
    key: Key = field(default_factory=lambda: RSA)
    header: dict[str, Any] = field(default_factory=lambda: {"alg": "RS256", "kid": "first"})
    published: list[dict[str, Any]] = field(default_factory=lambda: [dict(RSA.as_dict(private=False))])
    claims: dict[str, Any] = field(default_factory=dict)
    userinfo: dict[str, Any] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    token: dict[str, Any] = field(default_factory=dict)
    instead: dict[str, Answer] = field(default_factory=dict)
    requests: Counter[str] = field(default_factory=Counter)
    forms: list[dict[str, str]] = field(default_factory=list)
    credentials: list[str] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests[request.path] += 1
        if request.path in self.instead:
            return await self.instead[request.path](request)
        match request.path:
            case "/.well-known/openid-configuration":
                return web.json_response(self._metadata())
            case "/jwks":
                return web.json_response({"keys": self.published})
            case "/token":
                return await self._token(request)
            case "/me" if request.headers.get("Authorization") == "Bearer access":
                return web.json_response(self.userinfo)
        return web.Response(status=404)

    def _metadata(self) -> dict[str, Any]:
        endpoints = {"authorization_endpoint": "/auth?tenant=1", "token_endpoint": "/token", "jwks_uri": "/jwks"}
        if self.userinfo is not None:
            endpoints["userinfo_endpoint"] = "/me"
        urls = {name: self.issuer + path for name, path in endpoints.items()}
        return {"issuer": self.issuer, **urls, **self.metadata}

    async def _token(self, request: web.Request) -> web.Response:
        self.forms.append({name: str(value) for name, value in (await request.post()).items()})
        scheme, _, value = request.headers.get("Authorization", "").partition(" ")
        self.credentials.append(b64decode(value).decode() if scheme == "Basic" else "")
        answer = {"access_token": "access", "token_type": "Bearer", "expires_in": 60, "id_token": self.id_token()}
        return web.json_response({**answer, **self.token})

    def id_token(self) -> str:
        seconds = int(self.now.timestamp())
        usual = {"iss": self.issuer, "aud": CLIENT_ID, "sub": "ada-1", "nonce": "nonce"}
        claims = {**usual, "iat": seconds, "exp": seconds + 300, **self.claims}
        present = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(self.header, present, self.key, registry=JWSRegistry(algorithms=[self.header["alg"]]))


@asynccontextmanager
async def oidc_server(now: datetime) -> AsyncIterator[OidcServer]:
    """Run the provider on a free port."""
    server = OidcServer("", now)
    # A request that waits forever must not delay the end.
    runner = web.AppRunner(_application(server), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.issuer = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


def _application(server: OidcServer) -> web.Application:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", server.answer)
    return application


# -- wrong answers -------------------------------------------------------------------------------------------------


def status(code: int, **headers: str) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=code, text="{}", headers=headers)

    return answer


def body(content: bytes, code: int = 200, **headers: str) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=content, status=code, headers={"Content-Type": "application/json", **headers})

    return answer


async def silence(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(60)
    return web.Response()


async def hang_up(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


async def without_end(request: web.Request) -> web.StreamResponse:
    """JSON that goes on forever."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(b'{"issuer": "')
    while True:
        await response.write(b"x" * 65536)


def error(code: str, http_status: int = 400) -> Answer:
    return body(json.dumps({"error": code, "error_description": "canary-of-the-tests"}).encode(), http_status)
