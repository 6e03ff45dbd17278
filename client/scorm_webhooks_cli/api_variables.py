"""The variables by which a command finds the API."""

URL_VARIABLE = "SCORM_WEBHOOKS_API_URL"
KEY_VARIABLE = "SCORM_WEBHOOKS_API_KEY"
PROFILE_VARIABLE = "SCORM_WEBHOOKS_PROFILE"
# Settings of `api`, too: where it writes its local key, commands on the same machine read it.
LOCAL_KEY_FILE_VARIABLE = "SCORM_WEBHOOKS_LOCAL_KEY_FILE"
DATA_DIR_VARIABLE = "SCORM_WEBHOOKS_DATA_DIR"
DEFAULT_DATA_DIR = ".scorm-webhooks"
LOCAL_KEY_FILE = "api.json"
