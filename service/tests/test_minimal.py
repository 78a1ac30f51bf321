"""The smallest tier: what it never loads, seen in the running process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import apsw

from service.tests.serving import Service

HEAVY = ("numpy", "onnxruntime", "tokenizers", "sqlite_vec", "vec0", "huggingface_hub", "google/protobuf")


def mapped(pid: int) -> set[str]:
    return {line.split()[-1] for line in Path(f"/proc/{pid}/maps").read_text("utf-8").splitlines()}


def test_the_heavy_libraries_never_come_in(minimal: Service, space: str) -> None:
    minimal.remember("The kettle stands on the shelf.", space=space, thread="t")
    minimal.put("a.md", b"# Kettle\n\nIt boils.\n", space)
    for mode in ("hybrid", "keyword", "semantic"):
        minimal.call("POST", "/v1/recall", {"query": "kettle", "space": space, "mode": mode})
    minimal.call("POST", "/v1/embeddings", {"model": "x", "input": "x"})
    for path in ("/v1/sync", "/v1/budget", "/readyz", "/metrics", "/v1/snapshot", "/openapi.json"):
        assert minimal.call("GET", path).status == 200, path
    found = mapped(minimal.pid)
    assert any("apsw" in path for path in found), "the right process is looked at"
    assert not [path for path in found if any(name in path for name in HEAVY)]


def test_what_is_forgotten_leaves_nothing_behind_where_no_index_waits_for_it(start: Callable[..., Service]) -> None:
    service = start(PINCH_TIER="minimal")
    forgotten = service.remember("The kettle stands on the shelf.")
    assert service.call("DELETE", f"/v1/memories/{forgotten}").status == 204
    store = apsw.Connection(str(service.store), flags=apsw.SQLITE_OPEN_READONLY)
    assert store.execute("SELECT count(*) FROM vanished").get == 0
    store.close()


def test_the_same_look_sees_them_in_a_tier_with_a_model(full: Service, space: str) -> None:
    full.remember("kettle", space=space)
    full.embedded()
    full.recall("kettle", space=space)
    found = mapped(full.pid)
    for name in ("numpy", "onnxruntime", "tokenizers", "vec0", "weights.bin"):
        assert any(name in path for path in found), name


def test_a_tier_with_a_model_loads_it_only_when_it_is_needed(start: Callable[..., Service], int8: Path) -> None:
    service = start(PINCH_TIER="full", PINCH_MODEL_DIR=str(int8))
    service.recall("kettle", mode="keyword")
    assert not [path for path in mapped(service.pid) if "onnxruntime" in path or "numpy" in path]
