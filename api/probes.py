"""Probes of the public port; the metrics are on the health port alone."""

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse

from api.admission import in_class
from api.public_files import PublicRoute
from api.services import services_of
from streams.core.queues.request_class import RequestClass

router = APIRouter(include_in_schema=False, route_class=PublicRoute)


@router.get("/healthz")
@in_class(RequestClass.PROBE)
async def healthz() -> PlainTextResponse:
    """Whether the process lives."""
    return PlainTextResponse("ok\n")


@router.get("/readyz")
@in_class(RequestClass.PROBE)
async def readyz(request: Request) -> PlainTextResponse:
    """Whether the process can serve. The details are on the health port, because this port is public."""
    problems = await services_of(request).readiness_problems()
    problem_lines = "".join(f"{cause}\n" for cause in dict.fromkeys(line.partition(":")[0] for line in problems))
    return PlainTextResponse(problem_lines or "ready\n", 503 if problems else 200)
