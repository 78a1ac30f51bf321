"""`python -m tests.demonstration --inventory DIR`: give each board a document, ask about it, show its budget."""

from __future__ import annotations

import argparse
import sys

import testinfra

from tests.appliance import TOKENS, Board
from tests.cache import REPOSITORY

DOCUMENT = REPOSITORY / "docs" / "integrator.md"
PATH = "pinch/integrator.md"
QUESTION = "What happens to an upload that is cut off half-way?"


def main() -> int:
    """Show every board of the inventory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inventory", required=True, help="inventory folder or file of ansible")
    given = parser.parse_args()
    for host in testinfra.get_hosts(["ansible://pinch"], ansible_inventory=given.inventory):
        show(Board(host))
    return 0


def show(board: Board) -> None:
    """Ingest, wait for the vectors, recall, and print what there is."""
    with board.service() as client:
        stored = client.put_document(PATH, DOCUMENT.read_bytes())
        waited = client.wait_for_vectors()
        name = board.variables["inventory_hostname"]
        say(f"\n{name}: {stored['path']} is stored in {stored['chunks']} chunks, embedded after {waited:.0f} s\n")
    say(f"{name}$ pinch recall {QUESTION!r} --k 1\n")
    say(board.run(f"pinch recall {QUESTION!r} --k 1"))
    say(f"\n{name}$ pinch budget\n")
    say(board.run("pinch budget"))
    address = board.address
    say(f"\nURL    {address.url} on the board; bring it here with")
    say(f"       {' '.join(board.login.ssh('-L', f'{address.port}:{address.netloc}'))}")
    say(f"Token  in {TOKENS} on the board: sudo pinch token show")


def say(text: str) -> None:
    """Print a line."""
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
