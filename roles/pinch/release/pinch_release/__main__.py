"""`python -m pinch_release`: build or find releases and print them as JSON, by name, as in `minimal-3.13-arm64`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from .errors import ReleaseError
from .recipe import Recipe
from .store import obtain


def main() -> int:
    """Build what is asked for; return 0, or 1 with one sentence on standard error."""
    parser = argparse.ArgumentParser(prog="pinch_release", description=__doc__)
    parser.add_argument("releases", nargs="+", help="<flavour>-<Python>-<architecture>, as minimal-3.13-arm64")
    parser.add_argument("--service", type=Path, required=True, help="folder of the service's sources and locks")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="folder of built releases")
    options = parser.parse_args()
    releases = {}
    built = []
    try:
        # All are looked at before the first, which may take minutes, is built.
        recipes = {name: Recipe.named(options.service.resolve(), name) for name in options.releases}
        for name, recipe in recipes.items():
            release, fresh = obtain(recipe, options.cache)
            releases[name] = asdict(release)
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
