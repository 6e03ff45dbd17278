"""Probes, metrics and the API's own documentation."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, Response

from api.services import services_of

router = APIRouter(include_in_schema=False)

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>scorm-webhooks API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/assets/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/assets/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
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
_CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'"
)


@router.get("/healthz")
async def healthz() -> PlainTextResponse:
    """Whether the process lives."""
    return PlainTextResponse("ok\n")


@router.get("/readyz")
async def readyz(request: Request) -> PlainTextResponse:
    """Whether the process can serve. The details are on the health port, because this port is public."""
    problems = await services_of(request).readiness_problems()
    problem_lines = "".join(f"{cause}\n" for cause in dict.fromkeys(line.partition(":")[0] for line in problems))
    return PlainTextResponse(problem_lines or "ready\n", 503 if problems else 200)


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Metrics for Prometheus."""
    body, media_type = services_of(request).metrics()
    return Response(body, media_type=media_type)


@router.get("/docs")
async def docs() -> HTMLResponse:
    """Swagger UI; everything that it loads comes from this server."""
    return HTMLResponse(_PAGE, headers={"Content-Security-Policy": _CONTENT_SECURITY_POLICY})


@router.get("/docs/start.js")
async def start() -> Response:
    """The script of Swagger UI; the page has no inline script, so the policy can forbid them."""
    return Response(_START_SCRIPT, media_type="text/javascript")
