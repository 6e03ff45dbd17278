"""A socket that listens, or one line that says which setting to change."""

import errno
import os
import socket

from streams.core.errors import Misconfigured


def listen(host: str, port: int, settings: str) -> socket.socket:
    """Listen at once, port 0 being any free one. Raises `Misconfigured`, naming `<settings>_HOST` or `_PORT`."""
    try:
        return socket.create_server((host, port), family=_family(host, port), backlog=socket.SOMAXCONN)
    except socket.gaierror as error:
        wrong, why, instead = "HOST", error.strerror, "an address of this machine"
    except UnicodeError:
        wrong, why, instead = "HOST", "it is no name of a host", "an address of this machine"
    except OSError as error:
        # What socket.create_server says repeats the address.
        why = os.strerror(error.errno or 0)
        is_elsewhere = error.errno == errno.EADDRNOTAVAIL
        wrong, instead = ("HOST", "an address of this machine") if is_elsewhere else ("PORT", "another port")
    raise Misconfigured(f"{settings}_{wrong}: cannot listen on {host}:{port} ({why}); choose {instead}")


def _family(host: str, port: int) -> socket.AddressFamily:
    """Of a name that has both kinds of address, the older one: `localhost` is 127.0.0.1."""
    families = {found[0] for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    return socket.AF_INET if socket.AF_INET in families else socket.AF_INET6
