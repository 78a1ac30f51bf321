"""Nodes and constants of an ONNX graph, collected in the order in which they run."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

# Opset 20 is the first with Gelu, 17 the first with LayerNormalization. IR version 9
# belongs to it, so every ONNX Runtime since 1.17 reads what is written here.
OPSET = 20
IR_VERSION = 9
PRODUCER = "pinch-models"

Constants = dict[str, NDArray[Any]]


class GraphWriter:
    """Builds one graph; every method returns the name of the value it made.

    Names come from the caller's scope and a counter alone, so the same calls always
    give the same bytes.
    """

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: Constants = {}
        self._count = 0

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        """Append a node and return the name of its first output (others end in ``.1``, …)."""
        self._count += 1
        name = f"{kind}_{self._count}"
        names = [name, *(f"{name}.{index}" for index in range(1, outputs))]
        node = helper.make_node(kind, list(inputs), names, name=name, **attributes)
        self.nodes.append(node)
        return name

    def rename(self, value: str, name: str) -> None:
        """Give the output ``value`` of an already written node its public name."""
        for node in self.nodes:
            for index, output in enumerate(node.output):
                if output == value:
                    node.output[index] = name
                    return
        raise KeyError(value)

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Keep ``value`` as an initializer called ``name``; equal names must mean equal values."""
        known = self.constants.get(name)
        if known is not None and not np.array_equal(known, value):
            raise ValueError(f"two different constants are called {name}")
        self.constants[name] = np.ascontiguousarray(value)
        return name

    def scalar(self, value: float) -> str:
        """Return a float32 scalar."""
        return self.constant(f"scalar_{value!r}", np.array(value, dtype=np.float32))

    def integers(self, *values: int) -> str:
        """Return an int64 vector, as axes and shapes need it."""
        name = "integers_" + "_".join(str(value) for value in values)
        return self.constant(name, np.array(values, dtype=np.int64))


def embedding_model(
    writer: GraphWriter, dimensions: int, opsets: Mapping[str, int] | None = None
) -> onnx.ModelProto:
    """Close the graph whose nodes read ``input_ids`` and ``attention_mask``.

    Inputs are int64 [batch, seq]; the output ``embedding`` is float32 [batch, dimensions].
    Constants stay inline; `pinch_models.layout` moves the large ones out.
    """
    sequence = ("batch", "seq")
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, sequence)
        for name in ("input_ids", "attention_mask")
    ]
    output = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ("batch", dimensions))
    initializers = [
        numpy_helper.from_array(value, name) for name, value in writer.constants.items()
    ]
    graph = helper.make_graph(writer.nodes, "embedding", inputs, [output], initializers)
    domains = dict(opsets or {"": OPSET})
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid(name, version) for name, version in domains.items()],
        ir_version=IR_VERSION,
        producer_name=PRODUCER,
    )
    return model
