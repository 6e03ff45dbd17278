"""Pages that erase a learner: a form, a question, and the progress."""

from fastapi import APIRouter
from starlette.responses import Response

from api.admission import in_class
from api.learners.models import erasure_of
from api.shell.forms import SentForm
from api.shell.once import new_form_key, run_once
from api.shell.page_route import PageRoute
from api.shell.rendering import redirect, render
from api.shell.visits import MayEraseLearners, Visit
from streams.core.accounts.account import DeliveryFilter
from streams.core.errors import FieldError, Invalid
from streams.core.queues.request_class import RequestClass

router = APIRouter(include_in_schema=False, route_class=PageRoute)


def _form(visit: Visit, learner_id: str = "", errors: tuple[FieldError, ...] = ()) -> Response:
    return render(visit, "learner.html", errors=errors, return_path="/account/learners", learner_id=learner_id)


@router.get("/account/learners")
async def learner_page(visit: MayEraseLearners) -> Response:
    """Ask for the learner's id."""
    return _form(visit)


@router.post("/account/learners")
@in_class(RequestClass.SLOW)
async def question(visit: MayEraseLearners, form: SentForm) -> Response:
    """Show what would be erased, and ask for confirmation. The id is not in the URL, because URLs are logged."""
    learner = form["learner"]
    try:
        visit.services.learners.check(learner)
    except Invalid as error:
        return _form(visit, learner, error.errors)
    summary = await visit.services.deliveries.summary(DeliveryFilter(visit.account.id, learner_id=learner))
    return render(
        visit,
        "learner_erase.html",
        return_path="/account/learners",
        learner=learner,
        summary=summary,
        once=new_form_key(),
        topics=visit.services.learners.topics,
    )


@router.post("/account/learners/erase")
@in_class(RequestClass.SLOW)
@run_once
async def erase(visit: MayEraseLearners, form: SentForm) -> Response:
    """Erase the learner; this cannot be undone."""
    try:
        result = await visit.services.learners.erase(visit.account.id, form["learner"], actor=visit.actor)
    except Invalid as error:
        return _form(visit, form["learner"], error.errors)
    return redirect(f"/account/erasures/{result.erasure.id}")


@router.get("/account/erasures/{erasure_id}")
async def erasure_page(erasure_id: str, visit: MayEraseLearners) -> Response:
    """The progress of an erasure, and what it erased."""
    learners = visit.services.learners
    erasure = erasure_of(await learners.find(erasure_id, visit.account.id), learners.topics)
    return render(visit, "erasure.html", erasure=erasure)
