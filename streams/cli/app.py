"""All commands at once."""

from scorm_webhooks_cli.root import COMMANDS
from streams.cli.commands import GROUPS, create_app

app = create_app([*GROUPS, *COMMANDS])
