"""From one vector per token to one unit vector per text, inside the graph.

After Reimers and Gurevych, "Sentence-BERT" (2019). Every operator here has been in ONNX since
opset 13, so the same nodes can be appended to a graph that someone else exported.
"""

import numpy as np

from pinch_models.writer import GraphWriter

POOLINGS = ("mean", "cls")


def pool(writer: GraphWriter, hidden: str, pooling: str) -> str:
    """Return [batch, width] from ``hidden`` [batch, seq, width].

    ``mean`` is the mean over the tokens that are no padding, ``cls`` the first token.
    """
    if pooling == "cls":
        return writer.op("Gather", hidden, writer.constant("first", np.array(0, dtype=np.int64)), axis=1)
    mask = writer.float32("attention_mask")
    # [batch, 1, seq] · [batch, seq, width] sums the real tokens without a masked copy of hidden.
    total = writer.op("MatMul", writer.op("Unsqueeze", mask, writer.integers(1)), hidden)
    count = writer.op("ReduceSum", mask, writer.integers(1), keepdims=1)
    count = writer.op("Max", count, writer.scalar(1.0))
    return writer.op("Div", writer.op("Squeeze", total, writer.integers(1)), count)


def unit_vector(writer: GraphWriter, value: str) -> str:
    """Return ``value`` [batch, width] at Euclidean length 1; a zero vector stays zero."""
    squares = writer.op("ReduceSum", writer.op("Mul", value, value), writer.integers(1), keepdims=1)
    length = writer.op("Max", writer.op("Sqrt", squares), writer.scalar(1e-12))
    return writer.op("Div", value, length)
