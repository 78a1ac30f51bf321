import hashlib
import os
from pathlib import Path

import pytest
from pinch.cli.files import FileBody, FileError, Walk, digest

PATTERNS = ("*.md", "*.txt")


def walked(root: Path, *, follow: bool = False) -> tuple[list[str], Walk]:
    walk = Walk(root, PATTERNS, follow=follow)
    return [found.relative for found in walk.files()], walk


def make(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name, "utf-8")


def test_files_come_by_pattern_in_order_without_hidden_ones(tmp_path: Path) -> None:
    make(tmp_path, "b.md", "a.txt", "c.pdf", "sub/d.md", "sub/deep/e.md", ".git/f.md", ".g.md", "a/h.md")
    assert walked(tmp_path)[0] == ["a.txt", "b.md", "a/h.md", "sub/d.md", "sub/deep/e.md"]


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    make(tmp_path, "sub/a.md")
    (tmp_path / "sub/up").symlink_to(tmp_path)
    (tmp_path / "self.md").symlink_to(tmp_path / "self.md")
    files, walk = walked(tmp_path, follow=True)
    assert files == ["sub/a.md"]
    assert list(walk.problems) == ["self.md"]
    files, walk = walked(tmp_path)
    assert (files, walk.links, walk.problems) == (["sub/a.md"], 2, {})


def test_links_are_followed_only_when_asked(tmp_path: Path) -> None:
    make(tmp_path / "out", "secret.md")
    make(tmp_path / "in", "a.md")
    (tmp_path / "in/link.md").symlink_to(tmp_path / "out/secret.md")
    (tmp_path / "in/folder").symlink_to(tmp_path / "out")
    assert walked(tmp_path / "in")[0] == ["a.md"]
    assert walked(tmp_path / "in", follow=True)[0] == ["a.md", "link.md", "folder/secret.md"]


def test_a_named_pipe_is_no_document(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.md")
    assert walked(tmp_path)[0] == []


def test_a_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    content = ("ä日🦀\r\n" * 100_000).encode()
    (tmp_path / "a.md").write_bytes(content)
    found = digest(tmp_path / "a.md")
    assert (found.sha256, found.length) == (hashlib.sha256(content).hexdigest(), len(content))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"ok\xff", "not UTF-8"),
        (b"x" * 65_535 + b"\xc3", "not UTF-8"),
        ("hello".encode("utf-16"), "UTF-16"),
        ("caf\u00e9".encode("latin-1"), "iconv"),
    ],
)
def test_what_is_not_utf8_is_named(tmp_path: Path, content: bytes, complaint: str) -> None:
    (tmp_path / "a.md").write_bytes(content)
    with pytest.raises(FileError, match=complaint):
        digest(tmp_path / "a.md")


def test_a_body_is_exactly_as_long_as_announced(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_bytes(b"x" * 100_000)
    sent: list[int] = []
    body = FileBody(path, 70_000, sent.append)
    assert sum(map(len, body.blocks())) == sum(sent) == 70_000
    with pytest.raises(FileError, match="shorter"):
        list(FileBody(path, 100_001, sent.append).blocks())
