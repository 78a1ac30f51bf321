"""Real sentences to measure with: long conversations, and questions that name the turns answering them."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from pinch_models.errors import ModelError

_SESSION = re.compile(r"session_(\d+)")
_TURN = re.compile(r"D\d+:\d+")


@dataclass(frozen=True)
class Question:
    """A question and the ids of the turns that hold its answer."""

    text: str
    evidence: frozenset[str]


@dataclass(frozen=True)
class Conversation:
    """Turns by id, in the order in which they were said, and the questions about them."""

    turns: dict[str, str]
    questions: tuple[Question, ...]


def read_conversations(folder: Path) -> list[Conversation]:
    """Read every LoCoMo file in ``folder``, by name; questions without evidence are left out."""
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise ModelError(f"{folder} holds no LoCoMo conversations (*.json); name its parent with --data")
    return [_read(path) for path in paths]


def _read(path: Path) -> Conversation:
    data = json.loads(path.read_bytes())
    sessions = sorted((int(match[1]), turns) for key, turns in data.items() if (match := _SESSION.fullmatch(key)))
    turns = {turn["dia_id"]: f"{turn['speaker']}: {turn['text']}" for _, said in sessions for turn in said}
    questions = []
    for entry in data["qa"]:
        evidence = frozenset(_TURN.findall(" ".join(entry.get("evidence", [])))) & turns.keys()
        if evidence:
            questions.append(Question(entry["question"], frozenset(evidence)))
    return Conversation(turns, tuple(questions))
