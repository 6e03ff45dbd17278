"""Several processes of the `api` stage on one port, with one health port for all of them."""

from streams.runtime.child_metrics import child_metrics
from streams.runtime.deployment import Deployment
from streams.runtime.health_server import serve_health
from streams.runtime.sockets import listen
from streams.runtime.supervisor import Supervisor, causes_with_stages
from streams.tasks import run_until_first_ends, stop_signal
from streams.telemetry import PrometheusTelemetry

SHARES_PORT_OPTION = "--shares-port"


async def serve_api(deployment: Deployment, count: int) -> None:
    """Run `count` processes of `api` until SIGTERM or SIGINT; a process that ends is started again.

    The kernel distributes new connections among them. The group is ready while one of them is. Raises `Misconfigured`.
    """
    settings, telemetry = deployment.settings, PrometheusTelemetry("api")
    # A port of another program would be shared with that program.
    listen(settings.api_host, settings.api_port, "SCORM_WEBHOOKS_API").close()
    health_socket = listen(settings.health_host, settings.health_port, "SCORM_WEBHOOKS_HEALTH")
    stop_event = stop_signal()
    names = [f"api-{number}" for number in range(1, count + 1)]
    supervisor = Supervisor(
        names,
        dict(deployment.environ),
        telemetry,
        settings.time_limits.kill_seconds,
        child_options=(SHARES_PORT_OPTION,),
        stage_of=lambda _: "api",
    )

    async def readiness_problems() -> list[str]:
        problems = await supervisor.problems()
        return causes_with_stages(problems) if len(problems) == count else []

    async def metrics() -> tuple[bytes, str]:
        return await child_metrics(supervisor, "process")

    async with serve_health(health_socket, readiness_problems, metrics, settings.notes) as port:
        telemetry.info("started", health_port=port, processes=count)
        await run_until_first_ends(supervisor.run, stop_event.wait)
        telemetry.info("stopped")
