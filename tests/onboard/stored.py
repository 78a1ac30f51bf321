"""What a store's file holds, read without the service."""

from __future__ import annotations

import argparse
import json
import sys

TEXTS = "SELECT text FROM texts JOIN items USING (id) JOIN spaces ON spaces.id = items.space WHERE spaces.name = ?"


def main() -> None:
    """Print the texts of a space and the result of SQLite's integrity check as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", required=True, help="the SQLite file")
    parser.add_argument("--space", required=True)
    parser.add_argument("--packages", required=True, help="folder of the release's packages")
    options = parser.parse_args()
    sys.path.insert(0, options.packages)
    import apsw

    texts: list[str] = []
    try:
        connection = apsw.Connection(options.store, flags=apsw.SQLITE_OPEN_READONLY)
        integrity = str(connection.execute("PRAGMA integrity_check(1)").get)
        texts += [str(text) for (text,) in connection.execute(TEXTS, (options.space,))]
    except apsw.Error as error:
        integrity = f"{type(error).__name__}: {error}"
    print(json.dumps({"texts": texts, "integrity": integrity}))


if __name__ == "__main__":
    main()
