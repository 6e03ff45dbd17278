"""POST to endpoints over aiohttp, to allowed addresses only."""
