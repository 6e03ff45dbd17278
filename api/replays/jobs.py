"""The page of a job: its progress, and a button that cancels it."""

from contextlib import suppress

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.shell.page_route import PageRoute
from api.shell.rendering import redirect, render
from api.shell.visits import visit_of
from streams.core.access import Scope
from streams.core.errors import Conflict

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get("/jobs/{job_id}")
async def job_page(job_id: str, request: Request) -> Response:
    """The progress of a job."""
    visit = await visit_of(request)
    job = await visit.services.deliveries.job(job_id, visit.account.id)
    done, total = job.progress
    return render(request, "job.html", visit, job=job, progress=done, whole=total)


@router.post("/jobs/{job_id}/cancel")
async def cancel(job_id: str, request: Request) -> Response:
    """What is done stays done."""
    visit = await visit_of(request)
    visit.require(Scope.DELIVERIES_WRITE)
    # The page of a finished job says that it is finished.
    with suppress(Conflict):
        await visit.services.deliveries.cancel(job_id, visit.account.id, by=visit.member.actor)
    return redirect(f"/jobs/{job_id}")
