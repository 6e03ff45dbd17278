"""All commands at once."""

from streams.cli.commands import GROUPS, create_app

app = create_app(GROUPS)
