"""Commands for events, where `publish` knows Kafka too."""

import os

from scorm_webhooks_cli.events import EventsArgument, events, publish_by_api, show_published
from scorm_webhooks_cli.input_file import read_text
from scorm_webhooks_cli.output import JsonOption


# In place of the client's command.
@events.command("publish")
def events_publish(file: EventsArgument, as_json: JsonOption = False) -> None:
    """Publish events: the payload's JSON plus `accountId`, one a line. All are checked before the first is published.

    Prints how many webhooks want them. With KAFKA_BOOTSTRAP_SERVERS they go to Kafka; then without the database
    accounts are not checked and webhooks are not counted. Else they go through the API in portions; the API also checks
    their accounts. With an account's key a line needs no `accountId`.
    """
    text = read_text(file)
    if os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        from streams.cli.kafka_events import publish_to_kafka

        published = publish_to_kafka(text, is_quiet=as_json)
    else:
        published = publish_by_api(text, is_quiet=as_json)
    show_published(published, as_json)
