import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from service.tests.cli.command import Pinch


def lines(*items: object) -> bytes:
    return b"".join(json.dumps(item).encode() + b"\n" for item in items)


def test_what_is_remembered_is_recalled_with_all_it_was_given(pinch: Pinch, space: str) -> None:
    given = (
        "--space",
        space,
        "--tag",
        "a",
        "--tag",
        "b",
        "--source",
        "log",
        "--thread",
        "t1",
        "--at",
        "2026-05-01T12:00:00Z",
    )
    stored = pinch.json("remember", "The kettle is on the left shelf.", *given)
    assert stored["created"] is True
    (hit,) = pinch.json("recall", "kettle", "--space", space)["hits"]
    assert hit["id"] == stored["id"]
    assert (hit["text"], sorted(hit["tags"]), hit["source"], hit["thread"]) == (
        "The kettle is on the left shelf.", ["a", "b"], "log", "t1",
    )  # fmt: skip
    assert hit["at"].startswith("2026-05-01T12:00:00")


def test_the_same_text_again_is_said_to_be_there(pinch: Pinch, space: str) -> None:
    first = pinch.ok("remember", "once", "--space", space)
    assert pinch.ok("remember", "once", "--space", space) == first.strip() + " (was there already)\n"


def test_stdin_is_one_text_without_the_last_newline(pinch: Pinch, space: str) -> None:
    text = "two\nlines, ünïcode 日本 🦀 and שלום"
    pinch.ok("remember", "-", "--space", space, stdin=text.encode() + b"\n")
    assert pinch.json("recall", "ünïcode", "--space", space)["hits"][0]["text"] == text


@pytest.mark.parametrize(
    ("stdin", "status", "complaint"),
    [
        (b"", 2, "empty"),
        (b"\n", 2, "empty"),
        (b"x" * 65_537, 6, "65536"),
        (b"caf\xe9", 2, "not UTF-8 at byte 3"),
        (b"a\0b", 2, "NUL"),
    ],
)
def test_a_text_that_cannot_be_stored_is_refused(
    pinch: Pinch, space: str, stdin: bytes, status: int, complaint: str
) -> None:
    assert complaint in pinch.fails(status, "remember", "-", "--space", space, stdin=stdin)
    assert pinch.json("recall", "x", "--space", space)["hits"] == []


def test_the_longest_text_is_stored(pinch: Pinch, space: str) -> None:
    pinch.ok("remember", "-", "--space", space, stdin=b"longest " * 8192)
    assert len(pinch.json("recall", "longest", "--space", space)["hits"][0]["text"]) == 65_536


def test_arguments_that_are_not_utf8_are_refused(pinch: Pinch, space: str) -> None:
    assert "not UTF-8" in pinch.fails(2, "remember", b"caf\xe9", "--space", space)
    assert "not UTF-8" in pinch.fails(2, "remember", "ok", "--tag", b"\xff")
    assert "not UTF-8" in pinch.fails(2, "recall", b"\xff")


def test_a_file_of_lines_is_stored_in_batches_in_order(pinch: Pinch, space: str, tmp_path: Path) -> None:
    file = tmp_path / "many.jsonl"
    file.write_bytes(lines(*({"text": f"item number{number}", "tags": ["x"]} for number in range(600))) + b"\n")
    ids = pinch.json("remember", "--jsonl", str(file), "--space", space)["ids"]
    assert len(set(ids)) == 600
    hit = pinch.json("recall", "number599", "--space", space)["hits"][0]
    assert (hit["id"], hit["tags"]) == (ids[599], ["x"])
    assert pinch.ok("remember", "--jsonl", str(file), "--space", space) == "600 memories stored\n"


def test_a_line_may_override_the_arguments(pinch: Pinch, space: str) -> None:
    content = lines({"text": "mine"}, {"text": "yours", "space": space + "2"})
    pinch.ok("remember", "--jsonl", "-", "--space", space, stdin=content)
    assert [len(pinch.json("recall", "mine yours", "--space", name)["hits"]) for name in (space, space + "2")] == [1, 1]


