"""`python -m tests.profiles auto host-report`: the same load under two sets of kernel values, on one board.

The board of the inventory is provisioned already (`make up`). It gets each profile in turn, `--rounds` times, boots,
and is loaded for a minute as in `tests/budget`, with the swap that its tier allows. The report is printed and lies in
`reports/`. At the end the board has its own store and its inventory's values again. The board is taken for about four
minutes a run.
"""

from __future__ import annotations

import argparse
import datetime
import shutil
import sys
import tempfile
from pathlib import Path

from tests.appliance import BoardError
from tests.budget.scenario import SECONDS, corpus_loaded
from tests.cache import REPOSITORY
from tests.corpus.snapshot import build
from tests.profiles.bench import Bench
from tests.profiles.comparison import Measured, measured, report
from tests.profiles.profile import Profile, ProfileError, parse_all


def main() -> int:
    """Compare; return 1 where that cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m tests.profiles", description=__doc__)
    parser.add_argument(
        "profiles",
        nargs="+",
        metavar="PROFILE",
        help="sysctl profile (auto, host-report, keep), or variables: sysctl_profile=auto,readahead_kb=128",
    )
    parser.add_argument("--inventory", default=str(REPOSITORY / "ansible/inventory/emulated"), metavar="DIR")
    parser.add_argument("--board", default="", metavar="NAME", help="where the inventory has more than one")
    parser.add_argument(
        "--rounds", type=int, default=3, choices=range(1, 100), metavar="N", help="runs of each profile (default: 3)"
    )
    parser.add_argument("--reports", type=Path, default=REPOSITORY / "reports", metavar="DIR")
    given = parser.parse_args()
    try:
        profiles = parse_all(given.profiles)
        text = compare(Bench(given.inventory, given.board), profiles, given.rounds)
    except (ProfileError, BoardError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    given.reports.mkdir(parents=True, exist_ok=True)
    file = given.reports / f"{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}-profiles.md"
    file.write_text(text, "utf-8")
    sys.stdout.write(f"{text}\nreport: {file}\n")
    return 0


def compare(bench: Bench, profiles: list[Profile], rounds: int) -> str:
    """Return the report of the comparison on `bench`; rounds alternate, so that a drift hits all profiles alike."""
    tier = bench.board.tier
    corpus = build(semantic=tier.semantic, tell=tell)
    head = bench.described() | {
        "Load": f"{SECONDS} s of recalls, sessions and ingest over {corpus.documents} documents"
    }
    runs: list[Measured] = []
    kept = Path(tempfile.mkdtemp(prefix="pinch-profiles-"))
    tell(f"the store of {bench.name} is kept in {kept} meanwhile")
    with corpus_loaded(bench.board, corpus, tier, kept / "board.snapshot"):
        try:
            for number in range(1, rounds + 1):
                for profile in profiles:
                    tell(f"round {number} of {rounds}: {profile.name}")
                    bench.give(profile)
                    head[f"Under {profile.name}"] = bench.values()
                    runs.append(measured(profile.name, bench.load(corpus), tier))
        finally:
            bench.give(None)
    shutil.rmtree(kept)
    return report(runs, head)


def tell(line: str) -> None:
    """Say what goes on."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    raise SystemExit(main())
