"""The command `image/build`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import host
from .build import archives_folder, ensure_image, image_folder
from .disk import read_manifest
from .failure import ImageError


def main() -> int:
    """Build an image unless it is in the cache, print its folder and return the exit status."""
    parser = argparse.ArgumentParser(prog="image/build", description="Build the image of a Pi's card (needs root).")
    parser.add_argument("image", nargs="?", default="base", help="name of the definition, image/NAME.toml")
    parser.add_argument("--rebuild", action="store_true", help="build again although it is there: newer packages")
    parser.add_argument("--where", action="store_true", help="only print where it is or would be")
    given = parser.parse_args()
    try:
        if given.where:
            sys.stdout.write(f"{image_folder(given.image)}\n")
            return 0
        folder = _build(given.image, given.rebuild)
    except ImageError as error:
        sys.stderr.write(f"image: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    manifest = read_manifest(folder)
    on_disk = manifest["files"]["root.raw"]["bytes_on_disk"] >> 20
    sys.stderr.write(
        f"image: {len(manifest['packages'])} packages, {on_disk} MB on disk, built in {manifest['build_seconds']} s\n"
    )
    sys.stdout.write(f"{folder}\n")
    return 0


def _build(name: str, rebuild: bool) -> Path:
    """Return the folder of the image; what root made for it belongs to the owner of the cache, also after a failure."""
    folder = image_folder(name)
    try:
        return ensure_image(name, rebuild)
    finally:
        # No more than this: beside them another builder may be at work, on a tree whose owners count.
        archives = archives_folder(name)
        made = (folder, folder.with_suffix(".lock"), archives)
        host.give_back([folder.parent, archives.parent, *made, *(file for path in made for file in path.glob("*"))])