def test_long_texts_stay_below_the_services_body_limit(pinch: Pinch, space: str) -> None:
    content = lines(*({"text": f"{number} " + '\x01é"' * 13_000} for number in range(20)))
    assert len(pinch.json("remember", "--jsonl", "-", "--space", space, stdin=content)["ids"]) == 20


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"{not json}\n", "line 301 is not JSON"),
        (b"[" * 100_000 + b"\n", "line 301 is not JSON"),
        (b'{"txt": "x"}\n', "line 301 has no text"),
        (b'"just a string"\n', "line 301 has no text"),
        (b'{"text": "caf\xe9"}\n', "line 301 is not UTF-8"),
        (b'{"text": "\\ud800"}\n', "line 301 has half of a surrogate pair"),
        (b'{"text": ""}\n', "line 301: memories"),
        (b'{"text": "x", "tag": ["y"]}\n', "line"),
        (b'{"text": "' + b"x" * 600_000 + b'"}\n', "line 301 has more than"),
    ],
)
def test_a_bad_line_is_named_and_what_came_before_is_kept(
    pinch: Pinch, space: str, line: bytes, complaint: str
) -> None:
    content = lines(*({"text": f"good{number}"} for number in range(300))) + line
    sentence = pinch.fails(6 if b"xxx" in line else 2, "remember", "--jsonl", "-", "--space", space, stdin=content)
    assert complaint in sentence
    assert "256 memories before it are stored" in sentence
    assert len(pinch.json("recall", "good255", "--space", space)["hits"]) == 1


def test_a_missing_file_is_named(pinch: Pinch) -> None:
    assert pinch.fails(2, "remember", "--jsonl", "/no/such.jsonl") == "/no/such.jsonl: No such file or directory"


def test_a_person_reads_rank_origin_reason_and_text(pinch: Pinch, space: str, tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "a.md").write_text("# Backup\n\nEvery night the archive is copied to the shelf.\n")
    pinch.ok("ingest", str(folder), "--space", space)
    pinch.ok("remember", "The archive key hangs by the door.", "--space", space, "--source", "chat", "--tag", "home")
    shown = pinch.ok("recall", "archive", "--space", space)
    assert re.search(r"^ \d  notes/a.md:1-3$", shown, re.MULTILINE)
    assert re.search(r"^ \d  chat · .*20\d\d-", shown, re.MULTILINE)
    assert re.search(r"^    \d\.\d{4}  keyword #1", shown, re.MULTILINE)
    assert "#home" in shown
    assert "    Every night the archive is copied to the shelf.\n" in shown
    assert "\x1b" not in shown


def test_words_are_marked_on_a_terminal_and_not_under_no_color(pinch: Pinch, space: str) -> None:
    pinch.ok("remember", "Three backups \x1b[2Jevery night", "--space", space)
    marked = on_terminal(pinch, "recall", "backup", "--space", space)
    assert "\x1b[1;33mbackups\x1b[0m" in marked
    assert "\\x1b[2J" in marked
    assert "\x1b" not in on_terminal(pinch, "recall", "backup", "--space", space, NO_COLOR="1")


def test_long_texts_are_cut_around_the_found_words_unless_asked(pinch: Pinch, space: str) -> None:
    text = "\n".join(["filler"] * 30 + ["the needle is here"] + ["filler"] * 30)
    pinch.ok("remember", text, "--space", space)
    short = pinch.ok("recall", "needle", "--space", space)
    assert "the needle is here" in short
    assert short.count("…") == 2
    assert short.count("filler") < 10
    assert pinch.ok("recall", "needle", "--space", space, "--full").count("filler") == 60


def test_nothing_found_is_no_error(pinch: Pinch, space: str) -> None:
    done = pinch("recall", "nothing", "--space", space)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"pinch: nothing found\n")


@pytest.mark.parametrize("query", ['"', "*", "NEAR(", "a AND", "-x", "col:x", "'; DROP TABLE x", "%s", "\\"])
def test_a_query_in_the_search_languages_own_signs_is_a_query(pinch: Pinch, query: str) -> None:
    assert "hits" in pinch.json("recall", f" {query}")


def test_semantic_recall_is_refused_where_there_is_no_model(pinch: Pinch) -> None:
    assert "no embedding model" in pinch.fails(2, "recall", "x", "--mode", "semantic")


def on_terminal(pinch: Pinch, *arguments: str, **environ: str) -> str:
    """Return what the command writes to a terminal."""
    ours, theirs = pty.openpty()
    environment = {**pinch.whole_environ, "TERM": "xterm", **environ}
    environment.pop("NO_COLOR", None) if "NO_COLOR" not in environ else None
    command = [sys.executable, "-m", "pinch", *arguments]
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, timeout=30)
    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert done.returncode == 0, shown
    return shown
