"""The tokens file: there, private and readable."""

from __future__ import annotations

import os
from datetime import timedelta

from pinch.cli.doctor.host import Finding, Host, Status
from pinch.gateway.tokens import TokensError, read_tokens_file

_SOON = timedelta(days=7)


def check(host: Host) -> list[Finding]:
    """Read the file as the service does."""
    path = host.path(host.settings.tokens_file)
    if path.exists() and not os.access(path, os.R_OK):
        return [Finding("tokens", Status.WARN, f"{path} may not be read by this user", "run `sudo pinch doctor`")]
    try:
        file = read_tokens_file(path)
    except TokensError as error:
        found, _, advice = str(error).partition("; ")
        return [Finding("tokens", Status.FAIL, found, advice)]
    first = file.first(host.now)
    if first is None:
        return [Finding("tokens", Status.FAIL, f"every token of {path} has ended", "run `pinch token add NAME`")]
    valid = [entry for entry in file.entries if entry.valid(host.now)]
    if all(entry.until is not None and entry.until - host.now < _SOON for entry in valid):
        found = f"the last valid token of {path} ends within {_SOON.days} days"
        return [Finding("tokens", Status.WARN, found, f"run `pinch token rotate {first.name}`")]
    return [Finding("tokens", Status.OK, f"{len(valid)} valid in {path}, mode {path.stat().st_mode & 0o777:04o}")]
