"""The names of webhooks in lists, and their URLs as each role sees them."""

from collections.abc import Iterable, Mapping

from api.shell.visits import Visit
from api.visibility import visible
from streams.core.deliveries.delivery_state import DeliveryState
from streams.core.webhooks.webhook import ListedWebhook


async def names_of(visit: Visit, rows: Iterable[DeliveryState], *extra_ids: str) -> Mapping[str, str]:
    """The name of the webhook of each of these deliveries, by webhook id."""
    return await names_by_id(visit, {*(row.webhook_id for row in rows), *extra_ids})


async def names_by_id(visit: Visit, webhook_ids: Iterable[str]) -> Mapping[str, str]:
    """The names of these webhooks by id, if the account has or had them."""
    webhooks_by_id = await visit.services.webhooks.find_many(visit.account.id, set(webhook_ids))
    return {
        key: webhook_name(listed_webhook) for key, listed_webhook in visible(webhooks_by_id, visit.permissions).items()
    }


async def webhook_of(visit: Visit, webhook_id: str) -> ListedWebhook | None:
    """A webhook as this person sees it, including a deleted one while it is kept."""
    webhooks_by_id = await visit.services.webhooks.find_many(visit.account.id, {webhook_id})
    return visible(webhooks_by_id, visit.permissions).get(webhook_id)


def webhook_name(listed_webhook: ListedWebhook | None) -> str:
    """The webhook's title, and whether it is deleted."""
    if listed_webhook is None:
        return "a deleted webhook"
    return f"{listed_webhook.title}{', deleted' if listed_webhook.deleted_at else ''}"


async def actor_names(visit: Visit) -> Mapping[str, str]:
    """The names of the account's users and API keys, by id."""
    users = await visit.services.access.users(visit.account.id)
    keys = await visit.services.access.keys(visit.account.id)
    return {user.id: user.email for user in users} | {key.id: f"the API key “{key.name}”" for key in keys}


def actor_name(actor: str, people: Mapping[str, str]) -> str:
    """The name of an actor in the audit log: an e-mail address, or the name of a key."""
    kind, _, name = actor.partition(":")
    if kind in ("user", "key"):
        return people.get(name, "a former user" if kind == "user" else "an API key")
    if kind == "oidc":
        return f"{name}, by OpenID Connect"
    if kind == "cli":
        return f"{name}, by the command line"
    return "the platform" if kind in ("operator", "oidc-operator") else f"the platform ({actor})"
