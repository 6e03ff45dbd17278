"""The endpoints, as a process: it records every request and responds as the URL says.

`/crm?delay=20` responds with 200 after 20 ms; `flaky=7` fails the first attempt of every seventh event,
`refuse=50` every attempt of every fiftieth event; with `breaks=1` all fail while there is a file `broken` beside
the receipts. It listens on the address of its second argument, prints its port,
and ends with its standard input.
"""

import asyncio
import hashlib
import json
import sys
import time
import zlib
from pathlib import Path

from aiohttp import web


async def serve(receipts: Path, address: str) -> None:
    with receipts.open("a", buffering=1) as log:

        async def response(request: web.Request) -> web.Response:
            at = time.time()
            body = await request.read()
            event, attempt = request.headers["webhook-id"], int(request.headers["webhook-attempt"])
            breaks = "breaks" in request.query and receipts.with_name("broken").exists()
            status = 500 if breaks else status_for(request, event, attempt)
            await asyncio.sleep(int(request.query.get("delay", "0")) / 1000)
            line = {
                "path": request.path,
                "event": event,
                "attempt": attempt,
                "sha": hashlib.sha256(body).hexdigest(),
                "status": status,
                "at": at,
            }
            log.write(json.dumps(line) + "\n")
            return web.Response(status=status)

        app = web.Application()
        app.router.add_post("/{name}", response)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, address, 0, backlog=1024).start()
        print(runner.addresses[0][1], flush=True)
        await asyncio.to_thread(sys.stdin.read)
        await runner.cleanup()


def status_for(request: web.Request, event: str, attempt: int) -> int:
    """The status depends on the event and the attempt only."""

    def one_in(parameter: str) -> bool:
        share = int(request.query.get(parameter, "0"))
        return share > 0 and zlib.crc32(event.encode()) % share == 0

    return 500 if one_in("refuse") or (attempt == 1 and one_in("flaky")) else 200


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), sys.argv[2]))
