"""How an answer is shown: while it comes on a terminal, whole to everything else."""

from __future__ import annotations

from pinch.cli.context import Context
from pinch.cli.exchange import Answer
from pinch.cli.text import one_line, safe

_ORDINARY = frozenset({"stop", "end_turn", "aborted"})
"""Reasons for an answer's end that nobody needs to be told."""


class Patient:
    """Shows an answer when it is whole: a file or a program has no use for half of one."""

    def __init__(self, context: Context) -> None:
        self.output = context.output

    def text(self, more: str) -> None:
        """Leave it to `whole`."""

    def anew(self) -> None:
        """Leave it to `whole`."""

    def tool(self, name: str) -> None:
        """Leave it to `whole`."""

    def note(self, sentence: str) -> None:
        """Tell it beside the answer."""
        self.output.note(sentence)

    def end(self) -> None:
        """Learn that no more comes."""

    def whole(self, answer: Answer) -> None:
        """Take how it ended."""
        if answer.state == "final":
            self.output.lines([safe(answer.text)])


class Screen(Patient):
    """Shows an answer on a terminal while it comes."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._stdout = context.stdout
        self._inside_line = False
        self._held = ""

    def text(self, more: str) -> None:
        """Show what has come."""
        more = self._held + more
        # Half of a line's end is no control character yet.
        self._held = "\r" if more.endswith("\r") else ""
        more = more.removesuffix("\r")
        if more:
            self._stdout.write(safe(more))
            self._stdout.flush()
            self._inside_line = not more.endswith("\n")

    def anew(self) -> None:
        """Say that what was shown counts no more."""
        self._aside("the answer begins again")

    def tool(self, name: str) -> None:
        """Say which tool is used."""
        self._aside(f"· {one_line(name)}")

    def note(self, sentence: str) -> None:
        """Tell it on a line of its own."""
        self.end()
        self.output.note(sentence)

    def end(self) -> None:
        """End the line that was begun."""
        if self._inside_line:
            self._stdout.write("\n")
        self._stdout.flush()
        self._inside_line, self._held = False, ""

    def whole(self, answer: Answer) -> None:
        """Say how it ended, where that is not as usual."""
        if answer.state == "aborted":
            self._aside("aborted")
        elif answer.stop_reason and answer.stop_reason not in _ORDINARY:
            self._aside(f"the answer stopped here: {one_line(answer.stop_reason)}")

    def _aside(self, line: str) -> None:
        self.end()
        self.output.lines([self.output.style(line, "dim")])
        self._stdout.flush()


def viewer_of(context: Context) -> Patient:
    """Return who watches an answer: a terminal sees it come."""
    return Screen(context) if context.stdout.isatty() and not context.as_json else Patient(context)
