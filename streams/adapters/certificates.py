"""Trust certificate authorities in addition to the system's."""

import ssl
from pathlib import Path

from streams.core.errors import Misconfigured


def trust_ca_file(context: ssl.SSLContext, ca_file: Path | None) -> None:
    """Trust the authorities of a PEM file. Raises `Misconfigured` for a file without any."""
    if ca_file is None:
        return
    try:
        context.load_verify_locations(ca_file)
    except OSError as error:
        raise Misconfigured(f"SCORM_WEBHOOKS_CA_FILE: {ca_file} must hold certificates in PEM form ({error})") from None
