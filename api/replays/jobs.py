"""The page of a job: its progress, and a button that cancels it."""

from contextlib import suppress

from fastapi import APIRouter
from starlette.responses import Response

from api.shell.page_route import PageRoute
from api.shell.rendering import redirect, render
from api.shell.visits import MayWriteDeliveries, SignedIn
from streams.core.errors import Conflict

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get("/jobs/{job_id}")
async def job_page(job_id: str, visit: SignedIn) -> Response:
    """The progress of a job."""
    job = await visit.services.deliveries.job(job_id, visit.account.id)
    done_count, total = job.progress
    return render(visit, "job.html", job=job, progress=done_count, whole=total)


@router.post("/jobs/{job_id}/cancel")
async def cancel(job_id: str, visit: MayWriteDeliveries) -> Response:
    """What is done stays done."""
    # The page of a finished job says that it is finished.
    with suppress(Conflict):
        await visit.services.deliveries.cancel(job_id, visit.account.id, actor=visit.actor)
    return redirect(f"/jobs/{job_id}")
