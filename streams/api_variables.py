"""What commands and the API tell each other: variables of the command line alone, a file, and a header."""

URL_VARIABLE = "SCORM_WEBHOOKS_API_URL"
KEY_VARIABLE = "SCORM_WEBHOOKS_API_KEY"
PROFILE_VARIABLE = "SCORM_WEBHOOKS_PROFILE"
# Settings of `api`, too: where it writes its local key, commands on the same machine read it.
LOCAL_KEY_FILE_VARIABLE = "SCORM_WEBHOOKS_LOCAL_KEY_FILE"
DATA_DIR_VARIABLE = "SCORM_WEBHOOKS_DATA_DIR"
DEFAULT_DATA_DIR = ".scorm-webhooks"
LOCAL_KEY_FILE = "api.json"
# Names the account that an operator's key acts for.
ACCOUNT_HEADER = "Scorm-Webhooks-Account"
ALL_ACCOUNTS = "*"
