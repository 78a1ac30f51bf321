"""The same text has the same vector on the board and on the controller that built the model."""

from __future__ import annotations

import base64
import platform
import struct
from pathlib import Path

import pytest

from tests.appliance import Board
from tests.client import Client
from tests.corpus.snapshot import model_folder
from tests.report import Figures
from tests.running import LocalService

AGREEMENT = 1e-3
TEXTS = [
    "When did someone repair our heating?",
    "The train to Prague leaves from platform nine at six in the morning.",
    "naïve café — Ελληνικά, русский, 日本語, עברית, 🙂",
    "def main() -> int:\n    return sum(range(10))\n",
    "A board that swaps to compressed memory gives up idle pages early and keeps the model's weights mapped. " * 4,
    "x",
]


def test_int8_vectors_agree_between_architectures(board: Board, tmp_path: Path, figures: Figures) -> None:
    tier = board.tier
    if not tier.semantic:
        pytest.skip("this tier has no model")
    if board.model != tier.model:
        pytest.skip("the inventory names another model, and the controller compares with the tier's")
    with board.service() as client:
        there = [_vector(client, tier.model, text) for text in TEXTS]
    with (
        LocalService(tmp_path, PINCH_TIER="full", PINCH_MODEL_DIR=str(model_folder())) as service,
        service.client() as client,
    ):
        here = [_vector(client, tier.model, text) for text in TEXTS]
    worst = max(
        abs(one - other) for near, far in zip(here, there, strict=True) for one, other in zip(near, far, strict=True)
    )
    machines = f"{platform.machine()} and {board.run('uname -m')}"
    figures.add(f"largest difference of an int8 vector between {machines}", f"{worst:.1e}", bound=f"≤ {AGREEMENT:g}")
    assert worst <= AGREEMENT


def _vector(client: Client, model: str, text: str) -> list[float]:
    answer = client.call("POST", "/v1/embeddings", {"model": model, "input": text, "encoding_format": "base64"})
    raw = base64.b64decode(answer["data"][0]["embedding"])
    return list(struct.unpack(f"<{len(raw) // 4}f", raw))
