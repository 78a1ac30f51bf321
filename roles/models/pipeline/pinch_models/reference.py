"""BERT's arithmetic in plain numpy: what the graphs are compared with.

Written from the papers and sharing nothing with the graph's writer but the checkpoint, so that a
mistake in one of them shows.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pinch_models.checkpoint import Checkpoint
from pinch_models.precision import Float

Wide = NDArray[np.float64]


class Reference:
    """Embeds one text at a time, mean pooling, float64 throughout."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Use the weights of ``checkpoint``."""
        self._shape = checkpoint.shape
        self._checkpoint = checkpoint
        self._kept: dict[str, Wide] = {}

    def embed(self, ids: Sequence[int]) -> Float:
        """Return the unit vector [hidden] of the text whose token ids are ``ids``."""
        shape = self._shape
        words = self._tensor("embeddings.word_embeddings.weight", shape.vocabulary, shape.hidden)
        places = self._tensor("embeddings.position_embeddings.weight", shape.positions, shape.hidden)
        types = self._tensor("embeddings.token_type_embeddings.weight", shape.types, shape.hidden)
        hidden = words[list(ids)] + places[: len(ids)] + types[0]
        hidden = self._norm("embeddings.LayerNorm", hidden)
        for index in range(shape.layers):
            hidden = self._layer(f"encoder.layer.{index}.", hidden)
        mean = hidden.mean(axis=0)
        vector: Float = (mean / np.linalg.norm(mean)).astype(np.float32)
        return vector

    def _layer(self, prefix: str, hidden: Wide) -> Wide:
        size = self._shape.hidden
        query, key, value = (
            self._dense(f"{prefix}attention.self.{part}", hidden, size) for part in ("query", "key", "value")
        )
        width = size // self._shape.heads
        heads = []
        for start in range(0, size, width):
            part = slice(start, start + width)
            scores = query[:, part] @ key[:, part].T / np.sqrt(width)
            weights = np.exp(scores - scores.max(axis=1, keepdims=True))
            heads.append(weights / weights.sum(axis=1, keepdims=True) @ value[:, part])
        mixed = self._dense(f"{prefix}attention.output.dense", np.concatenate(heads, axis=1), size)
        hidden = self._norm(f"{prefix}attention.output.LayerNorm", hidden + mixed)
        wide = gelu(self._dense(f"{prefix}intermediate.dense", hidden, self._shape.intermediate))
        return self._norm(f"{prefix}output.LayerNorm", hidden + self._dense(f"{prefix}output.dense", wide, size))

    def _dense(self, name: str, value: Wide, outputs: int) -> Wide:
        weights = self._tensor(f"{name}.weight", outputs, value.shape[1])
        product: Wide = value @ weights.T + self._tensor(f"{name}.bias", outputs)
        return product

    def _norm(self, name: str, value: Wide) -> Wide:
        centred = value - value.mean(axis=1, keepdims=True)
        deviation = np.sqrt(np.square(centred).mean(axis=1, keepdims=True) + self._shape.norm_epsilon)
        size = self._shape.hidden
        scaled: Wide = centred / deviation * self._tensor(f"{name}.weight", size)
        return scaled + self._tensor(f"{name}.bias", size)

    def _tensor(self, name: str, *sizes: int) -> Wide:
        if name not in self._kept:
            self._kept[name] = self._checkpoint.tensor(name, *sizes).astype(np.float64)
        return self._kept[name]


def gelu(value: Wide) -> Wide:
    """Return x · Φ(x), with the error function of Abramowitz and Stegun 7.1.26 (error ≤ 1.5e-7)."""
    x = np.abs(value) / np.sqrt(2)
    t = 1 / (1 + 0.3275911 * x)
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    error = np.sign(value) * (1 - series * np.exp(-x * x))
    result: Wide = 0.5 * value * (1 + error)
    return result
