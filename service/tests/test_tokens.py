import os
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pinch.gateway.tokens import (
    NoSuchTokenError,
    TokensError,
    add_token,
    create_tokens_file,
    load_tokens,
    read_tokens_file,
    revoke_token,
    rotate_token,
)
from pinch.gateway.tokens_file import parse_tokens

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
SECRET = "s3cret-" + "x" * 30


def tokens_file(tmp_path: Path, text: str, mode: int = 0o600) -> Path:
    path = tmp_path / "tokens"
    path.write_text(text, "utf-8")
    path.chmod(mode)
    return path


def test_a_made_file_is_private_and_its_token_opens_the_door(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    token = create_tokens_file(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(token) >= 43
    assert load_tokens(path).match(token, NOW) == "default"
    assert [path.name for path in tmp_path.iterdir()] == ["tokens"]


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tokens_file(tmp_path, f"mine {SECRET}\n")
    with pytest.raises(TokensError, match="never overwritten"):
        create_tokens_file(path)
    assert path.read_text() == f"mine {SECRET}\n"


@pytest.mark.parametrize("presented", ["", SECRET[:-1], SECRET + "x", SECRET.upper(), "é", "\udc80", SECRET + "\n"])
def test_anything_but_the_token_is_refused(tmp_path: Path, presented: str) -> None:
    assert load_tokens(tokens_file(tmp_path, f"mine {SECRET}\n")).match(presented, NOW) is None


def test_a_token_ends_at_its_moment_in_any_zone(tmp_path: Path) -> None:
    tokens = load_tokens(tokens_file(tmp_path, f"mine {SECRET} until=2026-05-01T14:00:00+02:00\n"))
    assert tokens.match(SECRET, NOW - timedelta(seconds=1)) == "mine"
    assert tokens.match(SECRET, NOW) is None


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o601, 0o620, 0o666])
def test_a_file_open_to_others_is_refused_with_what_to_do(tmp_path: Path, mode: int) -> None:
    path = tokens_file(tmp_path, f"mine {SECRET}\n", mode)
    with pytest.raises(TokensError, match=f"mode {mode:04o}.*chmod 600") as caught:
        load_tokens(path)
    assert SECRET not in str(caught.value)


def test_the_mode_systemd_gives_a_credential_is_accepted(tmp_path: Path) -> None:
    assert load_tokens(tokens_file(tmp_path, f"mine {SECRET}\n", 0o440)).match(SECRET, NOW) == "mine"


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (SECRET, "1 words"),
        (f"mine {SECRET} until=tomorrow", "third word"),
        (f"mine {SECRET} until=2026-05-01T12:00:00", "third word"),
        (f"mine {SECRET} 2026-05-01T12:00:00Z", "third word"),
        (f"mine {SECRET} until=2026-05-01T12:00:00Z more", "4 words"),
        (f"{SECRET * 4} mine", "no name"),
        ("mine short", "5 characters"),
        (f"mine {SECRET}é", "characters"),
        (f"one {SECRET}\ntwo {SECRET}", "line 2: same token as line 1"),
    ],
)
def test_a_line_in_disorder_is_named_but_never_quoted(tmp_path: Path, line: str, complaint: str) -> None:
    with pytest.raises(TokensError, match=complaint) as caught:
        load_tokens(tokens_file(tmp_path, line + "\n"))
    assert SECRET not in str(caught.value)
    assert "line" in str(caught.value)


@pytest.mark.parametrize("text", ["", "# nothing\n\n"])
def test_a_file_without_tokens_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(TokensError, match="has no token; run `pinch token add"):
        load_tokens(tokens_file(tmp_path, text))


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TokensError, match="does not exist"):
        load_tokens(tmp_path / "absent")
    with pytest.raises(TokensError, match=r"regular file|directory"):
        load_tokens(tmp_path)
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(TokensError, match="regular file"):
        load_tokens(tmp_path / "pipe")


def test_rotation_keeps_the_old_token_for_its_grace_and_comments_for_ever(tmp_path: Path) -> None:
    path = tokens_file(tmp_path, f"# mine\n\nmine {SECRET}\n# theirs\ntheirs {SECRET}2\n")
    entry = rotate_token(path, "mine", HOUR, NOW)
    tokens = load_tokens(path)
    assert tokens.match(SECRET, NOW + HOUR - timedelta(seconds=1)) == "mine"
    assert tokens.match(SECRET, NOW + HOUR) is None
    assert tokens.match(entry.token, NOW + 1000 * HOUR) == "mine"
    lines = path.read_text().splitlines()
    assert [line.split()[0] for line in lines if line] == ["#", "mine", "mine", "#", "theirs"]
    assert lines[0] == "# mine"
    assert lines[1] == ""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_second_rotation_does_not_prolong_the_first_tokens_life(tmp_path: Path) -> None:
    path = tokens_file(tmp_path, f"mine {SECRET}\n")
    rotate_token(path, "mine", HOUR, NOW)
    rotate_token(path, "mine", 24 * HOUR, NOW + HOUR / 2)
    assert load_tokens(path).match(SECRET, NOW + HOUR) is None
    rotate_token(path, "mine", HOUR, NOW + 2 * HOUR)
    assert SECRET not in path.read_text()


def test_no_grace_ends_the_old_token_at_once(tmp_path: Path) -> None:
    path = tokens_file(tmp_path, f"mine {SECRET}\n")
    rotate_token(path, "mine", timedelta(0), NOW)
    assert load_tokens(path).match(SECRET, NOW) is None
    assert SECRET not in path.read_text()


def test_the_last_valid_token_cannot_be_revoked(tmp_path: Path) -> None:
    path = tokens_file(tmp_path, f"mine {SECRET}\nold {SECRET}2 until=2020-01-01T00:00:00Z\n")
    with pytest.raises(TokensError, match="last valid token"):
        revoke_token(path, "mine", NOW)
    add_token(path, "new")
    revoke_token(path, "mine", NOW)
    assert load_tokens(path).match(SECRET, NOW) is None
    with pytest.raises(NoSuchTokenError, match="the file has: old, new"):
        revoke_token(path, "mine", NOW)


@pytest.mark.parametrize("name", ["", "two words", "#x", "-x", "ü", "x" * 65, "a\nb"])
def test_a_name_that_would_break_the_file_is_refused(tmp_path: Path, name: str) -> None:
    path = tokens_file(tmp_path, f"mine {SECRET}\n")
    with pytest.raises(TokensError, match="no token name"):
        add_token(path, name)


def test_edits_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tokens_file(tmp_path, f"mine {SECRET}\n")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: add_token(path, f"n{number}"), range(32)))
    assert {entry.name for entry in read_tokens_file(path).entries} == {"mine", *(f"n{number}" for number in range(32))}


def test_a_failed_edit_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tokens_file(tmp_path, f"mine {SECRET}\n")
    (tmp_path / "tokens.partial").mkdir()
    with pytest.raises(TokensError, match="cannot be written"):
        add_token(path, "new")
    assert path.read_text() == f"mine {SECRET}\n"


@given(st.binary(max_size=300))
def test_any_bytes_are_parsed_or_refused_with_a_sentence(content: bytes) -> None:
    refused = ""
    try:
        parsed = parse_tokens(content, "file")
    except TokensError as error:
        refused = str(error)
    else:
        again = "".join(f"{line if isinstance(line, str) else line.line()}\n" for line in parsed.lines)
        assert parse_tokens(again.encode(), "file") == parsed
    assert refused == "" or refused.startswith("file")
