"""`python -m streams` and `scorm-webhooks`: run a command, tell its errors to a person."""

import sys

from streams.cli.app import app
from streams.core.errors import Invalid, Misconfigured, NotFound, ScormWebhooksError

BAD_INPUT = 1
MISCONFIGURED = 2
FAILED = 3


def main() -> None:
    """Exit codes: 0 done, 1 bad input, 2 something must be set, 3 the process could not go on."""
    try:
        app()
    except Invalid as wrong:
        for error in wrong.errors:
            print(f"error: {error}", file=sys.stderr)
        sys.exit(BAD_INPUT)
    except NotFound as missing:
        print(f"error: {missing}", file=sys.stderr)
        sys.exit(BAD_INPUT)
    except Misconfigured as wrong:
        print(f"error: {wrong}", file=sys.stderr)
        sys.exit(MISCONFIGURED)
    except ScormWebhooksError as failed:
        print(f"error: {failed}", file=sys.stderr)
        sys.exit(FAILED)


if __name__ == "__main__":
    main()
