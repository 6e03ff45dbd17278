"""The owner of a task, whose turn it uses of shared resources."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

from streams.core.queues.request_class import RequestClass


class RequestOwner(NamedTuple):
    """The class of a request, and the account whose limits it counts against. `began_at` is in the loop's time."""

    request_class: RequestClass
    account: str
    began_at: float = 0.0


_current_owner: ContextVar[RequestOwner | None] = ContextVar("request_owner", default=None)


def current_owner() -> RequestOwner | None:
    """The owner of this task; None outside of requests."""
    return _current_owner.get()


def request_started_at(now: float) -> float:
    """When the request of this task began to wait for its place; now outside of requests."""
    owner = _current_owner.get()
    return owner.began_at if owner and owner.began_at else now


@contextmanager
def work_for(owner: RequestOwner | None) -> Iterator[None]:
    """Work for an owner: a request, many requests of a class (with an empty account), or none."""
    token = _current_owner.set(owner)
    try:
        yield
    finally:
        _current_owner.reset(token)
