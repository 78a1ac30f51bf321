#!/usr/bin/python
"""Ansible module: put an embedding model in place on a board."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.pinch_files import point

DOCUMENTATION = r"""
module: model_tree
short_description: Put an embedding model in place
description:
  - Checks every file of a model by the manifest's sums, unpacks the model from an archive beside the others
    where it is missing or damaged, gives it its name in one step and lets the link C(current) point to it.
    A run that dies before that leaves only a folder C(.partial), which the next run removes.
  - Without an archive nothing is unpacked; RV(present) then says whether one is needed.
options:
  home:
    description: Folder that holds the models and the link C(current).
    type: path
    required: true
  name:
    description: Folder name of the model.
    type: str
    required: true
  sha256:
    description: Content hash of the model, which its manifest carries.
    type: str
    required: true
  archive:
    description: Tar file to unpack where the model is not whole; removed afterwards.
    type: path
  keep:
    description: Models to keep, the current and the one before it among them.
    type: int
    default: 2
author: The Pinch authors
"""
EXAMPLES = r"""
- name: Install the model
  model_tree:
    home: /var/lib/pinch-models
    name: all-MiniLM-L6-v2-int8-0a1b2c3d
    sha256: "{{ model.sha256 }}"
    archive: /var/tmp/all-MiniLM-L6-v2-int8-0a1b2c3d.tar
"""
RETURN = r"""
present:
  description: Whether the model is whole and in place.
  returned: always
  type: bool
reason:
  description: What is wrong with the installed model, empty where nothing is.
  returned: always
  type: str
removed:
  description: Models and leftovers that were removed.
  returned: always
  type: list
  elements: str
"""

MANIFEST = "manifest.json"
BLOCK_BYTES = 2**20


class ModelTreeError(Exception):
    """A model that cannot be put in place; the message says what to do."""


def content_hash(manifest: dict[str, Any]) -> str:
    """Return the sha256 of the canonical manifest without its own sum, as the controller computes it."""
    rest = {key: value for key, value in manifest.items() if key != "sha256"}
    canonical = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def fault(folder: Path, sha256: str) -> str:
    """Say what is wrong with the model in `folder`, empty where it is the one with the sum `sha256`."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        if content_hash(manifest) != sha256:
            return f"{MANIFEST} has another sum than the model to be installed"
        for name, expected in manifest["files"].items():
            with (folder / name).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != expected["sha256"]:
                    return f"{name} has another sum than the manifest says"
    except FileNotFoundError as error:
        return f"{Path(str(error.filename)).name} is missing"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST} cannot be read"
    return ""


def unpack(archive: Path, name: str, into: Path) -> None:
    """Write the plain files of the folder `name` in the tar file `archive` into the new folder `into`.

    Raises:
        ModelTreeError: the archive is damaged or holds something else.
    """
    into.mkdir(parents=True)
    try:
        with tarfile.open(archive, "r:") as tar:
            for entry in tar:
                folder, _, file = entry.name.partition("/")
                source = tar.extractfile(entry)
                if source is None:
                    continue
                if folder != name or not file or "/" in file or file.startswith("."):
                    raise ModelTreeError(f"{archive} holds {entry.name}; expected files of {name} only")
                with (into / file).open("wb") as target:
                    shutil.copyfileobj(source, target, BLOCK_BYTES)
                    os.fchmod(target.fileno(), 0o644)
    except tarfile.TarError as error:
        raise ModelTreeError(f"{archive} is damaged ({error}); remove it and run again") from error


def settle(folder: Path) -> bool:
    """Give `folder` and its files to root, readable by everyone; return whether anything changed."""
    changed = False
    for path in (folder, *folder.iterdir()):
        found = path.stat()
        mode = 0o755 if path.is_dir() else 0o644
        if found.st_mode & 0o7777 != mode:
            path.chmod(mode)
            changed = True
        if os.geteuid() == 0 and (found.st_uid, found.st_gid) != (0, 0):
            os.chown(path, 0, 0)
            changed = True
    return changed


def surplus(home: Path, held: set[str], keep: int) -> list[Path]:
    """Return leftovers of dead runs and the oldest models beyond `keep`; those in `held` stay."""
    folders = [path for path in home.iterdir() if path.is_dir() and not path.is_symlink()]
    leftovers = [path for path in folders if path.suffix == ".partial"]
    others = [path for path in folders if path.suffix != ".partial" and path.name not in held]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    return leftovers + others[max(keep - len(held), 0) :]


def install(home: Path, name: str, sha256: str, archive: Path) -> None:
    """Unpack the model from `archive`, check it, and give it its name.

    Raises:
        ModelTreeError: it is not the model with the sum `sha256`.
    """
    partial = home / f"{name}.partial"
    try:
        unpack(archive, name, partial)
        problem = fault(partial, sha256)
        if problem:
            raise ModelTreeError(f"{archive} was damaged on the way: {problem}; run again")
        # On the card before it gets its name: after a power cut a named model is a whole one.
        os.sync()
        # A damaged model of that name goes only now that a whole one can take its place.
        if (home / name).exists():
            shutil.rmtree(home / name)
        partial.rename(home / name)
        os.utime(home / name)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def main() -> None:
    """Check, install, link and tidy."""
    module = AnsibleModule(
        argument_spec={
            "home": {"type": "path", "required": True},
            "name": {"type": "str", "required": True},
            "sha256": {"type": "str", "required": True},
            "archive": {"type": "path"},
            "keep": {"type": "int", "default": 2},
        },
        supports_check_mode=True,
    )
    home, name, sha256 = Path(module.params["home"]), module.params["name"], module.params["sha256"]
    archive = Path(module.params["archive"]) if module.params["archive"] else None
    current = home / "current"
    previous = str(current.readlink()) if current.is_symlink() else ""
    removed: list[Path] = []
    try:
        reason = fault(home / name, sha256)
        if module.check_mode:
            module.exit_json(changed=bool(reason) or previous != name, present=not reason, reason=reason, removed=[])
        if reason and archive is None:
            module.exit_json(changed=False, present=False, reason=reason, removed=[])
        home.mkdir(parents=True, exist_ok=True)
        # Leftovers first: they may hold the space that the new model needs.
        removed = surplus(home, {name, previous} - {""}, max(module.params["keep"], 1))
        for path in removed:
            shutil.rmtree(path)
        if reason and archive is not None:
            install(home, name, sha256, archive)
        changed = settle(home / name)
        home.chmod(0o755)
        changed = point(current, name) or changed
        if archive is not None:
            archive.unlink(missing_ok=True)
            os.sync()
    except ModelTreeError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename or home}: {error.strerror}; free the disk of the board and run again")
    module.exit_json(
        changed=changed or bool(reason) or bool(removed),
        present=True,
        reason="",
        removed=[path.name for path in removed],
    )


if __name__ == "__main__":
    main()
