"""Routes for sessions of SCORM courses, which the platform opens when a learner launches one."""

from typing import Annotated

from fastapi import APIRouter, Body, Request, Response

from api.admission import in_class
from api.auth import MayPublish, MayReadDeliveries, account_of
from api.course_sessions.models import (
    CourseSessionDetails,
    NewSession,
    OpenSession,
    SessionAccount,
    course_session,
    open_session,
)
from api.services import services_of
from api.shared_models import Id
from api.strict_route import StrictRoute
from streams.core.queues.request_class import RequestClass

router = APIRouter(tags=["SCORM sessions"], route_class=StrictRoute)


@router.post("/v1/sessions", status_code=201, summary="Open a session", operation_id="openSession")
@in_class(RequestClass.COMMIT)
async def open_course_session(new: NewSession, caller: MayPublish, request: Request, response: Response) -> OpenSession:
    """At the launch of a course: `session.launched`, and the URL for its player.

    The `sessionId` of an open session makes a further commit URL, without an event; `known` is ignored then. With
    another package or learner, or when it is closed: 409.
    """
    opened_session = await services_of(request).course_sessions.open(
        account_of(caller, new.account_id), new.to_launch()
    )
    response.headers["Location"] = f"/v1/sessions/{opened_session.session.id}"
    return open_session(opened_session, str(request.base_url))


@router.get("/v1/sessions/{session_id}", summary="Get a session", operation_id="getSession")
async def get_course_session(session_id: Id, caller: MayReadDeliveries, request: Request) -> CourseSessionDetails:
    """What the session's player has reported so far."""
    session = await services_of(request).course_sessions.find(caller.own_account_id, session_id)
    return course_session(session)


@router.post("/v1/sessions/{session_id}/close", summary="Close a session", operation_id="closeSession")
@in_class(RequestClass.COMMIT)
async def close_course_session(
    session_id: Id,
    caller: MayPublish,
    request: Request,
    body: Annotated[SessionAccount | None, Body()] = None,
) -> CourseSessionDetails:
    """Its commit URLs end after 15 minutes, because the last commit of a closed tab may come late."""
    account_id = account_of(caller, body.account_id if body else None)
    return course_session(await services_of(request).course_sessions.close(account_id, session_id))
