"""`python -m chaos`: runs the scenarios and prints a line for each, and a table at the end."""

import argparse
import random
import signal
import sys
from pathlib import Path

import parts
from chaos.scenarios import scenarios
from chaos.servers import Servers
from chaos.table import line, table


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("names", nargs="*", help="only these scenarios")
    parser.add_argument("--short", action="store_true", help="the short forms, as in CI")
    parser.add_argument(
        "--seed", type=int, default=random.randrange(10**6), help="of the random choices (default: random)"
    )
    parser.add_argument(
        "--pictures", type=Path, metavar="FOLDER", help="of `alerts`: pictures of Prometheus, into this folder"
    )
    parser.add_argument("--list", action="store_true", help="name the scenarios and end")
    given = parser.parse_args()
    known = scenarios(not given.short, given.pictures)
    if unknown := set(given.names) - {scenario.name for scenario in known}:
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    chosen = [scenario for scenario in known if not given.names or scenario.name in given.names]
    if given.list:
        print(*(scenario.name for scenario in chosen), sep="\n")
        return 0
    if given.pictures:
        if "alerts" not in {scenario.name for scenario in chosen}:
            parser.error("--pictures: only the scenario alerts takes pictures")
        if not all(map(parts.bring, parts.OF_PICTURES)):
            return 1
        given.pictures.mkdir(parents=True, exist_ok=True)
    print(f"seed {given.seed}", flush=True)
    rows = []
    # A signal to this process must end all that it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with Servers(given.seed) as servers:
        for scenario in chosen:
            row = servers.play(scenario)
            rows.append(row)
            print(line(row), *row.complaints, sep="\n", flush=True)
    print(f"\n{table(rows)}\nseed {given.seed}")
    return 0 if all(row.is_good for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
