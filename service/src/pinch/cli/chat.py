"""`pinch chat`: a conversation in a terminal, or one message and its answer."""

from __future__ import annotations

import argparse
import secrets
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from pinch.cli.command import accept_json
from pinch.cli.context import Context
from pinch.cli.errors import CommandError, Exit
from pinch.cli.exchange import Exchange, Viewer, messages_of, text_of
from pinch.cli.gateway import ask
from pinch.cli.output import Output
from pinch.cli.screen import viewer_of
from pinch.cli.text import one_line, safe, table

MAIN = "main"
SHOWN_MESSAGES = 6
LONGEST_MESSAGE_BYTES = 1024 * 1024
"""What is read of stdin; the service takes less, and says how much."""
_LISTED_SESSIONS = 50
HELP = """\
/sessions     list the sessions
/session KEY  go to another session, which begins with its first message
/new          go to a new session
/history [N]  show the last messages again
/reset        forget what was said in this session
/delete [KEY] remove this session, or another
/quit         leave; so does Ctrl-D
Ctrl-C aborts an answer. A message that begins with / is written with two of them."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    accept_json(parser)
    parser.add_argument(
        "message", nargs="*", metavar="MESSAGE", help="say this, print the answer and end; - reads it from stdin"
    )
    session = parser.add_mutually_exclusive_group()
    session.add_argument("--session", default=MAIN, metavar="KEY", help=f"session to talk in (default: {MAIN})")
    session.add_argument("--new", action="store_true", help="begin a new session")
    parser.add_argument(
        "--history",
        type=_count,
        default=SHOWN_MESSAGES,
        metavar="N",
        help=f"messages to show at the beginning (default: {SHOWN_MESSAGES})",
    )


def run(args: argparse.Namespace, context: Context) -> int:
    """Talk until the person leaves, or print the answer to one message."""
    session = _fresh_key(context.now()) if args.new else args.session
    if args.message in ([], ["-"]) and (args.message or not context.stdin.isatty()):
        return _once(_read(context), session, context)
    if args.message:
        return _once(" ".join(args.message), session, context)
    if context.as_json:
        raise CommandError("chat: --json is for one message", "give it as an argument", exit_status=Exit.USAGE)
    return _Talk(session, context).run(args.history)


def _once(message: str, session: str, context: Context) -> int:
    viewer = viewer_of(context)
    try:
        answer = _exchange(message, session, context, viewer).answer()
    finally:
        viewer.end()
    if context.as_json:
        context.output.document(answer.document())
    else:
        viewer.whole(answer)
    if answer.state == "final":
        return Exit.OK
    if answer.interrupted:
        return Exit.INTERRUPTED
    context.output.note("somebody else aborted the answer")
    return Exit.ERROR


def _read(context: Context) -> str:
    content = context.stdin.buffer.read(LONGEST_MESSAGE_BYTES + 1)
    if len(content) > LONGEST_MESSAGE_BYTES:
        raise CommandError(
            f"stdin has more than {LONGEST_MESSAGE_BYTES} bytes",
            "send less at once, or use `pinch ingest` for documents",
            exit_status=Exit.LIMIT,
        )
    try:
        return content.decode("utf-8").removesuffix("\n")
    except UnicodeDecodeError as error:
        raise CommandError(
            f"stdin is not UTF-8 at byte {error.start}", "convert it (iconv -t UTF-8)", exit_status=Exit.USAGE
        ) from None


def _exchange(message: str, session: str, context: Context, viewer: Viewer) -> Exchange:
    if not message.strip():
        raise CommandError("the message is empty", exit_status=Exit.USAGE)
    try:
        (message + session).encode("utf-8")
    except UnicodeEncodeError:
        raise CommandError("the message is not UTF-8", "convert it (iconv -t UTF-8)", exit_status=Exit.USAGE) from None
    client = context.client
    return Exchange(
        client.address, client.token, session=session, message=message, run=str(uuid.uuid4()), viewer=viewer
    )


class _Talk:
    """The prompt, and what is said at it. No connection is held while it waits: each would take one of few places."""

    def __init__(self, session: str, context: Context) -> None:
        self._session = session
        self._context = context
        self._output: Output = context.output
        # With some terminals' names readline writes to stdout as soon as it is loaded; one message does without it.
        from pinch.cli.prompt import Prompt, history_file

        self._prompt = Prompt(history_file(context.environ))
        self._commands: Mapping[str, Callable[[str], bool]] = {
            "help": self._help,
            "sessions": self._sessions,
            "session": self._go,
            "new": self._new,
            "history": self._history,
            "reset": self._reset,
            "delete": self._delete,
            "quit": self._quit,
        }

    def run(self, count: int) -> int:
        """Talk until the person leaves."""
        self._show(count)
        self._output.note("/help says what else there is; Ctrl-D leaves")
        going_on = True
        while going_on:
            try:
                going_on = self._turn()
            except EOFError:
                self._output.lines([""])
                break
            except KeyboardInterrupt:
                typed = self._prompt.pending
                self._output.lines([""])
                if not typed:
                    self._output.note("Ctrl-D or /quit leaves")
            except CommandError as error:
                self._output.error(error)
        return Exit.OK

    def _turn(self) -> bool:
        line = self._prompt.line(f"{one_line(self._session)}> ")
        if not line.strip():
            return True
        self._prompt.keep(line)
        if not line.startswith("/") or line.startswith("//"):
            viewer = viewer_of(self._context)
            message = line.removeprefix("/") if line.startswith("//") else line
            try:
                answer = _exchange(message, self._session, self._context, viewer).answer()
            finally:
                viewer.end()
            viewer.whole(answer)
            return True
        name, _, rest = line[1:].strip().partition(" ")
        command = self._commands.get(name)
        if command is None:
            raise CommandError(f"/{name} is no command", "/help lists them, and // begins a message with /")
        return command(rest.strip())

    def _help(self, _: str) -> bool:
        self._output.lines(HELP.splitlines())
        return True

    def _quit(self, _: str) -> bool:
        return False

    def _sessions(self, _: str) -> bool:
        rows = [["session", "messages", "last", ""]]
        for one in self._ask("sessions.list", {"limit": _LISTED_SESSIONS}).get("sessions") or []:
            mark = " (answering)" if one.get("running") else ""
            last, title = _moment(one.get("updatedAt")), one_line(str(one.get("title") or ""))
            rows.append([one_line(str(one.get("key"))), str(one.get("messages", "")), last, title + mark])
        if len(rows) == 1:
            self._output.note("there is no session yet")
        else:
            self._output.lines(table(rows, right=frozenset({1})))
        return True

    def _go(self, key: str) -> bool:
        if not key:
            raise CommandError("/session wants the key of a session", "/sessions lists them")
        before, self._session = self._session, key
        try:
            self._show(SHOWN_MESSAGES)
        except BaseException:
            self._session = before
            raise
        return True

    def _new(self, _: str) -> bool:
        self._session = _fresh_key(self._context.now())
        return True

    def _history(self, count: str) -> bool:
        try:
            self._show(_count(count) if count else SHOWN_MESSAGES)
        except argparse.ArgumentTypeError as error:
            raise CommandError(f"/history: {error}") from None
        return True

    def _reset(self, _: str) -> bool:
        sure = self._prompt.line(f"forget what was said in {one_line(self._session)}? [y/N] ")
        if sure.strip().lower() in {"y", "yes"}:
            self._ask("sessions.reset", {"key": self._session})
            self._output.note(f"{self._session} begins anew")
        return True

    def _delete(self, key: str) -> bool:
        gone = key or self._session
        if self._prompt.line(f"remove {one_line(gone)} and what was said in it? [y/N] ").strip().lower() in {
            "y",
            "yes",
        }:
            self._ask("sessions.delete", {"key": gone})
            self._output.note(f"{gone} is removed")
        return True

    def _show(self, count: int) -> None:
        if count == 0:
            return
        try:
            history = self._ask("chat.history", {"sessionKey": self._session, "limit": count})
        except CommandError as error:
            if error.exit_status is Exit.NOT_FOUND:  # it begins with its first message
                return
            raise
        for message in messages_of(history)[-count:]:
            text = safe(text_of(message)).rstrip("\n")
            if text and message.get("role") == "user":
                self._output.lines([self._output.style(f"{one_line(self._session)}> {text}", "bold")])
            elif text and message.get("role") == "assistant":
                self._output.lines([text])
            elif failure := message.get("errorMessage"):
                self._output.lines([self._output.style(one_line(str(failure)), "dim")])

    def _ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        client = self._context.client
        return ask(client.address, client.token, method, params)


def _fresh_key(now: datetime) -> str:
    return f"chat-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def _moment(milliseconds: object) -> str:
    if not isinstance(milliseconds, int | float):
        return ""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).astimezone().strftime("%Y-%m-%d %H:%M")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) > 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of messages; expected 0 to 1000")
    return int(text)
