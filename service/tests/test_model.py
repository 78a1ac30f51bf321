"""The model: recall goes on without it, nothing is embedded twice, another one takes over when it is done."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest
from pinch.errors import Busy
from pinch.memory.embedding import Embedder
from pinch.memory.model import ModelUnusable, load_session, read_manifest

from service.tests.serving import Service, until

MEBIBYTE = 1024 * 1024
Starter = Callable[..., Service]


def copy_of(model: Path, to: Path) -> Path:
    shutil.copytree(model, to, symlinks=False)
    return to


def edit(folder: Path, **values: Any) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **values}), "utf-8")


def missing(_: Path, folder: Path) -> Path:
    return folder


def without_weights(int8: Path, folder: Path) -> Path:
    (copy_of(int8, folder) / "weights.bin").unlink()
    return folder


def truncated(int8: Path, folder: Path) -> Path:
    with (copy_of(int8, folder) / "weights.bin").open("r+b") as file:
        file.truncate(1_000_000)
    return folder


def no_manifest_but_rubbish(int8: Path, folder: Path) -> Path:
    (copy_of(int8, folder) / "manifest.json").write_text("[]", "utf-8")
    return folder


def other_dimension(int8: Path, folder: Path) -> Path:
    edit(copy_of(int8, folder), dimensions=128, sha256="0" * 64)
    return folder


def graph_of_rubbish(int8: Path, folder: Path) -> Path:
    graph = copy_of(int8, folder) / "model.onnx"
    graph.write_bytes(b"\x00" * graph.stat().st_size)
    return folder


def tokenizer_of_rubbish(int8: Path, folder: Path) -> Path:
    tokenizer = copy_of(int8, folder) / "tokenizer.json"
    tokenizer.write_bytes(b"{" * tokenizer.stat().st_size)
    return folder


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (missing, "no readable manifest.json"),
        (without_weights, "lacks weights.bin"),
        (truncated, "has 1000000 bytes; its manifest says"),
        (no_manifest_but_rubbish, "is no model manifest"),
        (other_dimension, "makes vectors of 384 dimensions; its manifest says 128"),
        (graph_of_rubbish, "cannot be loaded"),
        (tokenizer_of_rubbish, "cannot be loaded"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_recall_goes_on_by_word_when_the_model_is_bad(
    start: Starter, tmp_path: Path, int8: Path, spoil: Callable[[Path, Path], Path], said: str
) -> None:
    service = start(PINCH_TIER="full", PINCH_MODEL_DIR=str(spoil(int8, tmp_path / "model")))
    service.remember("The kettle stands on the shelf.")
    answer = service.recall("kettle")
    assert (answer["mode"], answer["degraded"]) == ("keyword", True)
    assert [hit["text"] for hit in answer["hits"]] == ["The kettle stands on the shelf."]
    assert service.recall("kettle", mode="keyword")["degraded"] is False
    refused = service.call("POST", "/v1/recall", {"query": "kettle", "mode": "semantic"})
    assert refused.status == 503
    assert refused.error["type"] == "model_unusable"
    assert said in refused.error["message"]
    told = service.get("/readyz")
    assert told["ready"] is True
    assert said in told["model"]
    assert said in service.get("/v1/sync")["embedding"]["trouble"]
    embeddings = service.call("POST", "/v1/embeddings", {"model": "all-MiniLM-L6-v2-int8", "input": "x"})
    assert embeddings.status == 503
    assert embeddings.json["error"]["type"] == "server_error"
    service.put("a.md", b"documents still come in\n")
    assert service.texts("documents") == ["documents still come in"]


def test_a_bad_model_does_not_cost_the_vectors_of_the_good_one(start: Starter, tmp_path: Path, int8: Path) -> None:
    service = start(PINCH_TIER="full", PINCH_MODEL_DIR=str(int8))
    service.remember("The kettle stands on the shelf.")
    service.embedded()
    service.stop()
    bad = start(service.folder, PINCH_TIER="full", PINCH_MODEL_DIR=str(other_dimension(int8, tmp_path / "bad")))
    assert bad.recall("kettle")["degraded"] is True
    assert len(vectors(bad)) == 1
    bad.stop()
    again = start(service.folder, PINCH_TIER="full", PINCH_MODEL_DIR=str(int8))
    again.embedded()
    assert again.recall("what is on the shelf", mode="semantic")["hits"]
    assert not loaded_for_documents(again)


def vectors(service: Service) -> list[tuple[int, bytes]]:
    """Model and digest of every vector that is stored."""
    connection = apsw.Connection(str(service.store), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return list(connection.execute("SELECT model, digest FROM embeddings"))
    finally:
        connection.close()


def loaded_for_documents(service: Service) -> bool:
    return "model unloaded" in service.said()


def test_nothing_is_embedded_twice(start: Starter, int8: Path) -> None:
    service = start(PINCH_TIER="full", PINCH_MODEL_DIR=str(int8), PINCH_EMBEDDING_IDLE_UNLOAD_S="1")
    texts = [f"The kettle number {number} stands on the shelf." for number in range(5)]
    for text in texts:
        service.remember(text)
    service.embedded()
    until(lambda: not service.get("/v1/sync")["embedding"]["loaded"], "the model leaves memory")
    public = service.listed()[0]["id"]
    service.call("DELETE", f"/v1/memories/{public}")
    service.embedded()
    for text in texts:
        service.remember(text, space="another")
        service.remember(text, thread="another")
    service.remember(texts[4])
    service.put("a.md", texts[0].encode())
    service.embedded()
    state = service.get("/v1/sync")["embedding"]
    assert (state["loaded"], state["done"]) == (False, 5 + 10 + 1 + 1), "indexed, and the model was not needed"
    assert len(vectors(service)) == 5
    service.stop()
    service.start()
    assert service.get("/v1/sync")["embedding"]["pending"] == 0


def test_an_idle_model_leaves_memory_and_comes_back(start: Starter, int8: Path) -> None:
    service = start(PINCH_TIER="full", PINCH_MODEL_DIR=str(int8), PINCH_EMBEDDING_IDLE_UNLOAD_S="1")
    service.remember("My sister is allergic to peanuts.")
    service.embedded()
    for query in ("which foods are dangerous", "who must not eat nuts"):
        until(lambda: service.get("/readyz")["model"] == "not loaded", "the model leaves memory")
        answer = service.recall(query, mode="semantic")
        assert answer["hits"][0]["text"] == "My sister is allergic to peanuts."
        assert service.get("/readyz")["model"] == "loaded"
    with_model = booked(service)
    # What its libraries took when they were imported stays; the graph and its buffers go.
    until(lambda: booked(service) < with_model - 4 * MEBIBYTE, "its memory is given back and booked so")


def booked(service: Service) -> int:
    """Bytes on the model's account."""
    accounts = service.get("/v1/budget")["accounts"]
    return int(next(each["used_bytes"] for each in accounts if each["name"] == "model"))


