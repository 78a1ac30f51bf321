"""What a board is, in the words of a report."""

from __future__ import annotations

from tests.appliance import RELEASE, Board

PREFIX = "about"
_QUESTIONS = {
    "board": "tr -d '\\0' </proc/device-tree/model",
    "system": 'sed -n \'s/^PRETTY_NAME="*\\([^"]*\\)"*$/\\1/p\' /etc/os-release',
    "kernel": "uname -srm",
    "memory": "awk '/^MemTotal/ {print int($2 / 1024) \" MB\"}' /proc/meminfo",
    "release": f"basename $(readlink {RELEASE})",
}


def describe(board: Board) -> dict[str, str]:
    """Return name and value of what a reader wants to know about a board; what it does not say is empty.

    One command asks for all, because each costs a small board time.
    """
    command = "; ".join(
        f"{{ {question} || true; }} 2>/dev/null | head -n 1; echo ." for question in _QUESTIONS.values()
    )
    said = board.run(command).split("\n.")
    return {name: answer.strip(" .\n") for name, answer in zip(_QUESTIONS, said, strict=False)}
