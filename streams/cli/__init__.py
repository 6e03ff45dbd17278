"""The command line: `scorm-webhooks --help` teaches it."""
