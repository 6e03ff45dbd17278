"""HTTP with limits: a response must be short, uncompressed, and complete within seconds."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2

from streams.core.errors import ProviderFailed

TIMEOUT_SECONDS = 5.0
MAX_RESPONSE_BYTES = 1024 * 1024


class LimitedTransport(httpx2.AsyncBaseTransport):
    """Reads each response at once, up to 1 MiB. Raises `ProviderFailed` for one that is longer or compressed."""

    def __init__(self, transport: httpx2.AsyncBaseTransport) -> None:
        self._transport = transport

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        # A compressed response may be much longer than the bytes that are read.
        request.headers["Accept-Encoding"] = "identity"
        response = await self._transport.handle_async_request(request)
        try:
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise ProviderFailed(f"{request.url.host} compresses its response, though asked not to")
            body = bytearray()
            async for part in response.aiter_raw():
                body += part
                if len(body) > MAX_RESPONSE_BYTES:
                    raise ProviderFailed(f"the response of {request.url.host} is longer than 1 MiB")
        finally:
            await response.aclose()
        return httpx2.Response(response.status_code, headers=response.headers, content=bytes(body))

    async def aclose(self) -> None:
        await self._transport.aclose()


@asynccontextmanager
async def provider_call(action: str) -> AsyncIterator[None]:
    """Turn a timeout, and every failure of the connection, into `ProviderFailed`; `action` names the request."""
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            yield
    except TimeoutError:
        raise ProviderFailed(f"{action} did not respond within {TIMEOUT_SECONDS:g} seconds") from None
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise ProviderFailed(f"{action} failed: {error or type(error).__name__}") from None
