"""`python -m pinch_release`: build or find releases and print them as JSON, by flavour."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from .errors import ReleaseError
from .recipe import FLAVOURS, Recipe
from .store import obtain
from .target import Target


def main() -> int:
    """Build what is asked for; return 0, or 1 with one sentence on standard error."""
    parser = argparse.ArgumentParser(prog="pinch_release", description=__doc__)
    parser.add_argument("flavours", nargs="+", choices=FLAVOURS)
    parser.add_argument("--service", type=Path, required=True, help="folder of the service's sources and locks")
    parser.add_argument("--python", default="3.13", help="Python of the board")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="folder of built releases")
    options = parser.parse_args()
    releases = {}
    built = []
    try:
        for flavour in options.flavours:
            release, fresh = obtain(Recipe(options.service.resolve(), flavour, Target(options.python)), options.cache)
            releases[flavour] = asdict(release)
            built += [release.name] if fresh else []
    except ReleaseError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps({"releases": releases, "built": built}))
    return 0


def default_cache() -> Path:
    """Return the releases' folder in this project's cache."""
    root = os.environ.get("PINCH_CACHE")
    return (Path(root) if root else Path.home() / ".cache" / "pinch") / "releases"


if __name__ == "__main__":
    sys.exit(main())
