"""A trial of the model in a process of its own: native code that crashes there takes nobody with it."""

from __future__ import annotations

import asyncio
import json
import logging
import platform
import signal
import sys
from pathlib import Path

from pinch.memory.model import Manifest, ModelUnusable, load_session, read_manifest

log = logging.getLogger(__name__)

TIMEOUT_S = 120
SENTENCE = "The kettle is on the left shelf."


def _fingerprint(manifest: Manifest) -> str:
    from importlib import metadata  # loads the mail parser and more, which a tier without a model does without

    return f"{manifest.sha256} onnxruntime {metadata.version('onnxruntime')} {platform.machine()} {platform.release()}"


def _recorded(record: Path) -> str:
    return record.read_text("utf-8", "replace").strip() if record.is_file() else ""


async def probe(manifest: Manifest, record: Path) -> None:
    """Embed one sentence in a subprocess, once for each model, runtime and kernel; `record` remembers success.

    Raises:
        ModelUnusable: the subprocess died or failed.
        OSError: it could not be started or took too long, which may be otherwise next time.
    """
    fingerprint = _fingerprint(manifest)
    if _recorded(record) == fingerprint:
        return
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pinch.memory.probe", str(manifest.folder),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        output, _ = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
    except (TimeoutError, asyncio.CancelledError) as error:
        process.kill()
        await process.wait()
        if isinstance(error, asyncio.CancelledError):
            raise
        raise TimeoutError(f"model {manifest.name} did not answer within {TIMEOUT_S} s") from None
    hint = "recall goes on by keyword; install another onnxruntime, or pin the minimal tier"
    code = process.returncode or 0
    if code < 0:
        raise ModelUnusable(f"model {manifest.name} crashes on this CPU ({signal.Signals(-code).name})", hint=hint)
    if code:
        raise ModelUnusable(
            output.decode("utf-8", "replace").strip() or f"the model's trial ended with {code}", hint=hint
        )
    partial = record.with_suffix(".partial")
    try:
        partial.write_text(fingerprint + "\n", "utf-8")
        partial.replace(record)
    except OSError as error:
        log.warning("the model's trial went well and is not remembered: %s", error)


def main(folder: str) -> int:
    """Embed a sentence and check its shape; run as `python -m pinch.memory.probe FOLDER`."""
    try:
        manifest = read_manifest(Path(folder))
        vector, tokens = load_session(manifest, threads=1).embed(SENTENCE)
    except ModelUnusable as error:
        sys.stdout.write(error.message + "\n")
        return 1
    sys.stdout.write(json.dumps({"dimensions": int(vector.shape[0]), "tokens": tokens}) + "\n")
    return 0 if vector.shape == (manifest.dimensions,) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
