"""A BERT checkpoint: its shape from config.json, its weights from safetensors."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from pinch_models.errors import BuildError

Float = NDArray[np.float32]


@dataclass(frozen=True)
class BertShape:
    """Sizes of an encoder as Hugging Face's ``config.json`` names them."""

    vocabulary: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    positions: int
    norm_epsilon: float

    @property
    def head(self) -> int:
        """Dimensions of one attention head."""
        return self.hidden // self.heads


_SIZES = {
    "vocabulary": "vocab_size",
    "hidden": "hidden_size",
    "intermediate": "intermediate_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "positions": "max_position_embeddings",
}
_REQUIRED = {
    "model_type": ("bert",),
    "hidden_act": ("gelu",),
    "position_embedding_type": ("absolute",),
}


def read_shape(path: Path) -> BertShape:
    """Read ``config.json``; raise `BuildError` for an architecture that is not plain BERT."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BuildError(f"{path.name} is not JSON ({error}); fetch it again") from error
    if not isinstance(config, dict):
        raise BuildError(f"{path.name} holds no JSON object; fetch the model's own config.json")
    for key, accepted in _REQUIRED.items():
        found = config.get(key, accepted[0])
        if found not in accepted:
            raise BuildError(
                f"{path.name} says {key} = {found!r}, but only {accepted[0]!r} can be built; "
                "give the model as an ONNX file instead (kind = \"onnx\")"
            )
    sizes = {}
    for field, key in _SIZES.items():
        value = config.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise BuildError(f"{path.name} says {key} = {value!r}, expected a positive integer")
        sizes[field] = value
    if sizes["hidden"] % sizes["heads"]:
        raise BuildError(
            f"{path.name}: hidden_size {sizes['hidden']} is no multiple of "
            f"num_attention_heads {sizes['heads']}"
        )
    epsilon = config.get("layer_norm_eps", 1e-12)
    if not isinstance(epsilon, float) or not 0 < epsilon < 1:
        raise BuildError(f"{path.name} says layer_norm_eps = {epsilon!r}, expected 0 < ε < 1")
    return BertShape(norm_epsilon=epsilon, **sizes)


class Checkpoint:
    """Named tensors as float32, each checked against the shape that the config promises."""

    def __init__(self, weights: Path, shape: BertShape) -> None:
        """Open ``weights`` (safetensors, names with or without a ``bert.`` prefix)."""
        self.shape = shape
        self._path = weights
        try:
            with safe_open(weights, framework="numpy") as tensors:
                self._names = {name.removeprefix("bert."): name for name in tensors.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise BuildError(f"{weights.name} is not a safetensors file ({error})") from error

    def tensor(self, name: str, *sizes: int) -> Float:
        """Return the tensor ``name`` of exactly the given ``sizes``."""
        stored = self._names.get(name)
        if stored is None:
            raise BuildError(f"{self._path.name} has no tensor {name}; is it a BERT encoder?")
        try:
            with safe_open(self._path, framework="numpy") as tensors:
                value: NDArray[Any] = tensors.get_tensor(stored)
        except (SafetensorError, TypeError, AttributeError) as error:
            raise BuildError(
                f"{self._path.name}: tensor {name} cannot be read ({error}); "
                "expected float32 or float16"
            ) from error
        if value.dtype not in (np.float32, np.float16):
            raise BuildError(
                f"{self._path.name}: tensor {name} is {value.dtype}, expected float32 or float16"
            )
        if value.shape != sizes:
            raise BuildError(
                f"{self._path.name}: tensor {name} has shape {list(value.shape)}, "
                f"but config.json promises {list(sizes)}"
            )
        return value.astype(np.float32)

    def layers(self) -> Iterator[str]:
        """Yield the name prefix of each encoder layer, first to last."""
        for index in range(self.shape.layers):
            yield f"encoder.layer.{index}."
