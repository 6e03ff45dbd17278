"""Commands that maintain a deployment: topics, db, keys, secrets."""

import asyncio
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Annotated

import typer

from scorm_webhooks_cli.output import JsonOption, progress_bar, show
from scorm_webhooks_cli.text import say
from streams.acls import command, rules
from streams.adapters.encryption import generate_key
from streams.cli.deployment import current_actor, run_in_deployment
from streams.cli.groups import lag, skip
from streams.core.errors import Misconfigured, Unavailable
from streams.runtime.bootstrap import SqlDeployment
from streams.topics import RETRY_PREFIX

topics = typer.Typer(no_args_is_help=True)
db = typer.Typer(no_args_is_help=True)
keys = typer.Typer(no_args_is_help=True)
secrets = typer.Typer(no_args_is_help=True)


@topics.command("plan")
def topics_plan(as_json: JsonOption = False) -> None:
    """Show what `apply` would do, and change nothing. Exit code 2 if `apply` would refuse a part of it."""
    deployment = _on_a_broker()
    plan = deployment.topics_admin().plan(deployment.topics)
    prefix = deployment.settings.topic_prefix
    show([{"action": str(c.action), "topic": prefix + c.topic.name, "why": c.message} for c in plan], as_json)
    if any(change.is_refused for change in plan):
        raise typer.Exit(2)


@topics.command("apply")
def topics_apply(
    remove_retired: Annotated[
        bool,
        typer.Option("--remove-retired", help="Delete the tiers that left the schedule; refused while records wait."),
    ] = False,
) -> None:
    """Create missing topics, add partitions, set configurations. A second time changes nothing."""
    deployment = _on_a_broker()
    admin = deployment.topics_admin()
    plan = admin.plan(deployment.topics, remove_retired=remove_retired)
    admin.apply(plan, deployment.settings.replication_factor)
    made_changes = [change for change in plan if change.is_pending]
    lost_retries = asyncio.run(
        _count_lost_retries(deployment, [change.topic.name for change in made_changes if change.action == "create"])
    )
    for change in made_changes:
        say(f"{change.action}: {deployment.settings.topic_prefix}{change.topic.name}: {change.message}")
        if count := lost_retries.get(change.topic.name):
            say(f"  {count} deliveries wait for a retry in it, and its records are gone: maintain sends them again")
    say(f"{len(made_changes)} of {len(plan)} topics changed")


def _on_a_broker() -> SqlDeployment:
    deployment = SqlDeployment.from_environment()
    if not deployment.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        raise Misconfigured("KAFKA_BOOTSTRAP_SERVERS is not set: the embedded broker of `up` makes its topics itself")
    return deployment


async def _count_lost_retries(deployment: SqlDeployment, topics: Collection[str]) -> Mapping[str, int]:
    """The deliveries that wait for a retry by a topic that was just made, if the database can say."""
    if not any(name.startswith(RETRY_PREFIX) for name in topics):
        return {}
    # `topics apply` needs no database, and at a first installation the tables are not there yet.
    with suppress(Misconfigured, Unavailable):
        waiting_by_topic = await deployment.overdue_retries().count_by_tier()
        await deployment.database.close()
        return {RETRY_PREFIX + tier: count for tier, count in waiting_by_topic.items()}
    return {}


@topics.command("acls")
def topics_acls(
    user: Annotated[
        str, typer.Option(help="Kafka's name of a stage's user; {stage} stands for the stage, or for topics.")
    ] = "scorm-webhooks-{stage}",
    as_json: JsonOption = False,
) -> None:
    """Show the commands that let each stage, and topics apply, do exactly what it must in Kafka.

    They change nothing until you run them.
    """
    prefix = SqlDeployment.from_environment().settings.topic_prefix
    rules_with_principals = [(rule, f"User:{user.replace('{stage}', rule.user)}") for rule in rules(prefix)]
    if as_json:
        fields = [{"principal": principal, **asdict(rule)} for rule, principal in rules_with_principals]
        show([{**one, "isPrefix": one.pop("is_prefix")} for one in fields], as_json)
        return
    for rule, principal in rules_with_principals:
        say(command(rule, principal))


topics.command("lag")(lag)
topics.command("skip")(skip)


@db.command("upgrade")
def db_upgrade(
    grant_to: Annotated[
        str | None,
        typer.Option(help="A role of PostgreSQL that may read and write rows then: the one that the stages use."),
    ] = None,
) -> None:
    """Migrate the database of DATABASE_URL to this version's schema. A second time changes nothing."""
    from streams.adapters.sql.engine.migrate import grant, upgrade
    from streams.adapters.sql.engine.pooler import store_session_settings

    deployment = SqlDeployment.from_environment()
    url = deployment.database_url
    upgrade(url)
    if grant_to is not None:
        grant(url, grant_to)
        say(f"{grant_to} may read and write rows")
    if deployment.settings.is_behind_pooler:
        store_session_settings(url, grant_to)
    say(f"{url.render_as_string(hide_password=True)} is up to date")


@keys.command("generate")
def keys_generate() -> None:
    """Print a new key for SCORM_WEBHOOKS_ENCRYPTION_KEYS. Add it behind the old ones first (see docs/security.md)."""
    say(generate_key())


@secrets.command("reencrypt")
def secrets_reencrypt() -> None:
    """Encrypt every webhook's secrets and headers with the first key.

    A day later you can remove the other keys: responses to requests with an Idempotency-Key are kept for a day.
    """
    with progress_bar() as progress:
        task_id = progress.add_task("encrypting", total=None)
        reencrypted_count = run_in_deployment(
            lambda deployment: deployment.secrets().reencrypt(
                lambda count, total: progress.update(task_id, completed=count, total=total), actor=current_actor()
            )
        )
    say(f"{reencrypted_count} webhooks encrypted with the first key")
