"""The stages that one process may run together."""

from streams.core.errors import Misconfigured

# The name of such a process in logs, metrics and deployments.
BACKGROUND_NAME = "background"
BACKGROUND_STAGES = ("publish", "meter", "notify", "maintain")
RUN_BACKGROUND_ARGUMENTS = ("run", "--stages", ",".join(BACKGROUND_STAGES))
# Why a stage has a process of its own.
SEPARATE_STAGE_REASONS = {
    "fan-out": "Faust runs one consumer in a process, and every event waits for it",
    "deliver": "its requests would wait for the work of the other stages",
    "record": "under load it needs a core for itself",
    "api": "a request would wait for the work of the other stages",
}


def parse_stages(text: str) -> tuple[str, ...]:
    """Parse a comma-separated list of stages. Raises `Misconfigured`."""
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise Misconfigured(f"--stages: name one stage or more, such as {','.join(BACKGROUND_STAGES)}")
    for name in names:
        if name in SEPARATE_STAGE_REASONS:
            raise Misconfigured(
                f"--stages: {name} has a process of its own ({SEPARATE_STAGE_REASONS[name]}): "
                f"run `scorm-webhooks {name}`"
            )
        if name not in BACKGROUND_STAGES:
            raise Misconfigured(f"--stages: there is no stage {name!r}; choose from {', '.join(BACKGROUND_STAGES)}")
        if names.count(name) > 1:
            raise Misconfigured(f"--stages: {name} is there twice")
    return names
