"""A process that has this folder on its path finds the names of `silent.test` on no name server, after ten seconds."""

import socket
import time
from typing import Any

SECONDS = 10
_ask_system = socket.getaddrinfo


def _getaddrinfo(host: Any, *others: Any, **options: Any) -> Any:
    if str(host).endswith(".silent.test"):
        time.sleep(SECONDS)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    return _ask_system("127.0.0.1" if str(host).endswith(".test") else host, *others, **options)


socket.getaddrinfo = _getaddrinfo
