"""Watches on the board what swaps, until it is ended; writes what it saw as JSON after every change.

The kernel wakes whoever polls `/proc/swaps` at each change; between them it is read every 20 ms all the same.
"""

from __future__ import annotations

import argparse
import json
import select
import time
from pathlib import Path


def main() -> None:
    """Watch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="file to write to")
    out: Path = parser.parse_args().out
    with Path("/proc/swaps").open(encoding="utf-8") as swaps:
        poll = select.poll()
        poll.register(swaps, select.POLLPRI)
        seen: list[list[str]] = []
        samples, begin, latest, gap = 0, time.monotonic(), time.monotonic(), 0.0
        while True:
            swaps.seek(0)
            areas = sorted(line.split()[0] for line in swaps.read().splitlines()[1:])
            now = time.monotonic()
            samples, gap, latest = samples + 1, max(gap, now - latest), now
            if not seen or seen[-1] != areas or samples % 50 == 0:
                seen += [areas] if not seen or seen[-1] != areas else []
                report = {
                    "samples": samples,
                    "seconds": round(now - begin, 1),
                    "longest_gap_s": round(gap, 2),
                    "most": max(map(len, seen)),
                    "seen": seen,
                }
                new = out.with_suffix(".new")
                new.write_text(json.dumps(report), "utf-8")
                new.replace(out)
            poll.poll(20)


if __name__ == "__main__":
    main()
