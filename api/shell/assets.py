"""The stylesheet, the scripts and the icon: each at a URL that changes with its content."""

import hashlib
import mimetypes
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.public_files import PublicFile, PublicRoute
from api.shell.branding import Site
from streams.core.errors import NotFound

router = APIRouter(include_in_schema=False, route_class=PublicRoute)

ASSET_NAMES = ("style.css", "dashboard.js", "htmx.min.js")
_IMMUTABLE_CACHE = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Asset:
    """One file; `version` is the start of its hash."""

    version: str
    file: PublicFile


@cache
def assets() -> dict[str, Asset]:
    """All files, by name."""
    folder = files("api.shell") / "static"
    return {name: _load_asset(name, (folder / name).read_bytes()) for name in ASSET_NAMES}


def _load_asset(name: str, content: bytes) -> Asset:
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return Asset(hashlib.sha256(content).hexdigest()[:12], PublicFile(kind, content))


def asset_url(name: str) -> str:
    return f"/static/{assets()[name].version}/{name}"


@router.get("/static/theme.css")
async def theme(request: Request) -> Response:
    """The platform's colour."""
    site: Site = request.app.state.site
    color = site.branding.accent_color
    css = f":root {{ --brand: {color}; --on-brand: {text_color_on(color)}; }}\n"
    return Response(css, headers={"Cache-Control": "max-age=300"}, media_type="text/css")


def text_color_on(color: str) -> str:
    """Black or white, whichever is easier to read on a colour (WCAG 2.2, relative luminance)."""
    parts = [int(color[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return "#000" if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else "#fff"


@router.get("/static/{version}/{name}")
async def asset(version: str, name: str, request: Request) -> Response:
    static_asset = assets().get(name)
    if static_asset is None:
        raise NotFound(f"there is no file {name}")
    # An old page may request an old version: it gets the current one, and does not cache it.
    cache_rule = _IMMUTABLE_CACHE if version == static_asset.version else "no-store"
    return static_asset.file.response(request, {"Cache-Control": cache_rule})
