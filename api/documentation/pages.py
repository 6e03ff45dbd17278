"""The documentation at `/docs/`, and the page that tries the API at `/docs/api/`. No page asks the database."""

import asyncio

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from api.documentation.site import SiteFile, built_site
from streams.core.errors import NotFound

router = APIRouter(include_in_schema=False)

# Pages and their scripts change with a release; a browser asks again after five minutes.
_CACHE = "public, max-age=300"
_API_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>scorm-webhooks API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/api/assets/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/api/assets/swagger-ui-bundle.js"></script>
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


@router.get("/docs/api/start.js")
async def start() -> Response:
    """The script of Swagger UI; the page has no inline script, so the policy can forbid them."""
    return Response(_START_SCRIPT, media_type="text/javascript")


@router.get("/llms.txt")
async def llms(request: Request) -> Response:
    """The index for language models, where they look for it."""
    return await page(request, "llms.txt")


@router.get("/docs/{path:path}")
async def page(request: Request, path: str) -> Response:
    """One file of the built site."""
    site = built_site()
    file = site.find(path)
    if file is None:
        if not site.is_built and not path:
            return HTMLResponse(_NOT_BUILT_PAGE, headers={"Content-Security-Policy": site.policy})
        raise NotFound("there is no such page; begin at /docs/")
    headers = {"Cache-Control": _CACHE, "ETag": file.etag, "Content-Security-Policy": site.policy}
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return await _response(request, file, headers)


async def _response(request: Request, file: SiteFile, headers: dict[str, str]) -> Response:
    accepts_gzip = "gzip" in request.headers.get("accept-encoding", "")
    if file.is_compressed:
        headers["Vary"] = "Accept-Encoding"
        if accepts_gzip:
            headers["Content-Encoding"] = "gzip"
    content = await asyncio.to_thread(file.read, decompress=not accepts_gzip)
    return Response(content, headers=headers, media_type=file.media_type)
