"""The page of a job: its progress, and a button that cancels it."""

from contextlib import suppress

from fastapi import APIRouter
from starlette.responses import Response

from api.shell.page_route import PageRoute
from api.shell.rendering import redirect, render
from api.shell.rows import webhook_of
from api.shell.visits import MayWriteDeliveries, SignedIn, Visit
from streams.core.deliveries.job import Job
from streams.core.errors import Conflict

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get("/jobs/{job_id}")
async def job_page(job_id: str, visit: SignedIn) -> Response:
    """The progress of a job."""
    job = await visit.services.deliveries.job(job_id, visit.account.id)
    done_count, total = job.progress
    return render(visit, "job.html", job=job, name=await _webhook_name(visit, job), progress=done_count, whole=total)


async def _webhook_name(visit: Visit, job: Job) -> str:
    """The name of a job's webhook; its id if the webhook is deleted, empty if there is none."""
    if job.filter.webhook_id is None:
        return ""
    webhook = await webhook_of(visit, job.filter.webhook_id)
    return webhook.title if webhook and not webhook.deleted_at else job.filter.webhook_id


@router.post("/jobs/{job_id}/cancel")
async def cancel(job_id: str, visit: MayWriteDeliveries) -> Response:
    """Cancel a job. Its finished work is kept."""
    # The page of a finished job says that it is finished.
    with suppress(Conflict):
        await visit.services.deliveries.cancel(job_id, visit.account.id, actor=visit.actor)
    return redirect(f"/jobs/{job_id}")
