"""A BERT checkpoint: its shape from config.json, its weights from safetensors."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from pinch_models.errors import BuildError
from pinch_models.precision import Float


@dataclass(frozen=True)
class BertShape:
    """Sizes of an encoder."""

    vocabulary: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    positions: int
    types: int
    norm_epsilon: float


_SIZES = {
    "vocabulary": "vocab_size",
    "hidden": "hidden_size",
    "intermediate": "intermediate_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "positions": "max_position_embeddings",
    "types": "type_vocab_size",
}
_ONLY = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}


def read_shape(path: Path) -> BertShape:
    """Read ``config.json``; raise `BuildError` for an architecture that is not plain BERT."""
    try:
        config = json.loads(path.read_bytes())
    except ValueError as error:
        raise BuildError(f"config.json is not JSON ({error}); pin the model's own config.json") from error
    if not isinstance(config, dict):
        raise BuildError("config.json holds no JSON object; pin the model's own config.json")
    for key, expected in _ONLY.items():
        if config.get(key, expected) != expected:
            raise BuildError(
                f"config.json says {key} = {config[key]!r}, but only {expected!r} can be built here; "
                'pin the model as an ONNX file (kind = "onnx")'
            )
    sizes = {field: _positive(config, key) for field, key in _SIZES.items()}
    if sizes["hidden"] % sizes["heads"]:
        raise BuildError(
            f"config.json says hidden_size = {sizes['hidden']}, expected a multiple of "
            f"num_attention_heads = {sizes['heads']}"
        )
    epsilon = config.get("layer_norm_eps", 1e-12)
    if not isinstance(epsilon, float) or not 0 < epsilon < 1:
        raise BuildError(f"config.json says layer_norm_eps = {epsilon!r}, expected a number between 0 and 1")
    return BertShape(norm_epsilon=epsilon, **sizes)


def _positive(config: dict[str, Any], key: str) -> int:
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise BuildError(f"config.json says {key} = {value!r}, expected a positive integer")
    return value


class Checkpoint:
    """Named tensors as float32, each checked against the shape that the config promises."""

    def __init__(self, weights: Path, shape: BertShape) -> None:
        """Read ``weights`` (safetensors; names may begin with ``bert.``)."""
        self.shape = shape
        try:
            tensors: dict[str, NDArray[Any]] = load_file(weights)
        except (SafetensorError, KeyError, TypeError) as error:
            raise BuildError(
                f"model.safetensors cannot be read ({error}); expected float32 or float16 tensors"
            ) from error
        self._tensors = {name.removeprefix("bert."): value for name, value in tensors.items()}

    def tensor(self, name: str, *sizes: int) -> Float:
        """Return the tensor ``name`` of exactly the given ``sizes``."""
        value = self._tensors.get(name)
        if value is None:
            raise BuildError(f"model.safetensors has no tensor {name}; expected a BERT encoder's names")
        if value.dtype not in (np.float32, np.float16):
            raise BuildError(f"model.safetensors: {name} is {value.dtype}, expected float32 or float16")
        if value.shape != sizes:
            raise BuildError(
                f"model.safetensors: {name} has shape {list(value.shape)}, but config.json promises {list(sizes)}"
            )
        return value.astype(np.float32)
