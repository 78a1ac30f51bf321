"""A graph that someone else exported, given our inputs, our output and our layout."""

from pathlib import Path

import onnx
from onnx import TensorProto, numpy_helper

from pinch_models.errors import BuildError
from pinch_models.pooling import pool, unit_vector
from pinch_models.writer import GraphWriter

_INPUTS = ("input_ids", "attention_mask")
_TYPES = "token_type_ids"
# What exporters call a vector per text and a vector per token, best first.
_OUTPUTS = ("sentence_embedding", "embedding", "last_hidden_state", "token_embeddings")
_OLDEST_OPSET = 13


def foreign_model(path: Path, pooling: str) -> onnx.ModelProto:
    """Return the graph at ``path`` with inputs input_ids, attention_mask and the output ``embedding``.

    Token types become zeros inside the graph; a vector per token is pooled; the result has
    length 1. Raises `BuildError` for a graph that cannot be wired so.
    """
    try:
        model = onnx.load(path)
    except Exception as error:  # onnx lets protobuf's own errors through
        raise BuildError(f"model.onnx cannot be read as an ONNX model ({error})") from error
    opset = max((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), default=0)
    if opset < _OLDEST_OPSET:
        raise BuildError(f"model.onnx uses opset {opset}, expected {_OLDEST_OPSET} or newer; export it again")
    graph = model.graph
    _feed_token_types(graph, _inputs(graph))
    writer = GraphWriter(prefix="pinch_")
    output = _output(graph)
    # The published name has to be free.
    _rename(graph, "embedding", "pinch_given")
    value = "pinch_given" if output.name == "embedding" else output.name
    if len(output.type.tensor_type.shape.dim) == 3:
        value = pool(writer, value, pooling)
    writer.publish(unit_vector(writer, value), "embedding")
    _raw(graph)
    graph.node.extend(writer.nodes)
    graph.initializer.extend(writer.initializers())
    del graph.output[:]
    graph.output.append(onnx.helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ("batch", None)))
    del graph.value_info[:]
    del model.metadata_props[:]
    model.doc_string = graph.doc_string = ""
    return model


def _inputs(graph: onnx.GraphProto) -> set[str]:
    constants = {tensor.name for tensor in graph.initializer}
    names = {item.name for item in graph.input} - constants
    unknown = sorted(names - {*_INPUTS, _TYPES})
    missing = [name for name in _INPUTS if name not in names]
    if unknown or missing:
        raise BuildError(
            f"model.onnx has the inputs {', '.join(sorted(names)) or 'none'}, expected "
            f"{', '.join(_INPUTS)} and at most {_TYPES}; export it as an encoder"
        )
    for item in graph.input:
        if item.name in names and item.type.tensor_type.elem_type != TensorProto.INT64:
            raise BuildError(f"model.onnx: the input {item.name} is not int64; export it with int64 inputs")
    return names


def _feed_token_types(graph: onnx.GraphProto, names: set[str]) -> None:
    kept = [item for item in graph.input if item.name in _INPUTS]
    del graph.input[:]
    graph.input.extend(sorted(kept, key=lambda item: _INPUTS.index(item.name)))
    if _TYPES in names:
        zeros = onnx.helper.make_node("Sub", ["input_ids", "input_ids"], [_TYPES], name="pinch_types")
        graph.node.insert(0, zeros)


def _output(graph: onnx.GraphProto) -> onnx.ValueInfoProto:
    outputs: dict[str, onnx.ValueInfoProto] = {item.name: item for item in graph.output}
    chosen = next((outputs[name] for name in _OUTPUTS if name in outputs), None)
    if chosen is None and len(outputs) == 1:
        chosen = next(iter(outputs.values()))
    if chosen is None:
        raise BuildError(
            f"model.onnx has the outputs {', '.join(outputs) or 'none'}, expected one of "
            f"{', '.join(_OUTPUTS)}; export it as an encoder"
        )
    tensor = chosen.type.tensor_type
    if tensor.elem_type != TensorProto.FLOAT or len(tensor.shape.dim) not in (2, 3):
        raise BuildError(
            f"model.onnx: the output {chosen.name} is no float32 [batch, width] or [batch, seq, width]; "
            "export it with such an output"
        )
    return chosen


def _rename(graph: onnx.GraphProto, name: str, other: str) -> None:
    """Call the value ``name`` inside ``graph`` ``other``."""
    for node in graph.node:
        for values in (node.input, node.output):
            for index, value in enumerate(values):
                if value == name:
                    values[index] = other


def _raw(graph: onnx.GraphProto) -> None:
    """Hold every initializer as raw bytes, the form that can be moved out of the graph."""
    for tensor in graph.initializer:
        if not tensor.HasField("raw_data") and tensor.data_type != TensorProto.STRING:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
