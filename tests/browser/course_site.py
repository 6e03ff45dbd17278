"""A platform's site with our two courses and a real player, on an origin of its own."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

COURSES = Path(__file__).parents[2] / "examples" / "course"


@dataclass(frozen=True)
class CourseSite:
    """`launch` is the address of a page that plays a course."""

    origin: str

    def launch(self, standard: str, commit_url: str, settings: Mapping[str, Any], stored: Any = None) -> str:
        given = {"standard": standard, "commitUrl": commit_url, "settings": settings, "stored": stored}
        return f"{self.origin}/player.html#{quote(json.dumps(given))}"


@contextmanager
def running_site(player: Path) -> Iterator[CourseSite]:
    class Handler(SimpleHTTPRequestHandler):
        def translate_path(self, path: str) -> str:
            if path.startswith("/scorm-again.js"):
                return str(player / "scorm-again.js")
            return str(COURSES / path.partition("?")[0].lstrip("/"))

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield CourseSite(f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
