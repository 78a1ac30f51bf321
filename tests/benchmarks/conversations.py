"""The LoCoMo benchmark: long conversations, questions about them, and the turns that hold each answer.

Published by Snap Research as `data/locomo10.json` in the repository `snap-research/locomo`; for evaluation only, so it
is not here. `PINCH_DATA` names the folder that holds `locomo/`, with that file or one file for each conversation.
"""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attrs import frozen

from tests.cache import REPOSITORY

ADVERSARIAL = 5
"""Category of questions whose premise is false: they name the wrong speaker, and have no answer."""

_SESSION = re.compile(r"session_(\d+)")
_EVIDENCE = re.compile(r"D:?(\d+):(\d+)")


class MissingDataError(RuntimeError):
    """The conversations are not on this machine."""


@frozen
class Turn:
    """One message of a conversation."""

    id: str
    session: int
    at: str
    """When its session began, RFC 3339."""
    speaker: str
    said: str
    caption: str
    """What the image shows that was shared with it, or nothing."""

    def text(self, *, captions: bool) -> str:
        """Return the turn as a client would remember it."""
        shared = f" [shares {self.caption}]" if captions and self.caption else ""
        return f"{self.speaker}: {self.said}{shared}"


@frozen
class Question:
    """A question and the ids of the turns that hold its answer, at least one."""

    text: str
    category: int
    evidence: frozenset[str]


@frozen
class Conversation:
    """One conversation with its questions."""

    name: str
    turns: tuple[Turn, ...]
    questions: tuple[Question, ...]


def load() -> list[Conversation]:
    """Read the conversations.

    Raises:
        MissingDataError: says where they can be had.
    """
    folder = Path(os.environ.get("PINCH_DATA") or REPOSITORY.parent / "shared" / "data") / "locomo"
    files = sorted(folder.glob("*.json"))
    if not files:
        raise MissingDataError(
            f"no conversations in {folder}: get data/locomo10.json of the public repository snap-research/locomo, "
            "put it into a folder `locomo`, and let PINCH_DATA name the folder above that"
        )
    found = []
    for file in files:
        content = json.loads(file.read_text("utf-8"))
        if isinstance(content, list):
            found += [_conversation(str(one.get("sample_id", n)), one) for n, one in enumerate(content)]
        else:
            found.append(_conversation(file.stem, content))
    return found


def _conversation(name: str, raw: dict[str, Any]) -> Conversation:
    sessions = raw.get("conversation", raw)
    numbers = sorted(
        int(match[1])
        for key, value in sessions.items()
        if (match := _SESSION.fullmatch(key)) and isinstance(value, list)
    )
    turns = tuple(
        Turn(
            id=turn["dia_id"],
            session=number,
            at=_moment(sessions[f"session_{number}_date_time"]),
            speaker=turn["speaker"],
            said=turn["text"],
            caption=turn.get("blip_caption", ""),
        )
        for number in numbers
        for turn in sessions[f"session_{number}"]
    )
    known = {turn.id for turn in turns}
    questions = []
    for question in raw["qa"]:
        cited = {f"D{match[1]}:{match[2]}" for match in _EVIDENCE.finditer(" ".join(question.get("evidence", [])))}
        if evidence := frozenset(cited & known):
            questions.append(Question(question["question"], int(question["category"]), evidence))
    return Conversation(name, turns, tuple(questions))


def _moment(written: str) -> str:
    moment = datetime.strptime(written, "%I:%M %p on %d %B, %Y").replace(tzinfo=UTC)
    return moment.isoformat().replace("+00:00", "Z")
