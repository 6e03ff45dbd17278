"""A socket that listens, or one line that says which setting to change."""

import socket

from streams.core.errors import Misconfigured

BACKLOG = 2048


def listen(host: str, port: int, setting: str) -> socket.socket:
    """Listen at once, port 0 being any free one. Raises `Misconfigured`, naming `setting`."""
    try:
        return socket.create_server((host, port), backlog=BACKLOG, family=_family(host))
    except OSError as error:
        raise Misconfigured(
            f"{setting}: cannot listen on {host}:{port} ({error.strerror}); choose another port"
        ) from None


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
