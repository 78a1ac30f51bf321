"""Releases made on the fly from the service's own sources: broken ones, and a good one of another name."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

from tests.cache import REPOSITORY

SERVE = "src/pinch/cli/serve.py"
APP = "src/pinch/app.py"
MEMORIES = "src/pinch/gateway/memories.py"
IN_ITS_PLACE = '__import__("os").environ.get("PINCH_STATE_DIR") is None'
"""True for who has the service's store, and not for a rehearsal, which has a state folder of its own."""


class Change(NamedTuple):
    """An edit of one file: the line `after` gets company."""

    file: str
    after: str
    line: str


RAISES = Change(SERVE, "from __future__ import annotations", 'raise RuntimeError("this release cannot start")')
NEVER_READY = Change(APP, "        clean = await context.store.recover()", "        await asyncio.sleep(3600)")
ANSWERS_500 = Change(MEMORIES, "async def create(request: web.Request) -> web.Response:", "    1 / 0")
RAISES_IN_ITS_PLACE = Change(
    SERVE, "from __future__ import annotations",
    f'if {IN_ITS_PLACE}:\n    raise RuntimeError("this release cannot start here")',
)  # fmt: skip
RAISES_WITH_THE_STORE = Change(
    APP, "        clean = await context.store.recover()",
    f"        if {IN_ITS_PLACE}:\n            raise RuntimeError('this release cannot serve here')",
)  # fmt: skip
HANGS_WITH_THE_STORE = Change(
    APP, "        clean = await context.store.recover()",
    f"        if {IN_ITS_PLACE}:\n            __import__('time').sleep(3600)",
)  # fmt: skip
HARMLESS = Change(SERVE, "from __future__ import annotations", "# A release of another name.")


def make(folder: Path, change: Change) -> Path:
    """Copy the service's sources into the new `folder`, edit them, and return the folder."""
    source = REPOSITORY / "service"
    folder.mkdir(parents=True)
    for name in ("pyproject.toml", "requirements-minimal.lock", "requirements-semantic.lock"):
        shutil.copyfile(source / name, folder / name)
    shutil.copytree(source / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    file = folder / change.file
    text = file.read_text("utf-8")
    assert text.count(change.after + "\n") == 1, f"{change.file} has no single line {change.after!r}"
    file.write_text(text.replace(change.after + "\n", f"{change.after}\n{change.line}\n"), "utf-8")
    return folder
