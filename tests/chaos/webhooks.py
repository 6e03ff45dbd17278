"""Pauses, enabling, rotation and replays while stages are killed."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import psycopg

from chaos.scenario import ScenarioRun
from e2e.system import until

CHOICES = {"deliver": "delivered", "keep": "dead", "discard": "discarded"}


def pause_and_enable(scenario_run: ScenarioRun, rounds: int) -> None:
    """Each choice for held deliveries, on its own webhook; the deliveries end as chosen."""
    webhooks = {choice: scenario_run.customer(choice) for choice in CHOICES}
    run = scenario_run.loaded.system.run
    for _ in range(rounds):
        with ThreadPoolExecutor() as pool:
            killing = pool.submit(kill_in_turn, scenario_run, "deliver", "record")
            for webhook in webhooks.values():
                run("webhooks", "pause", webhook)
            for webhook in webhooks.values():
                until(partial(has_delivery, scenario_run, webhook, "held"), 60, "something held")
            killing.result()
        with ThreadPoolExecutor() as pool:
            killing = pool.submit(kill_in_turn, scenario_run, "deliver")
            for choice, webhook in webhooks.items():
                run("webhooks", "enable", webhook, "--held", choice)
            killing.result()
    for choice, webhook in webhooks.items():
        until(partial(has_delivery, scenario_run, webhook, CHOICES[choice]), 60, f"something {CHOICES[choice]}")


def rotate_and_replay(scenario_run: ScenarioRun, rounds: int, also: tuple[str, ...]) -> None:
    """Rotate a webhook's secrets; keep its held deliveries as dead letters and replay them.

    The stages in `also` are killed too, beside `deliver` and `record`.
    """
    webhook = scenario_run.customer("rotating")
    run = scenario_run.loaded.system.run
    for _ in range(rounds):
        with ThreadPoolExecutor() as pool:
            killing = pool.submit(kill_in_turn, scenario_run, *also, "deliver")
            run("webhooks", "rotate-secret", webhook, "--overlap-hours", "0")
            run("webhooks", "pause", webhook)
            until(partial(has_delivery, scenario_run, webhook, "held"), 60, "something held")
            killing.result()
        run("webhooks", "enable", webhook, "--held", "keep")
        until(partial(has_delivery, scenario_run, webhook, "dead"), 60, "something dead")
        with ThreadPoolExecutor() as pool:
            killing = pool.submit(kill_in_turn, scenario_run, "deliver", "record", *also)
            run("webhooks", "rotate-secret", webhook)
            run("dead-letters", "retry", "--all", "--yes", "--webhook", webhook)
            run("webhooks", "finish-rotation", webhook)
            killing.result()
    until(partial(has_delivery, scenario_run, webhook, "delivered"), 60, "something delivered")


def kill_in_turn(scenario_run: ScenarioRun, *stages: str) -> None:
    for stage in stages:
        scenario_run.kill(stage)


def has_delivery(scenario_run: ScenarioRun, webhook: str, state: str) -> bool:
    query = "SELECT 1 FROM deliveries WHERE webhook_id = %s AND state = %s LIMIT 1"
    with psycopg.connect(scenario_run.loaded.database_url) as connection:
        return connection.execute(query, [webhook, state]).fetchone() is not None
