"""Open a listening socket."""

import errno
import os
import socket

from streams.core.errors import Misconfigured

# The bytes of a response that its client does not read; the kernel doubles this number. Its own limit is 4 MiB.
_SEND_BUFFER_BYTES = 128 * 1024


def listen(host: str, port: int, settings_prefix: str, *, is_shared: bool = False) -> socket.socket:
    """Listen on a port. Port 0 means any free one. Raises `Misconfigured`, which names `<settings>_HOST` or `_PORT`.

    Several processes may listen on an `is_shared` port: the kernel distributes its connections among them.
    """
    try:
        listening = socket.create_server(
            (host, port), family=_address_family(host, port), backlog=socket.SOMAXCONN, reuse_port=is_shared
        )
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        return listening
    except socket.gaierror as error:
        wrong_setting, reason, suggestion = "HOST", error.strerror, "an address of this machine"
    except UnicodeError:
        wrong_setting, reason, suggestion = "HOST", "not a valid host name", "an address of this machine"
    except OSError as error:
        # The message of socket.create_server repeats the address.
        reason = os.strerror(error.errno or 0)
        is_elsewhere = error.errno == errno.EADDRNOTAVAIL
        wrong_setting, suggestion = ("HOST", "an address of this machine") if is_elsewhere else ("PORT", "another port")
    raise Misconfigured(
        f"{settings_prefix}_{wrong_setting}: cannot listen on {host}:{port} ({reason}); choose {suggestion}"
    )


def _address_family(host: str, port: int) -> socket.AddressFamily:
    """The address family of a host: IPv4 if it has both, so that `localhost` is 127.0.0.1."""
    families = {address[0] for address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    return socket.AF_INET if socket.AF_INET in families else socket.AF_INET6
