"""Questions a person would ask the corpus, and the documents that answer them."""

from __future__ import annotations

import tomllib
from pathlib import Path

from attrs import frozen

QUESTIONS_FILE = Path(__file__).with_name("questions.toml")


@frozen
class Question:
    """A question, and the paths of which one should be among the hits."""

    text: str
    documents: list[str]


def load_questions(path: Path = QUESTIONS_FILE) -> list[Question]:
    """Read the questions."""
    rows = tomllib.loads(path.read_text("utf-8"))["questions"]
    return [Question(**row) for row in rows]
