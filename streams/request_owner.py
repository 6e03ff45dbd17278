"""For whom a task works, which decides whose turn it uses of what is shared."""

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
    """For whom this task works; None outside of requests."""
    return _current_owner.get()


def began_at(now: float) -> float:
    """When the request of this task began to wait for its place; now outside of requests."""
    owner = _current_owner.get()
    return owner.began_at if owner and owner.began_at else now


@contextmanager
def work_for(owner: RequestOwner | None) -> Iterator[None]:
    """Work for a request; for many requests of a class, which share an empty account; or for none."""
    token = _current_owner.set(owner)
    try:
        yield
    finally:
        _current_owner.reset(token)
