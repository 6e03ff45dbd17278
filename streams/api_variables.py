"""Variables of the command line alone: the API that commands use by HTTP, and its key. Servers ignore them."""

URL_VARIABLE = "SCORM_WEBHOOKS_API_URL"
KEY_VARIABLE = "SCORM_WEBHOOKS_API_KEY"
