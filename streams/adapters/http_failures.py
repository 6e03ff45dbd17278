"""Every way in which a POST can fail, in the words of an outcome."""

import errno
import os
import ssl
from collections.abc import Mapping

from aiohttp import (
    ClientConnectionError,
    ClientConnectorDNSError,
    ClientConnectorError,
    ClientPayloadError,
    ClientResponseError,
)
from aiohttp.http_exceptions import ContentLengthError

from streams.adapters.guarded_connector import EndlessAnswer, ForbiddenAddress, Trail
from streams.core.outcome import Failure, Kind

MOST_WORDS = 200


def failure_of(error: Exception, trail: Trail) -> Failure:
    return Failure(Kind.UNSENDABLE, repr(error))
