"""Model and weights on disk as ONNX Runtime maps them.

The large constants lie one after another in one external-data file. ONNX Runtime maps such a
tensor instead of copying it, so its bytes are page cache that the kernel may take back.
"""

import json
from pathlib import Path

import onnx
from onnx import TensorProto

from pinch_models.errors import BuildError

GRAPH = "model.onnx"
WEIGHTS = "weights.bin"
TOKENIZER = "tokenizer.json"

# The largest page that a Raspberry Pi's kernel uses (16 KiB on a Pi 5), a multiple of 4 KiB too:
# no two tensors share a page on any of them.
PAGE_BYTES = 16384
# A smaller tensor stays inline: a page of its own would cost more than it holds.
INLINE_BYTES = 16384


def write_model(model: onnx.ModelProto, directory: Path) -> None:
    """Write ``model.onnx`` and ``weights.bin`` into ``directory``; ``model`` is used up.

    Every initializer must hold raw bytes. Tensors lie in the order of their names, zeros between.
    """
    end = 0
    with (directory / WEIGHTS).open("wb") as weights:
        for tensor in sorted(model.graph.initializer, key=lambda item: str(item.name)):
            raw = tensor.raw_data
            if len(raw) < INLINE_BYTES:
                continue
            start = end + -end % PAGE_BYTES
            weights.write(bytes(start - end))
            weights.write(raw)
            end = start + len(raw)
            _point(tensor, start, len(raw))
    (directory / GRAPH).write_bytes(model.SerializeToString(deterministic=True))


def _point(tensor: TensorProto, offset: int, length: int) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", WEIGHTS), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))


def write_tokenizer(origin: Path, directory: Path) -> None:
    """Write ``tokenizer.json`` without the padding and truncation that its author left switched on.

    all-MiniLM-L6-v2 ships with both fixed at 128 tokens: every query would cost as much as 128
    tokens, and half of the window would be lost silently.
    """
    try:
        tokenizer = json.loads(origin.read_bytes())
        tokenizer["truncation"] = None
        tokenizer["padding"] = None
    except (ValueError, TypeError) as error:
        raise BuildError(f"tokenizer.json is not a tokenizer ({error}); pin the model's own") from error
    text = json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":"))
    (directory / TOKENIZER).write_text(text, encoding="utf-8")
