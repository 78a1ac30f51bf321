"""`python -m tests.fleet`, run by ansible/verify.yml: verify the hosts that the JSON on standard input names.

Prints JSON: the report's path, and of each host that did not pass the reason.
"""

from __future__ import annotations

import datetime
import json
import sys
import tempfile
from pathlib import Path

from .plan import PlanError, read_plan
from .pool import run_all
from .report import head, in_order, write
from .results import not_reached, read_result


def main() -> int:
    """Verify; return 1 where it could not be done at all."""
    begin = datetime.datetime.now(datetime.UTC)
    try:
        plan = read_plan(json.load(sys.stdin))
        folder = plan.reports / f"{begin:%Y%m%d-%H%M%S}-fleet"
        folder.mkdir(parents=True)
    except (PlanError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="pinch-verify-") as secrets:
        runs = run_all(plan, folder / "hosts", Path(secrets), _tell)
    results = [read_result(run, plan.limit_s) for run in runs]
    results += [not_reached(host) for host in plan.hosts if host.why]
    page, text, junit = write(folder, head(plan, begin), results)
    bad = {host.name: f"{host.verdict}: {host.reason}" for host in in_order(results) if host.verdict != "passed"}
    said = {"page": str(page), "text": str(text), "junit": str(junit), "bad": bad, "parallel": plan.parallel}
    print(json.dumps({**said, "seconds": round((datetime.datetime.now(datetime.UTC) - begin).total_seconds(), 1)}))
    return 0


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
