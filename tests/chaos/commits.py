"""The API is killed while SCORM players commit; a player repeats what had no answer."""

import json
import urllib.request
from collections import Counter
from contextlib import ExitStack
from functools import partial

import psycopg

from chaos.kills import restless_customer
from chaos.scenario import ScenarioRun
from e2e.players import EXPECTED, STEPS, Players
from e2e.system import System, until
from real.process import free_ports

SESSIONS = 40
# Each player's last steps take a status back; only a webhook that names this type gets it.
RESET = "session.reset"


def kill_api(scenario_run: ScenarioRun, times: int, publish_times: int) -> None:
    """Kill `api` between storing a commit and its answer, and `publish` between sending an event and forgetting it."""
    loaded = scenario_run.loaded
    opened = loaded.system.run("accounts", "create", "Platform", "--json")
    webhook = loaded.webhook(opened["id"], f"{scenario_run.name}-players")
    with scenario_run.member("api") as api, ExitStack() as stack:
        [port] = free_ports(1)
        api.env["SCORM_WEBHOOKS_API_PORT"] = str(port)
        api.start(("api",))
        players = Players(f"http://127.0.0.1:{port}", opened["apiKey"], SESSIONS, scenario_run.seed)
        if publish_times:
            stack.enter_context(restless_customer(scenario_run))
        players.start()
        for kill in range(1, times + 1):
            until(partial(players.have_committed, kill * SESSIONS * len(STEPS) // (times + 1)), 60, "commits")
            _kill(scenario_run, api)
        for _ in range(publish_times):
            scenario_run.kill("publish")
        players.wait()
        events = [event for number in range(SESSIONS) for event in _events(players, number)]
    _expect(scenario_run, webhook, events)


def _kill(scenario_run: ScenarioRun, api: System) -> None:
    api.kill("api")
    scenario_run.kills += 1
    api.launch("api")
    until(partial(api.is_ready, "api"), 60, "api ready")


def _events(players: Players, number: int) -> list[str]:
    """The ids of the events of a session that a webhook of `*` gets, from those that the API lists."""
    request = urllib.request.Request(
        f"{players.api_url}/v1/sessions/{players.session_id(number)}",
        headers={"Authorization": f"Bearer {players.api_key}"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        listed = json.load(response)["events"]
    assert Counter(one["type"] for one in listed) == {**EXPECTED, RESET: 1}, listed
    return [one["id"] for one in listed if one["type"] != RESET]


def _expect(scenario_run: ScenarioRun, webhook: str, events: list[str]) -> None:
    """Tell the checker of the events that are owed, and wait until they are delivered."""
    scenario_run.loaded.load.add(webhook, events)

    def delivered() -> int:
        query = "SELECT count(*) FROM deliveries WHERE webhook_id = %s AND state = 'delivered'"
        with psycopg.connect(scenario_run.loaded.database_url) as connection:
            [count] = connection.execute(query, [webhook]).fetchone() or [0]
        return int(count)

    until(lambda: delivered() >= len(events), 90, lambda: f"{delivered()} of {len(events)} delivered")
