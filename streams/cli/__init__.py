"""The command line; `scorm-webhooks --help` explains it."""
