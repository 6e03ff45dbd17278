"""Pages that erase a learner: a form, a question, and the progress."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.learners.models import erasure_of
from api.shell.forms import Form, form_of
from api.shell.once import new_once, once
from api.shell.page_route import PageRoute
from api.shell.rendering import redirect, render
from api.shell.visits import Visit, visit_of
from streams.core.access import Scope
from streams.core.account import DeliveryFilter
from streams.core.errors import FieldError, Invalid

router = APIRouter(include_in_schema=False, route_class=PageRoute)


async def _allowed(request: Request) -> Visit:
    visit = await visit_of(request)
    visit.require(Scope.LEARNERS_ERASE)
    return visit


def _form(request: Request, visit: Visit, entered: str = "", errors: tuple[FieldError, ...] = ()) -> Response:
    status = 422 if errors else 200
    return render(
        request, "learner.html", visit, status=status, errors=errors, here="/account/learners", entered=entered
    )


@router.get("/account/learners")
async def learner_page(request: Request) -> Response:
    """Ask for the learner's id."""
    return _form(request, await _allowed(request))


@router.post("/account/learners")
async def question(request: Request) -> Response:
    """Say what would be erased, and ask. The id is in no URL, which others may log."""
    visit = await _allowed(request)
    learner = (await form_of(request))["learner"]
    try:
        visit.services.learners.check(learner)
    except Invalid as wrong:
        return _form(request, visit, learner, wrong.errors)
    found = await visit.services.deliveries.summary(DeliveryFilter(visit.account.id, learner_id=learner))
    return render(
        request,
        "learner_erase.html",
        visit,
        here="/account/learners",
        learner=learner,
        found=found,
        once=new_once(),
        topics=visit.services.learners.topics,
    )


@router.post("/account/learners/erase")
async def erase(request: Request) -> Response:
    """For ever."""
    visit = await _allowed(request)
    form = await form_of(request)
    return await once(visit, form, lambda: _erase(request, visit, form))


async def _erase(request: Request, visit: Visit, form: Form) -> Response:
    try:
        erasure = await visit.services.learners.erase(visit.account.id, form["learner"], by=visit.member.actor)
    except Invalid as wrong:
        return _form(request, visit, form["learner"], wrong.errors)
    return redirect(f"/account/erasures/{erasure.id}")


@router.get("/account/erasures/{erasure_id}")
async def erasure_page(erasure_id: str, request: Request) -> Response:
    """The progress of an erasure, and what it erased."""
    visit = await _allowed(request)
    learners = visit.services.learners
    erasure = erasure_of(await learners.find(erasure_id, visit.account.id), learners.topics)
    return render(request, "erasure.html", visit, erasure=erasure)
