"""Installing the CLI that `package-lock.json` pins, once, into the cache; its scripts are not run."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.cache import cache_folder, digest
from tests.corpus.packages import CorpusError, npm
from tests.corpus.pins import load_pins

PINS = [Path(__file__).with_name(name) for name in ("package.json", "package-lock.json")]
UNREACHABLE = re.compile(
    r"E(NOTFOUND|AI_AGAIN|CONNREFUSED|CONNRESET|TIMEDOUT|NETUNREACH|HOSTUNREACH)|FETCH_ERROR|\bE50\d"
)
INSTALL_S = 600.0


class Unreachable(RuntimeError):
    """The registry does not answer, so there is nothing to test with; the text says what was tried."""


def installed() -> list[str]:
    """Return the command that runs the CLI.

    Raises:
        Unreachable: it is not in the cache, and the registry cannot be reached.
    """
    node, client = _node()
    root = cache_folder("openclaw") / digest(*PINS)[:16]
    if not root.exists():
        with tempfile.TemporaryDirectory(dir=root.parent) as scratch:
            folder = Path(scratch) / "cli"
            folder.mkdir()
            for pin in PINS:
                shutil.copy(pin, folder)
            _install([node, client, "ci", "--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund"], folder)
            folder.rename(root)
    return [node, str(root / "node_modules" / "openclaw" / "openclaw.mjs")]


def _node() -> tuple[str, str]:
    """Return Node and npm as the corpus is fetched with; the CLI wants Node 24.16 or newer."""
    try:
        node, client = npm(load_pins().client)
    except CorpusError as error:
        raise Unreachable(f"Node and npm are not in the cache and cannot be fetched: {error}") from None
    return node, client


def _install(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_S)
    if done.returncode == 0:
        return
    why = [line for line in done.stderr.splitlines() if UNREACHABLE.search(line)]
    if why:
        raise Unreachable(
            f"the OpenClaw CLI is not in the cache, and npm's registry cannot be reached: {why[0].strip()}"
        )
    raise RuntimeError(f"npm ci failed with status {done.returncode}:\n{done.stderr}")