def test_another_model_indexes_in_the_shadow_and_then_takes_over(
    start: Starter, int8: Path, fp32: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "service"
    service = start(folder, PINCH_TIER="full", PINCH_MODEL_DIR=str(int8))
    lines = [f"Memory {number} tells of kettle {number * 7}." for number in range(120)]
    service.call("POST", "/v1/memories", {"memories": [{"text": line} for line in lines]})
    service.embedded()
    (old,) = {model for model, _ in vectors(service)}
    service.stop()
    changed = start(folder, PINCH_TIER="full", PINCH_MODEL_DIR=str(fp32))
    until(lambda: changed.get("/v1/sync")["embedding"]["done"] > 0, "the new model has begun")
    state = changed.get("/v1/sync")["embedding"]
    assert state["pending"] > 0, "the test came too late to see anything"
    answer = changed.recall("kettle 49")
    assert (answer["mode"], answer["degraded"]) == ("keyword", True)
    kept = [model for model, _ in vectors(changed)]
    assert kept.count(old) == 120, "the old vectors stay until the new ones are complete"
    changed.kill()
    changed.start()
    changed.embedded()
    until(lambda: changed.recall("kettle 49")["degraded"] is False, "the new model has taken over")
    assert changed.get("/v1/sync")["embedding"]["done"] < 120, "what was done before the kill is not done again"
    assert {model for model, _ in vectors(changed)} != {old}
    assert len(vectors(changed)) == 120
    assert len(changed.recall("kettle 49", mode="semantic", k=100)["hits"]) == 100


def test_going_back_to_the_old_model_half_way_costs_nothing(
    start: Starter, int8: Path, fp32: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "service"
    service = start(folder, PINCH_TIER="full", PINCH_MODEL_DIR=str(int8), PINCH_EMBEDDING_IDLE_UNLOAD_S="1")
    service.call("POST", "/v1/memories", {"memories": [{"text": f"Memory {number}"} for number in range(100)]})
    service.embedded()
    service.stop()
    changed = start(folder, PINCH_TIER="full", PINCH_MODEL_DIR=str(fp32))
    until(lambda: changed.get("/v1/sync")["embedding"]["done"] > 0, "the new model has begun")
    changed.kill()
    back = start(folder, PINCH_TIER="full", PINCH_MODEL_DIR=str(int8))
    back.embedded()
    assert back.get("/v1/sync")["embedding"]["loaded"] is False, "every vector was still there"
    assert len(back.recall("Memory", mode="semantic", k=100)["hits"]) == 100


def test_a_trial_that_cannot_be_remembered_costs_no_semantic_recall(start: Starter, int8: Path, tmp_path: Path) -> None:
    folder = tmp_path / "service"
    (folder / "state" / "model-probed").mkdir(parents=True)
    service = start(folder, PINCH_TIER="full", PINCH_MODEL_DIR=str(int8))
    service.remember("kettle")
    service.embedded()
    assert service.recall("kettle")["degraded"] is False
    assert "is not remembered" in service.said()


def test_a_model_that_cannot_be_tried_now_is_tried_again(
    int8: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        embedder = Embedder(int8, 1, 0, 0, tmp_path / "record")
        embedder.start()
        try:
            with monkeypatch.context() as patch:
                patch.setattr("sys.executable", str(tmp_path / "nothing"))  # fails as a fork without memory does
                with pytest.raises(ModelUnusable, match="cannot be loaded now"):
                    await embedder.query("kettle")
            assert embedder.available
            assert len((await embedder.query("kettle")).int8) == 384
        finally:
            embedder.stop()

    asyncio.run(scenario())


def test_a_long_text_is_left_at_the_next_window_when_the_service_stops(int8: Path) -> None:
    looks = iter([False, True])
    session = load_session(read_manifest(int8), threads=1)
    with pytest.raises(Busy, match="the service stops"):
        session.embed("kettle " * 1000, lambda: next(looks))


def test_a_model_that_crashes_takes_only_its_trial_with_it(start: Starter, int8: Path, tmp_path: Path) -> None:
    # The trial runs `python -m pinch.memory.probe`: a site hook in that process alone kills it like bad native code.
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(
        "import os, sys\nif 'pinch.memory.probe' in sys.orig_argv:\n    os.kill(os.getpid(), 4)\n", "utf-8"
    )
    source = Path(__file__).resolve().parents[1] / "src"
    service = start(PINCH_TIER="full", PINCH_MODEL_DIR=str(int8), PYTHONPATH=f"{hook}:{source}")
    service.remember("kettle")
    assert service.recall("kettle")["degraded"] is True
    assert "crashes on this CPU (SIGILL)" in service.get("/readyz")["model"]
