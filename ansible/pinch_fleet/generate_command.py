"""`ansible/inventory/generate`: make an inventory from a list of boards or from a range of names."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .inventory import InventoryError, write
from .listing import COLUMNS, ListingError, by_pattern, read_listing


def main(words: list[str] | None = None) -> int:
    """Write the inventory; return 1, with every reason on standard error, where the list cannot be used."""
    parser = argparse.ArgumentParser(prog="ansible/inventory/generate", description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--list", type=Path, metavar="FILE", help=f".csv or .yml with {', '.join(COLUMNS)}")
    source.add_argument("--names", metavar="FIRST..LAST", help="a range such as pi-001..pi-100")
    parser.add_argument("--addresses-from", default="", metavar="IP", help="with --names: address of the first board")
    for column in ("user", "site", "tier"):
        parser.add_argument(f"--{column}", default="", help=f"with --names: the {column} of all boards")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the inventory")
    parser.add_argument("--replace", action="store_true", help="overwrite a hosts.yml that was written by hand")
    given = parser.parse_args(words)
    common = {"user": given.user, "site": given.site, "tier": given.tier}
    if given.list and (given.addresses_from or any(common.values())):
        parser.error("--addresses-from, --user, --site and --tier go with --names; a list has columns for them")
    try:
        boards = read_listing(given.list) if given.list else by_pattern(given.names, given.addresses_from, **common)
        named = given.list.name if given.list else f"the names {given.names}"
        changed = write(given.out, boards, named, replace=given.replace)
    except (ListingError, InventoryError, OSError, UnicodeDecodeError) as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join([*(f"wrote {path}" for path in changed), f"{len(boards)} boards in {given.out}"]))
    return 0
