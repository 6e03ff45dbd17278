"""Wait until each URL of the arguments answers 200; end with 1 and the last answer if one does not in time."""

import sys
import time
import urllib.error
import urllib.request

DEADLINE = time.monotonic() + 120


def answer(url: str) -> str | None:
    """Why this URL does not answer 200. None if it does."""
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError as error:
        return f"{error.code}: {error.read(1000).decode(errors='replace').strip()}"
    except OSError as error:
        return str(error)
    return None


failed = False
for url in sys.argv[1:]:
    while (why := answer(url)) and time.monotonic() < DEADLINE:
        time.sleep(1)
    print(f"{url}: {why or 'ready'}", flush=True)
    failed = failed or why is not None
sys.exit(1 if failed else 0)
