"""Choosing the documents: the same ones on every machine, from the same packages."""

from __future__ import annotations

import hashlib
import re
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from attrs import frozen

from tests.corpus.packages import CorpusError
from tests.corpus.pins import Pins

MARKDOWN = re.compile(r"\.mdx?$")
HEADING = re.compile(r"^#{1,4}\s+(.+)$", re.MULTILINE)
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


@frozen
class Document:
    """A document of the corpus."""

    path: str
    """Package and path inside it, such as `undici/docs/docs/api/Agent.md`."""
    content: bytes


@frozen
class Corpus:
    """What the load scenario works with."""

    documents: list[Document]
    live: list[Document]
    """Ingested while the load runs."""
    queries: list[str]
    """What the clients ask: headings of the documents."""


def select(pins: Pins, archives: Mapping[str, Path]) -> Corpus:
    """Choose documents and queries.

    Raises:
        CorpusError: the packages hold fewer documents than asked for.
    """
    chosen = sorted(_candidates(pins, archives), key=lambda document: _order(document.path))
    wanted = pins.documents + pins.live_documents
    if len(chosen) < wanted:
        raise CorpusError(f"the pinned packages hold {len(chosen)} documents; expected {wanted}. Pin one more package")
    documents = chosen[: pins.documents]
    return Corpus(documents, chosen[pins.documents : wanted], _queries(documents, pins.queries))


def _candidates(pins: Pins, archives: Mapping[str, Path]) -> Iterator[Document]:
    seen: set[bytes] = set()
    for package in pins.packages:
        with tarfile.open(archives[package.name]) as archive:
            for member in archive:
                if not member.isfile() or not MARKDOWN.search(member.name):
                    continue
                if not pins.least_bytes <= member.size <= pins.most_bytes:
                    continue
                file = archive.extractfile(member)
                content = file.read() if file else b""
                if (sha := hashlib.sha256(content).digest()) in seen or not _is_text(content):
                    continue
                seen.add(sha)
                yield Document(f"{package.name}/{member.name.partition('/')[2]}", content)


def _is_text(content: bytes) -> bool:
    try:
        return "\0" not in content.decode("utf-8")
    except UnicodeDecodeError:
        return False


def _order(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _queries(documents: list[Document], count: int) -> list[str]:
    """Return headings of three to nine words, one a document: what a person would ask about."""
    queries = []
    for document in documents:
        prose = FENCE.sub("", document.content.decode("utf-8"))
        headings = (re.sub(r"[^\w\s'-]", " ", heading) for heading in HEADING.findall(prose))
        fit = [" ".join(heading.split()) for heading in headings if 3 <= len(heading.split()) <= 9]
        if fit:
            queries.append(min(fit, key=_order))
        if len(queries) == count:
            break
    return queries
