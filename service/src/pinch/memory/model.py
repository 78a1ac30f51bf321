"""A sentence-embedding model on disk: its manifest, and the session that runs it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pinch.errors import Busy, PinchError
from pinch.memory.vectors import Vector

if TYPE_CHECKING:
    import numpy
    import onnxruntime
    from tokenizers import Tokenizer

    Floats = numpy.ndarray[Any, numpy.dtype[numpy.float32]]


WINDOW_LIMIT = 64
"""Tokens embedded at once at most, whatever the model could read: scratch memory grows with them. 64 take 3.6 MB at
their peak, 128 take 7.6, in the same time (`python -m tests.benchmarks.allocator`). Recall@10 over LoCoMo is 0.791 with
either; by meaning alone it is 0.529 and 0.551 (`python -m tests.benchmarks.locomo`)."""


class ModelUnusable(PinchError):
    """The model's folder is missing, incomplete or of another kind than its manifest says."""


class Manifest(NamedTuple):
    """What `manifest.json` in a model's folder says."""

    folder: Path
    name: str
    sha256: str
    dimensions: int
    window: int
    """Tokens the model reads at once, its two frame tokens included."""
    prefix_query: str
    prefix_document: str


def read_manifest(folder: Path) -> Manifest:
    """Read and check a model's folder; contents are hashed where it is installed, sizes are compared here.

    Raises:
        ModelUnusable: says which file is missing or wrong.
    """
    hint = "run the models role again, or set PINCH_MODEL_DIR to a folder that holds manifest.json"
    try:
        raw = json.loads((folder / "manifest.json").read_text("utf-8"))
        manifest = Manifest(
            folder=folder,
            name=str(raw["name"]),
            sha256=str(raw["sha256"]),
            dimensions=int(raw["dimensions"]),
            window=int(raw["window"]),
            prefix_query=str(raw["prefix_query"]),
            prefix_document=str(raw["prefix_document"]),
        )
        files = {str(name): int(entry["bytes"]) for name, entry in raw["files"].items()}
    except OSError as error:
        raise ModelUnusable(
            f"model folder {folder} has no readable manifest.json: {error.strerror}", hint=hint
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelUnusable(f"{folder / 'manifest.json'} is no model manifest ({error})", hint=hint) from None
    if manifest.dimensions < 8 or manifest.dimensions % 8 or manifest.window < 3:
        raise ModelUnusable(
            f"model {manifest.name} has {manifest.dimensions} dimensions and a window of {manifest.window}; "
            "expected a multiple of 8, and 3 or more",
            hint=hint,
        )
    for name, size in {"model.onnx": -1, "weights.bin": -1, "tokenizer.json": -1, **files}.items():
        path = folder / name
        found = path.stat().st_size if path.is_file() else None
        if found is None:
            raise ModelUnusable(f"model folder {folder} lacks {name}", hint=hint)
        if size >= 0 and found != size:
            raise ModelUnusable(f"{path} has {found} bytes; its manifest says {size}", hint=hint)
    return manifest


class Session:
    """A loaded model. Use it from one thread."""

    def __init__(
        self,
        manifest: Manifest,
        session: onnxruntime.InferenceSession,
        tokenizer: Tokenizer,
        frame: tuple[int, int] = (0, 0),
    ) -> None:
        self.manifest = manifest
        self._session = session
        self._tokenizer = tokenizer
        self._frame = frame

    def embed(self, text: str, ended: Callable[[], bool] = lambda: False) -> tuple[Floats, int]:
        """Return the unit vector of `text`, shape `[dimensions]`, and how many tokens it has.

        A text longer than the window is read as several windows of about equal length, whose vectors
        are averaged by their share of the tokens. No window has more than `WINDOW_LIMIT` tokens.

        Raises:
            Busy: `ended`, asked between windows, said so.
        """
        import numpy as np

        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        room = min(self.manifest.window, WINDOW_LIMIT) - 2
        count = max(1, -(-len(ids) // room))
        borders = [len(ids) * part // count for part in range(count + 1)]
        total = np.zeros(self.manifest.dimensions, np.float32)
        for begin, end in pairwise(borders):
            if ended():
                raise Busy("the service stops", hint="try again when it is back")
            total += self._run(ids[begin:end]) * max(1, end - begin)
        norm = float(np.linalg.norm(total))
        return (total / norm if norm else total), len(ids)

    def _run(self, ids: Sequence[int]) -> Floats:
        import numpy as np

        framed = np.array([[self._frame[0], *ids, self._frame[1]]], np.int64)
        (output,) = self._session.run(["embedding"], {"input_ids": framed, "attention_mask": np.ones_like(framed)})
        vector: Floats = output[0]
        return vector


def load_session(manifest: Manifest, threads: int) -> Session:
    """Load a model; its weights are mapped, not read.

    Raises:
        ModelUnusable: ONNX Runtime or the tokenizer refuses the files, or the output has another shape.
    """
    import onnxruntime
    from tokenizers import Tokenizer

    options = onnxruntime.SessionOptions()
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    hint = "run the models role again; a model of other dimensions needs its own manifest"
    try:
        runtime = onnxruntime.InferenceSession(
            str(manifest.folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        tokenizer = Tokenizer.from_file(str(manifest.folder / "tokenizer.json"))
    except Exception as error:  # noqa: BLE001 - both libraries raise bare Exception types of their own
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelUnusable(f"model {manifest.name} cannot be loaded: {reason}", hint=hint) from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    first, last = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    found = runtime.get_outputs()[0].shape[-1]
    if first is None or last is None:
        raise ModelUnusable(f"the tokenizer of {manifest.name} has no [CLS] and [SEP]", hint=hint)
    if found != manifest.dimensions:
        raise ModelUnusable(
            f"model {manifest.name} makes vectors of {found} dimensions; its manifest says {manifest.dimensions}",
            hint=hint,
        )
    return Session(manifest, runtime, tokenizer, (first, last))


def quantize(vector: Floats) -> Vector:
    """Return a float vector as it is stored."""
    import numpy as np

    peak = float(np.abs(vector).max())
    scaled = np.round(vector * (127 / peak)) if peak else vector
    return Vector(int8=scaled.astype(np.int8).tobytes(), bits=np.packbits(vector > 0, bitorder="little").tobytes())


def bits_of(int8: bytes) -> bytes:
    """Return the sign bits of a stored 8-bit vector."""
    import numpy as np

    return np.packbits(np.frombuffer(int8, np.int8) > 0, bitorder="little").tobytes()
