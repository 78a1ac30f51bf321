"""The models that ship: their size, their accuracy, and that their weights are mapped."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from model_samples import quiet
from pinch_models.build import Built, Cache
from pinch_models.checkpoint import Checkpoint, read_shape
from pinch_models.cli import default_cache
from pinch_models.pins import load_pins
from pinch_models.reference import Reference
from pinch_models.session import Session
from pinch_models.sources import SourceSettings

PIPELINE = Path(__file__).resolve().parent.parent
FP32, INT8 = "all-MiniLM-L6-v2-fp32", "all-MiniLM-L6-v2-int8"
SENTENCES = (
    "The crab turned sideways, because forward was taken.",
    "How much memory does the service hold when nobody asks it anything?",
    "Put the card into the Pi, close the lid and wait for the green light.",
    "She moved to Lisbon in March and started teaching pottery to children.",
    "def recall(query: str, k: int = 6) -> list[Hit]:",
    "Wann fährt der letzte Zug nach Hause?",
    "ok",
    "The invoice from the second of July was paid twice, once by mistake. " * 30,
)
Real = Callable[[str], Built]


@pytest.fixture(scope="module")
def expected(real: Real) -> np.ndarray:
    built = real(FP32)
    downloads = Cache(default_cache()).downloads
    files = {pinned.name: downloads.path(pinned) for pinned in load_pins().model(FP32).checkpoint.files}
    if not files["model.safetensors"].exists():
        pytest.fail(f"{default_cache()} holds the built model but not its download; remove built/ to fetch it")
    reference = Reference(Checkpoint(files["model.safetensors"], read_shape(files["config.json"])))
    session = Session(built.path, built.manifest)
    return np.stack([reference.embed(session.ids(text)) for text in SENTENCES])


@pytest.mark.parametrize(("name", "least"), [(FP32, 0.99999), (INT8, 0.98)])
def test_vectors_agree_with_the_reference(real: Real, expected: np.ndarray, name: str, least: float) -> None:
    built = real(name)
    cosines = np.sum(Session(built.path, built.manifest).embed(SENTENCES) * expected, axis=1)
    print(f"{name}: cosine mean {cosines.mean():.5f}, min {cosines.min():.5f}")
    assert cosines.min() >= least


@pytest.mark.parametrize("name", [FP32, INT8])
def test_a_text_has_one_vector_alone_and_in_a_batch(real: Real, name: str) -> None:
    built = real(name)
    session = Session(built.path, built.manifest)
    assert np.abs(session.embed(SENTENCES) - session.embed(SENTENCES, batch=8)).max() < 1e-3


def test_int8_is_a_quarter_of_fp32(real: Real) -> None:
    sizes = {name: sum(entry["bytes"] for entry in real(name).manifest["files"].values()) for name in (FP32, INT8)}
    print(sizes)
    assert sizes[INT8] < 24_000_000
    assert sizes[FP32] < 91_000_000
    assert real(INT8).manifest["files"]["model.onnx"]["bytes"] < 300_000


def test_the_model_comes_out_byte_for_byte_again(real: Real, tmp_path: Path) -> None:
    first = real(INT8)
    default = Cache(default_cache())
    second = Cache(tmp_path)
    for pinned in load_pins().model(INT8).checkpoint.files:
        second.downloads.copy(pinned, default.downloads.path(pinned))
    again = second.build(load_pins().model(INT8), SourceSettings(()), quiet)
    assert again.manifest == first.manifest


MEASURE = """
import json, re, sys
from pathlib import Path
import numpy, onnxruntime, tokenizers
from pinch_models.manifest import read_manifest
from pinch_models.session import Session
def held():
    text = Path("/proc/self/smaps_rollup").read_text()
    return {key: int(re.search(key + r":\\s+(\\d+)", text)[1]) / 1024 for key in ("Rss", "Anonymous")}
folder = Path(sys.argv[1])
tokenizer_only = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
before = held()
session = Session(folder, read_manifest(folder))
session.run([[101, 2054, 102]])
after = held()
maps = Path("/proc/self/maps").read_text()
print(json.dumps({"anonymous": after["Anonymous"] - before["Anonymous"],
                  "rss": after["Rss"] - before["Rss"], "mapped": maps.count("weights.bin")}))
"""


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux")
@pytest.mark.parametrize("name", [FP32, INT8])
def test_the_weights_are_mapped_and_not_copied(real: Real, name: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, str(real(name).path)],
        env={"PYTHONPATH": str(PIPELINE), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    held = json.loads(run.stdout)
    print(f"{name}: {held}")
    assert held["mapped"] >= 20
    # The second tokenizer is some 9 MB of it; a copy of the weights would be 23 or 90 MB more.
    assert held["anonymous"] < 20
