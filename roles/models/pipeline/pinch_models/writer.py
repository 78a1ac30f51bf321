"""Nodes and constants of an ONNX graph, collected in the order in which they run."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

# Opset 20 is the first with Gelu, 17 the first with LayerNormalization; IR version 9 belongs to it.
OPSET = 20
IR_VERSION = 9
PRODUCER = "pinch-models"
# ONNX Runtime's own operators: its CPU provider has had these two since 1.15.
CONTRIBUTED = "com.microsoft"
_CONTRIBUTED_KINDS = frozenset({"MatMulIntegerToFloat", "MultiHeadAttention"})


class GraphWriter:
    """Builds one graph; every method returns the name of the value it made.

    Names come from the caller and a counter alone, so the same calls always give the same bytes.
    """

    def __init__(self, prefix: str = "") -> None:
        """Start an empty graph whose made-up names begin with ``prefix``."""
        self.nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, NDArray[Any]] = {}
        self._prefix = prefix

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        """Append a node and return the name of its first output (others end in ``.1``, …)."""
        name = f"{self._prefix}{kind}_{len(self.nodes)}"
        names = [name, *(f"{name}.{index}" for index in range(1, outputs))]
        domain = CONTRIBUTED if kind in _CONTRIBUTED_KINDS else ""
        self.nodes.append(helper.make_node(kind, list(inputs), names, name=name, domain=domain, **attributes))
        return name

    def float32(self, value: str) -> str:
        """Cast to float32."""
        return self.op("Cast", value, to=int(TensorProto.FLOAT))

    def int32(self, value: str) -> str:
        """Cast to int32."""
        return self.op("Cast", value, to=int(TensorProto.INT32))

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Keep ``value`` as an initializer; one name can only ever mean one value."""
        name = self._prefix + name
        known = self._constants.setdefault(name, np.asarray(value, order="C"))
        if not np.array_equal(known, value):
            raise ValueError(f"two different constants are called {name}")
        return name

    def scalar(self, value: float) -> str:
        """Return a float32 scalar."""
        return self.constant(f"scalar_{value!r}", np.array(value, dtype=np.float32))

    def integers(self, *values: int) -> str:
        """Return an int64 vector, as axes and shapes need it."""
        return self.constant(f"integers_{'_'.join(map(str, values))}", np.array(values, dtype=np.int64))

    def publish(self, value: str, name: str) -> None:
        """Give the newest node's output ``value`` its public ``name``."""
        self.nodes[-1].output[list(self.nodes[-1].output).index(value)] = name

    def initializers(self) -> list[TensorProto]:
        """Return the constants in the order in which they were first named."""
        return [numpy_helper.from_array(value, name) for name, value in self._constants.items()]

    def embedding_model(self, dimensions: int) -> onnx.ModelProto:
        """Close a graph that reads ``input_ids`` and ``attention_mask`` (int64 [batch, seq]).

        Its output ``embedding`` is float32 [batch, dimensions].
        """
        inputs = [
            helper.make_tensor_value_info(name, TensorProto.INT64, ("batch", "seq"))
            for name in ("input_ids", "attention_mask")
        ]
        output = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ("batch", dimensions))
        graph = helper.make_graph(self.nodes, "embedding", inputs, [output], self.initializers())
        return helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIBUTED, 1)],
            ir_version=IR_VERSION,
            producer_name=PRODUCER,
        )
