"""What commands tell an API: variables of the command line alone, which servers ignore, and a header."""

URL_VARIABLE = "SCORM_WEBHOOKS_API_URL"
KEY_VARIABLE = "SCORM_WEBHOOKS_API_KEY"
PROFILE_VARIABLE = "SCORM_WEBHOOKS_PROFILE"
# Only the API's routes in the command's own process read it (`api/local.py`).
LOCAL_ACCOUNT_HEADER = "X-Local-Account"
