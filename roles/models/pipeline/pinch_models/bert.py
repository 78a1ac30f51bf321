"""A BERT encoder written straight as an ONNX graph, pooling and norm included.

The arithmetic is that of Devlin et al., "BERT" (2018): learned positions, post-norm layers, GELU.
"""

import numpy as np
import onnx

from pinch_models.checkpoint import Checkpoint
from pinch_models.errors import BuildError
from pinch_models.pooling import pool, unit_vector
from pinch_models.precision import Float, Precision
from pinch_models.writer import GraphWriter

# What a padded position's score becomes: its weight is 0 after a softmax in float32.
_MASKED = -1e9


def bert_model(checkpoint: Checkpoint, precision: Precision, window: int, pooling: str) -> onnx.ModelProto:
    """Return the graph from token ids to a unit vector, for at most ``window`` tokens."""
    if window > checkpoint.shape.positions:
        raise BuildError(
            f"the window is {window} tokens, but the model has only {checkpoint.shape.positions} "
            "positions; lower the window"
        )
    encoder = _Encoder(checkpoint, precision)
    writer = encoder.writer
    hidden = encoder.embed(window)
    mask = writer.int32("attention_mask")
    for index in range(checkpoint.shape.layers):
        hidden = encoder.layer(f"encoder.layer.{index}.", hidden, mask)
    writer.publish(unit_vector(writer, pool(writer, hidden, pooling)), "embedding")
    return writer.embedding_model(checkpoint.shape.hidden)


class _Encoder:
    def __init__(self, checkpoint: Checkpoint, precision: Precision) -> None:
        self.writer = GraphWriter()
        self._checkpoint = checkpoint
        self._shape = checkpoint.shape
        self._precision = precision

    def embed(self, window: int) -> str:
        """Return [batch, seq, hidden] for ``input_ids``."""
        writer, hidden = self.writer, self._shape.hidden
        tensor = self._checkpoint.tensor
        words = tensor("embeddings.word_embeddings.weight", self._shape.vocabulary, hidden)
        places = tensor("embeddings.position_embeddings.weight", self._shape.positions, hidden)
        types = tensor("embeddings.token_type_embeddings.weight", self._shape.types, hidden)
        # Only single texts are embedded: every token is of type 0, whose row is folded in.
        folded = writer.constant("embeddings.position", places[:window] + types[0])
        length = writer.op("Shape", "input_ids", start=1, end=2)
        place = writer.op("Slice", folded, writer.integers(0), length, writer.integers(0))
        word = self._precision.lookup(writer, "embeddings.word", words, "input_ids")
        return self._norm("embeddings.LayerNorm", writer.op("Add", word, place))

    def layer(self, prefix: str, hidden: str, mask: str) -> str:
        """Return [batch, seq, hidden] after one layer."""
        writer, shape = self.writer, self._shape
        mixed = self._dense(
            f"{prefix}attention.output.dense",
            self._attention(prefix, hidden, mask),
            shape.hidden,
            shape.hidden,
        )
        hidden = self._norm(f"{prefix}attention.output.LayerNorm", writer.op("Add", mixed, hidden))
        wide = self._dense(f"{prefix}intermediate.dense", hidden, shape.hidden, shape.intermediate)
        narrow = self._dense(f"{prefix}output.dense", writer.op("Gelu", wide), shape.intermediate, shape.hidden)
        return self._norm(f"{prefix}output.LayerNorm", writer.op("Add", narrow, hidden))

    def _attention(self, prefix: str, hidden: str, mask: str) -> str:
        size = self._shape.hidden
        parts = [self._matrix(f"{prefix}attention.self.{part}", size, size) for part in ("query", "key", "value")]
        joined = self._precision.project(
            self.writer,
            f"{prefix}attention.self",
            hidden,
            np.concatenate([weights for weights, _ in parts], axis=1),
            np.concatenate([bias for _, bias in parts]),
        )
        split = self.writer.op("Split", joined, outputs=3, axis=2, num_outputs=3)
        # One fused node: against Transpose, MatMul, Softmax and MatMul it keeps a single copy of
        # the scores, and 256 tokens take half the time. Its default scale is 1 / √head.
        return self.writer.op(
            "MultiHeadAttention",
            split,
            f"{split}.1",
            f"{split}.2",
            "",
            mask,
            num_heads=self._shape.heads,
            mask_filter_value=_MASKED,
        )

    def _matrix(self, name: str, inputs: int, outputs: int) -> tuple[Float, Float]:
        weights = self._checkpoint.tensor(f"{name}.weight", outputs, inputs)
        return np.ascontiguousarray(weights.T), self._checkpoint.tensor(f"{name}.bias", outputs)

    def _dense(self, name: str, value: str, inputs: int, outputs: int) -> str:
        return self._precision.project(self.writer, name, value, *self._matrix(name, inputs, outputs))

    def _norm(self, name: str, value: str) -> str:
        weights, bias = (
            self.writer.constant(f"{name}.{part}", self._checkpoint.tensor(f"{name}.{part}", self._shape.hidden))
            for part in ("weight", "bias")
        )
        return self.writer.op("LayerNormalization", value, weights, bias, axis=-1, epsilon=self._shape.norm_epsilon)
