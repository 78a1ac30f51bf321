"""The command line: build, list, verify, check."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pinch_models.build import Built, Cache, publish
from pinch_models.errors import ModelError
from pinch_models.manifest import directory_name, verify
from pinch_models.pins import ModelPin, Pins, load_pins, load_pins_file
from pinch_models.sources import ORDER, SourceSettings

DEFAULT_MODEL = "all-MiniLM-L6-v2-int8"
# sysexits.h: the data were wrong, as opposed to 2, which argparse gives for a wrong call.
_FAILED = 65


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status (0, 65 for a `ModelError`, 2 for a wrong call)."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], dict[str, Any]] = options.command
    try:
        result = command(options)
    except ModelError as error:
        if options.json:
            print(json.dumps({"error": str(error)}))
        print(f"pinch_models: {error}", file=sys.stderr)
        return _FAILED
    print(json.dumps(result) if options.json else _readable(result))
    return 0 if result.get("ok", True) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pinch_models", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true", help="print one JSON object")
    shared.add_argument(
        "--cache",
        type=Path,
        default=default_cache(),
        metavar="DIR",
        help="where downloads and models are kept",
    )
    shared.add_argument("--pins", metavar="FILE", help="further models, as TOML or JSON; - reads standard input")

    fetching = argparse.ArgumentParser(add_help=False)
    fetching.add_argument(
        "--source", action="append", choices=ORDER, help="try only this source; repeat to give an order"
    )
    fetching.add_argument("--directory", type=Path, metavar="DIR", help="a directory that holds the files")
    fetching.add_argument("--mirror", metavar="URL", help="an address that offers the files")

    build = commands.add_parser("build", parents=[shared, fetching], help="fetch and build a model")
    build.add_argument("name", nargs="?", default=DEFAULT_MODEL)
    build.add_argument("--out", type=Path, metavar="DIR", help="also put the model there")
    build.add_argument("--archive", action="store_true", help="also make the tar file for a device")
    build.add_argument("--dry-run", action="store_true", help="only say whether it is built already")
    build.set_defaults(command=_build)

    listing = commands.add_parser("list", parents=[shared], help="list the models that are pinned")
    listing.set_defaults(command=_list)

    verifying = commands.add_parser("verify", parents=[shared], help="check a model directory by its manifest")
    verifying.add_argument("directory", type=Path)
    verifying.set_defaults(command=_verify)

    check = commands.add_parser(
        "check",
        parents=[shared, fetching],
        help="measure int8 and fp32 against a reference on real sentences",
    )
    check.add_argument("--data", type=Path, metavar="DIR", help="the folder that holds locomo/ (PINCH_DATA)")
    check.add_argument("--sentences", type=int, default=300, help="for the cosines (default 300)")
    check.add_argument("--no-recall", action="store_true", help="leave out recall@10, which takes minutes")
    check.set_defaults(command=_check)
    return parser


def default_cache() -> Path:
    """Return ``$PINCH_CACHE/models``, by default ``~/.cache/pinch/models``."""
    return Path(os.environ.get("PINCH_CACHE") or Path.home() / ".cache" / "pinch") / "models"


def _pins(options: argparse.Namespace) -> Pins:
    if options.pins is None:
        return load_pins()
    if options.pins == "-":
        return load_pins(sys.stdin.read(), "standard input")
    return load_pins_file(Path(options.pins))


def _settings(options: argparse.Namespace) -> SourceSettings:
    order = tuple(options.source) if options.source else ORDER
    return SourceSettings(order, options.directory, options.mirror or None)


def _tell(line: str) -> None:
    print(f"pinch_models: {line}", file=sys.stderr, flush=True)


def _build(options: argparse.Namespace) -> dict[str, Any]:
    pin = _pins(options).model(options.name)
    cache = Cache(options.cache)
    if options.dry_run:
        found = cache.find(pin)
        return {"built": found is not None} | (_summary(found) if found else {"name": pin.name})
    built = cache.build(pin, _settings(options), _tell)
    result = {"built": True, "changed": built.fresh} | _summary(built)
    if options.out is not None:
        result["changed"] = publish(built, options.out.absolute())
        result["path"] = str(options.out.absolute())
    if options.archive:
        result["archive"] = str(cache.archive(built))
    return result


def _summary(built: Built) -> dict[str, Any]:
    return {
        "path": str(built.path),
        "directory": directory_name(built.manifest),
        "hash8": built.manifest["sha256"][:8],
        "manifest_bytes": (built.path / "manifest.json").stat().st_size,
        "sources": built.sources,
        **built.manifest,
    }


def _list(options: argparse.Namespace) -> dict[str, Any]:
    cache = Cache(options.cache)
    return {"models": [_entry(pin, cache) for pin in _pins(options).models.values()]}


def _entry(pin: ModelPin, cache: Cache) -> dict[str, Any]:
    return {
        "name": pin.name,
        "revision": pin.checkpoint.revision,
        "precision": pin.precision,
        "dimensions": pin.dimensions,
        "window": pin.window,
        "pooling": pin.pooling,
        "download_bytes": sum(pinned.length or 0 for pinned in pin.checkpoint.files),
        "built": cache.find(pin) is not None,
    }


def _verify(options: argparse.Namespace) -> dict[str, Any]:
    manifest = verify(options.directory)
    return {"ok": True, "path": str(options.directory), "directory": directory_name(manifest), **manifest}


def _check(options: argparse.Namespace) -> dict[str, Any]:
    from pinch_models.check import check

    data = options.data or Path(os.environ.get("PINCH_DATA") or "../shared/data")
    return check(
        Cache(options.cache),
        _settings(options),
        data / "locomo",
        sentences=options.sentences,
        with_recall=not options.no_recall,
        tell=_tell,
    )


def _readable(result: dict[str, Any]) -> str:
    if "models" in result:
        return "\n".join(_line(entry) for entry in result["models"])
    return "\n".join(f"{key:<20} {_value(value)}" for key, value in result.items())


def _line(entry: dict[str, Any]) -> str:
    state = "built" if entry["built"] else f"{entry['download_bytes'] / 1e6:.0f} MB to fetch"
    shape = f"{entry['dimensions']} dimensions, window {entry['window']} tokens"
    return f"{entry['name']:<28} {entry['precision']:<9} {shape:<36} {state}"


def _value(value: object) -> str:
    return json.dumps(value) if isinstance(value, dict | list) else str(value)
