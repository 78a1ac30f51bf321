"""Lists of sources: rewritten for a controller, where the board's keys lie elsewhere and a mirror may stand nearer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from .errors import PackagesError

REACHABLE = ("http", "https")
"""Schemes that mean the same on the controller as on the board."""
_LINE = re.compile(r"^(?P<kind>deb(?:-src)?)\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)(?P<rest>\s.*)?$")


def rewrite(path: str, text: str, keyrings: Mapping[str, str], mirror: str | None = None) -> str:
    """Return the sources in `text` with the keys' places on the controller, and `mirror` in Debian's place.

    Args:
        path: where the board has the file; its name says which of apt's two formats it is in.
        text: the file.
        keyrings: place on the controller by place on the board.
        mirror: URI of another mirror of Debian's main archive; None keeps the board's.

    Raises:
        PackagesError: a source that only the board can read.
    """
    if path.endswith(".sources"):
        return "".join(_field(path, line, keyrings, mirror) for line in text.splitlines(keepends=True))
    return "".join(_one_line(path, line, keyrings, mirror) for line in text.splitlines())


def _one_line(path: str, line: str, keyrings: Mapping[str, str], mirror: str | None) -> str:
    match = _LINE.match(line.strip())
    if not match:
        return ""  # blank, or a comment
    options = []
    for option in (match["options"] or "").split():
        name, equals, value = option.partition("=")
        if name.lower() == "signed-by":
            value = ",".join(_keyring(keyrings, key) for key in value.split(","))
        options.append(f"{name}{equals}{value}")
    bracket = f"[{' '.join(options)}] " if options else ""
    return f"{match['kind']} {bracket}{_uri(path, match['uri'], mirror)}{match['rest'] or ''}\n"


def _field(path: str, line: str, keyrings: Mapping[str, str], mirror: str | None) -> str:
    name, colon, value = line.partition(":")
    if not colon or line[0] in " \t#":
        return line
    if name.lower() == "uris":
        return f"URIs: {' '.join(_uri(path, uri, mirror) for uri in value.split())}\n"
    # A key may also stand in the file itself, on lines that go on from here.
    if name.lower() == "signed-by" and value.strip():
        return f"Signed-By: {' '.join(_keyring(keyrings, key) for key in value.replace(',', ' ').split())}\n"
    return line


def _keyring(keyrings: Mapping[str, str], key: str) -> str:
    return keyrings.get(key, key)


def _uri(path: str, uri: str, mirror: str | None) -> str:
    parts = urlsplit(uri)
    if parts.scheme not in REACHABLE:
        raise PackagesError(
            f"{path} of the board names {uri}, which the controller cannot read; set packages_sources to sources that "
            "both can, or packages_source to board"
        )
    host = parts.hostname or ""
    if mirror and (host == "debian.org" or host.endswith(".debian.org")) and parts.path.strip("/") == "debian":
        return mirror
    return uri
