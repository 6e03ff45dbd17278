"""What tells that a process has the right encryption keys."""

from streams.core.errors import Unavailable

# Encrypted once, with the first key; a process of which no key opens it has the wrong ones.
CHECK_TEXT = "scorm-webhooks"
WRONG_KEYS = (
    "SCORM_WEBHOOKS_ENCRYPTION_KEYS: no key opens what is encrypted already. "
    "Set the keys that the other processes have; during a change of keys, both"
)


class WrongKeys(Unavailable):
    """No key of this process opens what the others encrypt."""

    def __init__(self) -> None:
        super().__init__(WRONG_KEYS)
