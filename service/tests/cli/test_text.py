import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pinch.cli.text import fold, one_line, safe, same_word, size, table, width, wrap

WORDS = st.lists(st.text(string.ascii_letters + "äß日本", min_size=1, max_size=12), min_size=1, max_size=40)


def test_text_from_a_store_cannot_command_the_terminal() -> None:
    assert safe("a\x1b[31mred\x07\x9b2J") == "a\\x1b[31mred\\x07\\x9b2J"
    assert safe("\u202egnp.exe") == "\\u202egnp.exe"
    assert safe("tabs\tand\nlines stay, שלום and 🦀 too") == "tabs\tand\nlines stay, שלום and 🦀 too"
    assert one_line("a\nb\tc") == "a\\nb\\tc"


@given(st.text())
def test_safe_text_can_always_be_written(text: str) -> None:
    assert not any(ord(sign) < 32 and sign not in "\n\t" for sign in safe(text))
    safe(text).encode("utf-8")


@given(WORDS, st.integers(min_value=26, max_value=100))
def test_wrapping_keeps_every_word_and_the_width(words: list[str], columns: int) -> None:
    lines = wrap(" ".join(words), columns)
    assert " ".join(lines).split() == words
    assert all(width(line) <= columns for line in lines)


def test_wrapping_keeps_line_breaks_and_indents() -> None:
    assert wrap("# Title\n\n    code here\ntext", 40) == ["# Title", "", "    code here", "text"]


def test_a_table_is_aligned_for_wide_characters_too() -> None:
    lines = table([["名前", "1"], ["abcdef", "22"]], right=frozenset({1}))
    assert [width(line) for line in lines] == [10, 10]


@pytest.mark.parametrize(
    ("count", "shown"),
    [(None, "–"), (0, "0 B"), (1023, "1023 B"), (1024, "1.0 KB"), (26624 * 1024, "26.0 MB"), (3 * 1024**3, "3.00 GB")],
)
def test_sizes_read_well(count: int | None, shown: str) -> None:
    assert size(count) == shown


@pytest.mark.parametrize(
    ("word", "term", "same"),
    [
        ("Backups", "backup", True),
        ("backup", "Backups", True),
        ("CAFÉ", "cafe", True),
        ("a", "an", False),
        ("cat", "category", False),
    ],
)
def test_words_of_the_query_are_recognised_by_their_stem(word: str, term: str, same: bool) -> None:
    assert same_word(fold(word), fold(term)) is same
