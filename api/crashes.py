"""Log an error in our own code."""

import traceback

from streams.ports.runtime import Telemetry


def log_crash(telemetry: Telemetry, request_id: str, error: Exception) -> None:
    """Log an error's type and place; its message may contain data that a customer sent."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    telemetry.error(
        "request_crashed",
        request_id=request_id,
        error=type(error).__name__,
        where=f"{where.filename}:{where.lineno}",
    )
