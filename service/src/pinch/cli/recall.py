"""`pinch recall`: hits as a person reads them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from pinch.cli.command import accept_json
from pinch.cli.context import Context
from pinch.cli.errors import CommandError, Exit
from pinch.cli.output import Output
from pinch.cli.text import WORD, fold, one_line, safe, same_word, wrap

_INDENT = "    "
_EXCERPT_LINES = 8
_WIDEST = 100
"""Columns of text that are still good to read."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    accept_json(parser)
    parser.add_argument("query", metavar="QUERY", nargs="+", help="what to look for; several words are one query")
    parser.add_argument("--space", help="namespace (default: default)")
    parser.add_argument("--k", type=int, metavar="N", help="most hits to return (default: 6)")
    parser.add_argument("--tag", action="append", dest="tags", metavar="TAG", help="may be given more than once")
    parser.add_argument("--mode", choices=("hybrid", "keyword", "semantic"), help="how to search (default: hybrid)")
    parser.add_argument("--full", action="store_true", help="print whole texts, not the lines around the found words")


def run(args: argparse.Namespace, context: Context) -> int:
    """Print the hits; an empty answer is an answer and ends with 0."""
    query = " ".join(args.query)
    try:
        query.encode("utf-8")
    except UnicodeEncodeError:
        raise CommandError("the query is not UTF-8", "convert it (iconv -t UTF-8)", exit_status=Exit.USAGE) from None
    given = {"space": args.space, "k": args.k, "tags": args.tags, "mode": args.mode}
    body = {"query": query, **{name: value for name, value in given.items() if value is not None}}
    answer = context.client.json("POST", "/v1/recall", body=body)
    if context.as_json:
        context.output.document(answer)
        return Exit.OK
    if answer["degraded"]:
        context.output.note("degraded: answered by keyword alone, as the model is not in memory")
    if not answer["hits"]:
        context.output.note("nothing found")
    terms = frozenset(fold(word) for word in WORD.findall(query))
    for rank, hit in enumerate(answer["hits"], 1):
        if rank > 1:
            context.output.lines([""])
        context.output.lines(_render(rank, hit, terms, context.output, full=args.full))
    return Exit.OK


def _render(rank: int, hit: Mapping[str, Any], terms: frozenset[str], output: Output, *, full: bool) -> list[str]:
    heading = f"{rank:>2}  {output.style(_origin(hit), 'bold')}"
    details = "  ".join(part for part in (f"{hit['score']:.4f}", _why(hit["why"]), _tags(hit)) if part)
    columns = max(20, min(output.columns, _WIDEST) - len(_INDENT))
    lines = wrap(safe(hit["text"]), columns)
    shown = lines if full else _excerpt(lines, terms)
    return [
        heading,
        _INDENT + output.style(details, "dim"),
        *(_INDENT + _marked(line, terms, output) for line in shown),
    ]


def _origin(hit: Mapping[str, Any]) -> str:
    if hit["kind"] == "chunk":
        lines = hit.get("lines")
        place = (
            f":{lines[0]}-{lines[1]}" if isinstance(lines, list) and len(lines) == 2 else f":{lines}" if lines else ""
        )
        return one_line(f"{hit['path']}{place}")
    parts = (hit.get("source"), hit.get("thread"), hit.get("at"))
    return one_line(" · ".join(str(part) for part in parts if part) or f"memory {hit['id']}")


def _why(why: Mapping[str, Any]) -> str:
    parts = []
    if why.get("keyword_rank") is not None:
        parts.append(f"keyword #{why['keyword_rank']}")
    if why.get("semantic_rank") is not None:
        similarity = why.get("similarity")
        parts.append(f"semantic #{why['semantic_rank']}" + (f" {similarity:.2f}" if similarity is not None else ""))
    return " · ".join(parts) or "next to a hit"


def _tags(hit: Mapping[str, Any]) -> str:
    return " ".join("#" + one_line(tag) for tag in hit.get("tags") or [])


def _excerpt(lines: list[str], terms: frozenset[str]) -> list[str]:
    """Return the run of lines with most of the query's words, with … where something was left out."""
    if len(lines) <= _EXCERPT_LINES:
        return lines
    counts = [
        len({term for word in WORD.findall(line) for term in terms if same_word(fold(word), term)}) for line in lines
    ]
    starts = range(len(lines) - _EXCERPT_LINES + 1)
    start = max(starts, key=lambda first: sum(counts[first : first + _EXCERPT_LINES]))
    chosen = lines[start : start + _EXCERPT_LINES]
    before, after = start > 0, start + _EXCERPT_LINES < len(lines)
    return [*(["…"] if before else []), *chosen, *(["…"] if after else [])]


def _marked(line: str, terms: frozenset[str], output: Output) -> str:
    return WORD.sub(
        lambda found: (
            output.style(found[0], "match") if any(same_word(fold(found[0]), term) for term in terms) else found[0]
        ),
        line,
    )
