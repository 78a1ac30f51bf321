"""A built model is the same bytes each time, whole or not there, and what its manifest says."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from model_samples import HIDDEN, quiet, tiny_entry, tiny_pin
from pinch_models.build import Built, Cache, assemble, publish
from pinch_models.checkpoint import Checkpoint, read_shape
from pinch_models.errors import BuildError, VerifyError
from pinch_models.layout import INLINE_BYTES, PAGE_BYTES
from pinch_models.manifest import content_hash, directory_name, read_manifest, verify
from pinch_models.reference import Reference
from pinch_models.session import Session
from pinch_models.sources import SourceSettings
from safetensors.numpy import load_file, save_file

PIPELINE = Path(__file__).resolve().parent.parent
Change = Callable[[Path], None]


@pytest.fixture
def built(tiny: Path, cache: Cache, settings: SourceSettings) -> Built:
    return cache.build(tiny_pin(tiny), settings, quiet)


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_model_is_four_files_and_a_manifest_that_describes_them(built: Built) -> None:
    assert sorted(_contents(built.path)) == ["manifest.json", "model.onnx", "tokenizer.json", "weights.bin"]
    manifest = read_manifest(built.path)
    assert manifest == verify(built.path) == built.manifest
    assert set(manifest) == {
        *("name", "revision", "dimensions", "window", "pooling", "prefix_query", "prefix_document"),
        *("precision", "files", "sha256"),
    }
    assert manifest["sha256"] == content_hash(manifest)
    assert directory_name(manifest) == f"tiny-{manifest['sha256'][:8]}"


def test_two_builds_in_processes_of_their_own_are_the_same_bytes(tiny: Path, tmp_path: Path, built: Built) -> None:
    pins = tmp_path / "pins.json"
    pins.write_text(json.dumps({"models": {"tiny": tiny_entry(tiny)}}))
    for seed, zone in (("1", "UTC"), ("2", "Asia/Tokyo")):
        out = tmp_path / f"out{seed}"
        environment = os.environ | {"PYTHONPATH": str(PIPELINE), "PYTHONHASHSEED": seed, "TZ": zone}
        command = [sys.executable, "-m", "pinch_models", "build", "tiny", "--pins", str(pins), "--json"]
        command += ["--cache", str(tmp_path / f"cache{seed}"), "--directory", str(tiny)]
        command += ["--source", "directory", "--out", str(out), "--archive"]
        run = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        assert _contents(out) == _contents(built.path)
    archives = [next((tmp_path / f"cache{seed}" / "archives").iterdir()).read_bytes() for seed in "12"]
    assert archives[0] == archives[1]


def test_the_archive_unpacks_to_the_model(cache: Cache, built: Built, tmp_path: Path) -> None:
    archive = cache.archive(built)
    with tarfile.open(archive) as tar:
        assert {(entry.uid, entry.mtime) for entry in tar} == {(0, 0)}
    (tmp_path / "device").mkdir()
    subprocess.run(["tar", "--extract", "--file", archive, "--directory", tmp_path / "device"], check=True)
    assert _contents(tmp_path / "device" / directory_name(built.manifest)) == _contents(built.path)


def test_a_second_build_takes_the_first_and_needs_no_source(tiny: Path, cache: Cache, built: Built) -> None:
    again = cache.build(tiny_pin(tiny), SourceSettings(()), quiet)
    assert built.fresh
    assert not again.fresh
    assert again.path == built.path


def test_a_damaged_build_is_made_anew(tiny: Path, cache: Cache, built: Built) -> None:
    with (built.path / "weights.bin").open("r+b") as stream:
        stream.write(b"\x01\x02")
    again = cache.build(tiny_pin(tiny), SourceSettings(()), quiet)
    assert again.fresh
    assert verify(again.path) == built.manifest


def test_nothing_half_built_stays_in_the_cache(tiny: Path, cache: Cache, settings: SourceSettings) -> None:
    with pytest.raises(BuildError):
        cache.build(tiny_pin(tiny, window=65), settings, quiet)
    assert sorted(path.name for path in cache.directory.iterdir()) == [".lock", "built", "downloads"]
    assert not list((cache.directory / "built").iterdir())


def test_weights_lie_page_aligned_in_one_file_and_the_graph_is_small(built: Built) -> None:
    model = onnx.load(built.path / "model.onnx", load_external_data=False)
    onnx.checker.check_model(str(built.path / "model.onnx"))
    outside = [tensor for tensor in model.graph.initializer if tensor.external_data]
    assert outside
    for tensor in outside:
        entry = {item.key: item.value for item in tensor.external_data}
        assert entry["location"] == "weights.bin"
        assert int(entry["offset"]) % PAGE_BYTES == 0
    assert all(len(tensor.raw_data) < INLINE_BYTES for tensor in model.graph.initializer)
    assert [item.name for item in model.graph.input] == ["input_ids", "attention_mask"]
    assert [item.name for item in model.graph.output] == ["embedding"]


def test_the_tokenizer_neither_pads_nor_cuts(built: Built) -> None:
    tokenizer = json.loads((built.path / "tokenizer.json").read_bytes())
    assert tokenizer["padding"] is None
    assert tokenizer["truncation"] is None


@pytest.mark.parametrize(("precision", "least"), [("fp32", 0.99999), ("int8", 0.99)])
def test_the_graph_computes_what_the_papers_say(
    tiny: Path, cache: Cache, settings: SourceSettings, precision: str, least: float
) -> None:
    built = cache.build(tiny_pin(tiny, precision=precision), settings, quiet)
    session = Session(built.path, built.manifest)
    reference = Reference(Checkpoint(tiny / "model.safetensors", read_shape(tiny / "config.json")))
    for text in ("a crab holds on .", "tide and pool", "on"):
        expected = reference.embed(session.ids(text))
        assert float(session.embed([text])[0] @ expected) >= least


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_vector_depends_neither_on_its_batch_nor_on_padding(
    tiny: Path, cache: Cache, settings: SourceSettings, precision: str
) -> None:
    built = cache.build(tiny_pin(tiny, precision=precision), settings, quiet)
    session = Session(built.path, built.manifest)
    texts = ["on", "a crab holds on . tide and pool", "tide"]
    assert np.abs(session.embed(texts) - session.embed(texts, batch=3)).max() < 1e-5


def test_cls_pooling_takes_the_first_token(tiny: Path, cache: Cache, settings: SourceSettings) -> None:
    mean = cache.build(tiny_pin(tiny, precision="fp32"), settings, quiet)
    first = cache.build(tiny_pin(tiny, precision="fp32", pooling="cls"), settings, quiet)
    vectors = [Session(item.path, item.manifest).embed(["tide and pool"])[0] for item in (mean, first)]
    assert abs(float(vectors[0] @ vectors[1])) < 0.999


def _drop_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.layer.1.output.dense.bias"]
    save_file(tensors, folder / "model.safetensors")


def _bend_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["encoder.layer.0.output.dense.bias"] = np.zeros(3, dtype=np.float32)
    save_file(tensors, folder / "model.safetensors")


def _write(name: str, text: str) -> Change:
    def change(folder: Path) -> None:
        (folder / name).write_text(text)

    return change


def _configure(**changes: Any) -> Change:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | changes))

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_drop_tensor, r"no tensor encoder\.layer\.1\.output\.dense\.bias"),
        (_bend_tensor, r"has shape \[3\], but config\.json promises \[384\]"),
        (_write("model.safetensors", "not safetensors"), "cannot be read"),
        (_write("config.json", "{"), "is not JSON"),
        (_write("config.json", "[]"), "no JSON object"),
        (_write("tokenizer.json", "[]"), "is not a tokenizer"),
        (_write("tokenizer.json", "{}"), "cannot be loaded"),
        (_configure(model_type="llama"), "only 'bert' can be built"),
        (_configure(num_hidden_layers="2"), "expected a positive integer"),
        (_configure(num_attention_heads=7), "expected a multiple of"),
        (_configure(hidden_size=128), "384 dimensions are pinned"),
    ],
)
def test_a_checkpoint_that_is_not_what_it_seems_is_refused(
    tiny: Path, tmp_path: Path, change: Change, said: str
) -> None:
    folder, out = tmp_path / "checkpoint", tmp_path / "out"
    shutil.copytree(tiny, folder)
    out.mkdir()
    change(folder)
    with pytest.raises(BuildError, match=said):
        assemble(tiny_pin(folder), folder, out)


def test_publishing_keeps_what_is_the_same_and_refuses_strangers(built: Built, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert publish(built, out)
    assert not publish(built, out)
    (out / "weights.bin").write_bytes(b"cut")
    assert publish(built, out)
    assert verify(out) == built.manifest
    stranger = tmp_path / "home"
    stranger.mkdir()
    (stranger / "letter.txt").write_text("dear")
    with pytest.raises(BuildError, match="exists and is no model directory"):
        publish(built, stranger)
    assert (stranger / "letter.txt").exists()


def test_a_publish_cut_between_its_two_renames_is_repaired(built: Built, tmp_path: Path) -> None:
    out = tmp_path / "out"
    publish(built, out)
    out.rename(tmp_path / "out.previous")
    assert not publish(built, out)
    assert verify(out) == built.manifest


def test_verify_names_what_is_wrong(built: Built) -> None:
    folder = built.path
    for change, said in (
        (lambda: (folder / "weights.bin").write_bytes(b"cut"), "has 3 bytes, the manifest says"),
        ((folder / "weights.bin").unlink, "lacks weights.bin"),
        (lambda: (folder / "manifest.json").write_text("{}"), "does not carry its own sha256"),
        ((folder / "manifest.json").unlink, "holds no manifest.json"),
    ):
        change()
        with pytest.raises(VerifyError, match=said):
            verify(folder)


def test_a_wrong_dimension_in_the_pin_is_found_by_trying(tiny: Path, cache: Cache) -> None:
    pin = tiny_pin(tiny, dimensions=HIDDEN + 1)
    with pytest.raises(BuildError, match=f"{HIDDEN + 1} dimensions are pinned"):
        cache.build(pin, SourceSettings(("directory",), directory=tiny), quiet)
