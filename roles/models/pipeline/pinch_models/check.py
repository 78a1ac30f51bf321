"""Accuracy of the built models on real sentences, against limits that a build has to keep."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pinch_models.build import Cache
from pinch_models.checkpoint import Checkpoint, read_shape
from pinch_models.conversations import Conversation, read_conversations
from pinch_models.pins import load_pins
from pinch_models.precision import Float
from pinch_models.reference import Reference
from pinch_models.session import Session
from pinch_models.sources import SourceSettings

FP32, INT8 = "all-MiniLM-L6-v2-fp32", "all-MiniLM-L6-v2-int8"
NEAREST = 10

# A graph in float32 is the same function; int8 may turn a vector a little and must not cost hits.
LEAST_FP32_COSINE = 0.999
LEAST_INT8_MEAN_COSINE = 0.98
MOST_RECALL_LOST = 0.01


def check(
    cache: Cache,
    settings: SourceSettings,
    folder: Path,
    *,
    sentences: int,
    with_recall: bool,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Measure both built-in models; ``ok`` says whether every limit is kept."""
    conversations = read_conversations(folder)
    pins = load_pins()
    sessions = {}
    for name in (FP32, INT8):
        built = cache.build(pins.model(name), settings, tell)
        sessions[name] = Session(built.path, built.manifest)
    texts = _spread([text for talk in conversations for text in talk.turns.values()], sentences)
    tell(f"embedding {len(texts)} turns with the reference, fp32 and int8")
    reference = _reference(cache)
    expected = np.stack([reference.embed(sessions[FP32].ids(text)) for text in texts])
    fp32, int8 = sessions[FP32].embed(texts), sessions[INT8].embed(texts)
    result: dict[str, Any] = {
        "sentences": len(texts),
        "fp32_reference_min": _round(_cosines(fp32, expected).min()),
        "int8_reference_mean": _round(_cosines(int8, expected).mean()),
        "int8_fp32_mean": _round(_cosines(int8, fp32).mean()),
        "int8_fp32_min": _round(_cosines(int8, fp32).min()),
    }
    kept = result["fp32_reference_min"] >= LEAST_FP32_COSINE and result["int8_fp32_mean"] >= LEAST_INT8_MEAN_COSINE
    if with_recall:
        for key, name in (("fp32", FP32), ("int8", INT8)):
            tell(f"recall@{NEAREST} of {name} on {len(conversations)} conversations")
            started = time.monotonic()
            result[f"{key}_recall"] = _round(recall(sessions[name], conversations))
            result[f"{key}_recall_seconds"] = round(time.monotonic() - started, 1)
        kept = kept and result["fp32_recall"] - result["int8_recall"] <= MOST_RECALL_LOST
    return result | {"ok": bool(kept)}


def recall(session: Session, conversations: list[Conversation]) -> float:
    """Return the mean share of a question's evidence among its ten nearest turns."""
    shares = []
    for talk in conversations:
        ids = list(talk.turns)
        turns = session.embed(list(talk.turns.values()))
        questions = session.embed([question.text for question in talk.questions])
        for question, scores in zip(talk.questions, questions @ turns.T, strict=True):
            nearest = {ids[index] for index in np.argsort(-scores, kind="stable")[:NEAREST]}
            shares.append(len(nearest & question.evidence) / len(question.evidence))
    return float(np.mean(shares))


def _reference(cache: Cache) -> Reference:
    files = {pinned.name: cache.downloads.path(pinned) for pinned in load_pins().model(FP32).checkpoint.files}
    return Reference(Checkpoint(files["model.safetensors"], read_shape(files["config.json"])))


def _spread(texts: list[str], wanted: int) -> list[str]:
    step = max(1, len(texts) // max(1, wanted))
    return texts[::step][:wanted]


def _cosines(left: Float, right: Float) -> Float:
    cosines: Float = np.sum(left * right, axis=1)
    return cosines


def _round(value: float) -> float:
    return round(float(value), 6)
