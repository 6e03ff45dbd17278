"""The check that a process has the right encryption keys."""

from streams.core.errors import Unavailable

# Encrypted once, with the first key. A process whose keys do not decrypt it has the wrong keys.
CHECK_TEXT = "scorm-webhooks"
WRONG_KEYS_MESSAGE = (
    "SCORM_WEBHOOKS_ENCRYPTION_KEYS: no key decrypts the secrets that are stored. "
    "Set the same keys as in the other processes; during a change of keys, set the old and the new one"
)


class WrongKeys(Unavailable):
    """This process has no key that decrypts the texts of the others."""

    def __init__(self) -> None:
        super().__init__(WRONG_KEYS_MESSAGE)
