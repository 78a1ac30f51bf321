"""A graph exported elsewhere gets our inputs, output and layout, or is refused by name."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from model_samples import pin_file, quiet
from onnx import TensorProto, helper, numpy_helper
from pinch_models.build import Cache
from pinch_models.errors import BuildError
from pinch_models.manifest import verify
from pinch_models.pins import load_pins
from pinch_models.session import Session
from pinch_models.sources import SourceSettings

WIDTH = 512
OUTPUT = "last_hidden_state"


def _export(folder: Path, tiny: Path, **changes: Any) -> Path:
    """Write a one-lookup encoder as an exporter would: three inputs, one vector per token."""
    folder.mkdir()
    table = np.random.default_rng(3).normal(size=(12, WIDTH)).astype(np.float32)
    types = np.zeros((2, WIDTH), dtype=np.float32)
    types[1] = 100
    inputs = changes.get("inputs", ("input_ids", "token_type_ids", "attention_mask"))
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["word"])]
    last = "word"
    if "token_type_ids" in inputs:
        nodes.append(helper.make_node("Gather", ["types", "token_type_ids"], ["type"]))
        nodes.append(helper.make_node("Add", ["word", "type"], ["sum"]))
        last = "sum"
    output = changes.get("output", OUTPUT)
    shape: list[str | int | None] = ["batch", "seq", WIDTH]
    if output == "sentence_embedding":
        nodes.append(helper.make_node("ReduceMean", [last], ["mean"], axes=[1], keepdims=0))
        last, shape = "mean", ["batch", WIDTH]
    nodes.append(helper.make_node("Identity", [last], [output]))
    kind = changes.get("kind", TensorProto.INT64)
    graph = helper.make_graph(
        nodes,
        "exported",
        [helper.make_tensor_value_info(name, kind, ["batch", "seq"]) for name in inputs],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)],
        [
            helper.make_tensor("table", TensorProto.FLOAT, table.shape, table.ravel()),
            numpy_helper.from_array(types, "types"),
        ],
    )
    opset = changes.get("opset", 14)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), folder / "model.onnx"
    )
    (folder / "tokenizer.json").write_bytes((tiny / "tokenizer.json").read_bytes())
    return folder


def _build(folder: Path, cache: Cache, **changes: Any) -> tuple[Path, dict[str, Any]]:
    files = {name: pin_file(folder / name) for name in ("model.onnx", "tokenizer.json")}
    entry = {"kind": "onnx", "revision": "1", "dimensions": WIDTH, "window": 16, "files": files} | changes
    pin = load_pins(json.dumps({"models": {"own": entry}})).model("own")
    built = cache.build(pin, SourceSettings(("directory",), directory=folder), quiet)
    return built.path, built.manifest


@pytest.mark.parametrize("output", [OUTPUT, "sentence_embedding", "embedding", "tokens"])
def test_an_exported_encoder_is_pooled_normed_and_laid_out(
    tiny: Path, tmp_path: Path, cache: Cache, output: str
) -> None:
    path, manifest = _build(_export(tmp_path / "own", tiny, output=output), cache, prefix_query="q: ")
    assert verify(path)["precision"] == "as-given"
    assert manifest["prefix_query"] == "q: "
    assert (path / "weights.bin").stat().st_size == 12 * WIDTH * 4
    table = np.random.default_rng(3).normal(size=(12, WIDTH)).astype(np.float32)
    session = Session(path, manifest)
    mean = table[session.ids("tide and pool")].mean(axis=0)
    expected = mean / np.linalg.norm(mean)
    assert np.abs(session.embed(["tide and pool"])[0] - expected).max() < 1e-5


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"inputs": ("input_ids", "pixels")}, "has the inputs input_ids, pixels, expected input_ids"),
        ({"kind": TensorProto.INT32}, "is not int64"),
        ({"opset": 11}, "uses opset 11, expected 13 or newer"),
    ],
)
def test_a_graph_that_cannot_be_wired_is_refused(
    tiny: Path, tmp_path: Path, cache: Cache, changes: dict[str, Any], said: str
) -> None:
    folder = _export(tmp_path / "own", tiny, **changes)
    with pytest.raises(BuildError, match=said):
        _build(folder, cache)


def test_another_dimension_than_pinned_is_refused(tiny: Path, tmp_path: Path, cache: Cache) -> None:
    folder = _export(tmp_path / "own", tiny)
    with pytest.raises(BuildError, match=f"gives vectors of {WIDTH} dimensions, 384 are pinned"):
        _build(folder, cache, dimensions=384)


def test_a_file_that_is_no_graph_is_refused(tiny: Path, tmp_path: Path, cache: Cache) -> None:
    folder = _export(tmp_path / "own", tiny)
    (folder / "model.onnx").write_bytes(b"PK\x03\x04 not a graph")
    with pytest.raises(BuildError, match="cannot be read as an ONNX model"):
        _build(folder, cache)
