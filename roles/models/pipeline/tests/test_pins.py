"""A pins file with a mistake is refused with the place and the mistake."""

import json
from pathlib import Path
from typing import Any

import pytest
from model_samples import tiny_entry
from pinch_models.errors import PinError
from pinch_models.pins import load_pins, load_pins_file


def test_the_built_in_models_are_pinned() -> None:
    pins = load_pins()
    assert sorted(pins.models) == ["all-MiniLM-L6-v2-fp32", "all-MiniLM-L6-v2-int8"]
    for model in pins.models.values():
        assert (model.dimensions, model.window, model.pooling) == (384, 256, "mean")
        assert all(pinned.length for pinned in model.checkpoint.files)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dimensions": "384"}, "dimensions is str '384', expected an integer"),
        ({"dimensions": 0}, "dimensions is 0, expected 1 to 8192"),
        ({"dimension": 384}, r"unknown key 'dimension' \(did you mean 'dimensions'\?\)"),
        ({"pooling": "max"}, "pooling is 'max', expected one of mean, cls"),
        ({"precision": "int4"}, "precision is 'int4', expected one of fp32, int8"),
        ({"kind": "gguf"}, "kind is 'gguf', expected one of bert, onnx"),
        ({"revision": None}, "revision is missing"),
        ({"window": True}, "window is bool True, expected an integer"),
        ({"files": {"model.safetensors": {"sha256": "0" * 64}}}, "also needs config.json, tokenizer.json"),
        ({"files": {"../x": {"sha256": "0" * 64}}}, "'../x' is no usable name"),
        ({"files": {"x": {"sha256": "abc"}}}, "sha256 is 'abc', expected 64 lower-case hexadecimal"),
        ({"files": {"x": {"sha256": "0" * 64, "url": "file:///etc/passwd"}}}, "expected an http or https"),
        ({"hub": {"url": "https://host/model"}}, "expected {file} where the file's name goes"),
        ({"wheel": {"requirement": "a>=1", "sha256": "0" * 64, "folder": "a"}}, "expected name==version"),
        ({"wheel": {"requirement": "a==1", "sha256": "0" * 64, "folder": "../a"}}, "a path inside"),
    ],
)
def test_a_mistake_is_named(tiny: Path, changes: dict[str, Any], said: str) -> None:
    entry = {key: value for key, value in tiny_entry(tiny, **changes).items() if value is not None}
    with pytest.raises(PinError, match=said) as failure:
        load_pins(json.dumps({"models": {"mine": entry}}), "mine.toml")
    assert str(failure.value).startswith("mine.toml")
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models = 3", "mine.models is int 3, expected a table"),
        ("[models", "neither TOML nor JSON"),
        ('{"models": ', "neither TOML nor JSON"),
        ("", "models is missing"),
        ("[models.'a b']\ndimensions = 3", "'a b' is no usable name"),
        ("[models.a]\ncheckpoint = 'b'", "no checkpoint is called 'b'; known: all-MiniLM-L6-v2"),
        ("[models]\n[model.a]", r"unknown key 'model' \(did you mean 'models'\?\)"),
        ("[models.all-MiniLM-L6-v2-int8]\ncheckpoint='all-MiniLM-L6-v2'\ndimensions=384\nwindow=9", "taken"),
    ],
)
def test_a_broken_document_is_named(text: str, said: str) -> None:
    with pytest.raises(PinError, match=said):
        load_pins(text, "mine")


def test_own_models_may_use_a_built_in_checkpoint() -> None:
    own = "[models.short]\ncheckpoint = 'all-MiniLM-L6-v2'\ndimensions = 384\nwindow = 128\nprefix_query = 'q: '"
    model = load_pins(own).model("short")
    assert (model.window, model.prefix_query, model.precision) == (128, "q: ", "int8")
    assert model.checkpoint.wheel is not None


def test_an_unknown_model_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(PinError, match="did you mean all-MiniLM-L6-v2-int8"):
        load_pins().model("all-MiniLM-L6-v2-int4")
    with pytest.raises(PinError, match=r"the pins file .* cannot be read"):
        load_pins_file(tmp_path / "absent.toml")
