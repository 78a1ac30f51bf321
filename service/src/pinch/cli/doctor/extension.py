"""SQLite: full-text search, and the vector extension where the tier needs it."""

from __future__ import annotations

import signal

from pinch.cli.doctor.host import Finding, Host, Status

_FULL_TEXT = """
import apsw
connection = apsw.Connection(":memory:")
connection.execute("CREATE VIRTUAL TABLE t USING fts5(x, tokenize='porter unicode61 remove_diacritics 2')")
found = "SQLite " + apsw.sqlite_lib_version() + " with FTS5"
"""
_VECTORS = """
from pinch.memory.vectors import extension_path
connection.enable_load_extension(True)
connection.load_extension(extension_path())
found += ", sqlite-vec " + connection.execute("SELECT vec_version()").get
"""


def check(host: Host) -> list[Finding]:
    """Load it all in a process of its own: a library for another CPU would take this one down."""
    program = _FULL_TEXT + (_VECTORS if host.tier.semantic else "") + "print(found)"
    trial = host.trial("-c", program)
    if trial.status == 0:
        return [Finding("sqlite", Status.OK, trial.output)]
    reason = trial.output
    if trial.status < 0:
        reason = f"it dies with {signal.Signals(-trial.status).name}"
    advice = "install the release again; sqlite-vec below 0.1.9 carries a 32-bit library for 64-bit Arm"
    return [Finding("sqlite", Status.FAIL, f"SQLite or its extension cannot be loaded: {reason}", advice)]
