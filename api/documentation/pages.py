"""The documentation at `/docs/`, the page that tries the API at `/docs/api/`, and `/openapi.json`: all from memory."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files

import orjson
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from api.documentation.site import built_site
from api.public_files import PublicFile, PublicRoute
from streams.core.errors import NotFound

router = APIRouter(include_in_schema=False, route_class=PublicRoute)

# Pages and their scripts change with a release; a browser asks again after five minutes.
_CACHE = "public, max-age=300"
_API_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>scorm-webhooks API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/api/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/api/swagger-ui-bundle.js"></script>
<script src="/docs/api/start.js"></script>
</body>
</html>
"""
_START_SCRIPT = """SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  persistAuthorization: false,
  validatorUrl: null,
});
"""
# Swagger UI sets styles on elements and shows images from data: URLs.
_API_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'"
)
_NOT_BUILT_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>scorm-webhooks</title><link rel="icon" href="data:,"></head>
<body>
<h1>The documentation is not built here</h1>
<p>Run <code>make docs</code> in the checkout, and start this process again.</p>
<p><a href="/docs/api/">Try the API</a></p>
</body>
</html>
"""


@router.get("/docs")
async def docs() -> Response:
    return RedirectResponse("/docs/", 308)


@router.get("/docs/api")
async def api_page_without_slash() -> Response:
    return RedirectResponse("/docs/api/", 308)


@router.get("/docs/api/")
async def api_page() -> HTMLResponse:
    """Swagger UI; everything that it loads comes from this server."""
    return HTMLResponse(_API_PAGE, headers={"Content-Security-Policy": _API_PAGE_POLICY})


@router.get("/docs/api/{name}")
async def api_page_file(request: Request, name: str) -> Response:
    """The page's own script. It has no inline scripts, so its policy can forbid them."""
    file = api_page_files().get(name)
    if file is None:
        raise NotFound("there is no such file; begin at /docs/")
    return file.response(request, {"Cache-Control": _CACHE})


@cache
def api_page_files() -> Mapping[str, PublicFile]:
    """Two files of Swagger UI, and the script that starts it."""
    folder = files("fastapi_offline") / "static"
    kinds = {"swagger-ui.css": "text/css", "swagger-ui-bundle.js": "text/javascript"}
    of_swagger = {name: PublicFile(kind, (folder / name).read_bytes()) for name, kind in kinds.items()}
    return {**of_swagger, "start.js": PublicFile("text/javascript", _START_SCRIPT.encode())}


@router.get("/llms.txt")
async def llms(request: Request) -> Response:
    """The index for language models, where they look for it."""
    return await page(request, "llms.txt")


@router.get("/openapi.json")
async def openapi(request: Request) -> Response:
    """The API's description, as OpenAPI."""
    return openapi_file(request.app).response(request, {"Cache-Control": _CACHE})


def openapi_file(app: FastAPI) -> PublicFile:
    """The file of an application, made once."""
    if not hasattr(app.state, "openapi_file"):
        document = app.openapi()
        # Later requests need only the bytes.
        app.openapi_schema = None
        app.state.openapi_file = PublicFile("application/json", orjson.dumps(document))
    file: PublicFile = app.state.openapi_file
    return file


def prepare(app: FastAPI) -> None:
    """Make all files of an application, so that no client waits for them."""
    openapi_file(app)
    api_page_files()
    built_site()


@router.get("/docs/{path:path}")
async def page(request: Request, path: str) -> Response:
    """One file of the built site."""
    site = built_site()
    file = site.find(path)
    if file is None:
        if not site.is_built and not path:
            return HTMLResponse(_NOT_BUILT_PAGE, headers={"Content-Security-Policy": site.policy})
        raise NotFound("there is no such page; begin at /docs/")
    return file.response(request, {"Cache-Control": _CACHE, "Content-Security-Policy": site.policy})
