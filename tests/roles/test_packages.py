"""Packages that a board lacks: the controller's apt finds them in the board's own sources, and nowhere else."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pinch_packages.board import BoardState
from pinch_packages.errors import PackagesError
from pinch_packages.fetch import Fetched, fetch
from pinch_packages.sources import rewrite

from tests.roles.archive import Archive, a_board, make_key, serving
from tests.roles.sources import load

pytestmark = pytest.mark.skipif(not shutil.which("apt-get"), reason="the controller has no apt")

state = load("packages/library/package_state.py")
package_set = load("packages/library/package_set.py")
package_undo = load("packages/library/package_undo.py")


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    """An archive with two packages, one of which needs the other and a third that boards have."""
    with serving(tmp_path / "archive") as archive:
        archive.add("python3-aiohttp", "3.11.16-1", Depends="python3-yarl (>= 1.19), python3")
        archive.add("python3-yarl", "1.19.0-1")
        archive.publish()
        yield archive


def board(root: Path, archive: Archive, *more: str, **options: Any) -> BoardState:
    """Return what the module would read off a board with `archive` among its sources."""
    sources = "".join(f"{line}\n" for line in (f"deb [trusted=yes] {archive.uri} trixie main", *more))
    return BoardState.unpack(state.read_state(a_board(root, sources, **options), archive.architecture))


def held(fetched: Fetched) -> list[str]:
    """Return the names of the files that the pushed archive holds."""
    with tarfile.open(fetched.archive) as tar:
        return tar.getnames()


def test_what_is_missing_comes_with_what_it_needs_and_not_with_what_the_board_has(
    tmp_path: Path, archive: Archive
) -> None:
    fetched = fetch(board(tmp_path / "root", archive), ["python3-aiohttp"], tmp_path / "cache")
    assert fetched.packages == ["python3-aiohttp 3.11.16-1", "python3-yarl 1.19.0-1"]
    assert held(fetched) == ["python3-aiohttp_3.11.16-1_armhf.deb", "python3-yarl_1.19.0-1_armhf.deb"]
    assert fetched.unanswered == []
    (tmp_path / "files").mkdir()
    files = package_set.unpack(Path(fetched.archive), fetched.sha256, tmp_path / "files")
    assert [path.name for path in files] == held(fetched)


def test_a_second_board_of_the_kind_costs_no_traffic(tmp_path: Path, archive: Archive) -> None:
    first = fetch(board(tmp_path / "one", archive), ["python3-aiohttp"], tmp_path / "cache")
    asked = list(archive.asked)
    assert fetch(board(tmp_path / "two", archive), ["python3-aiohttp"], tmp_path / "cache") == first
    assert archive.asked == asked


def test_a_board_that_has_a_part_gets_the_rest(tmp_path: Path, archive: Archive) -> None:
    archive.add("zstd")
    archive.publish()
    there = board(tmp_path / "root", archive, installed=("python3", "python3-yarl", "zstd"))
    # Version 1.0 is there and 1.19 is needed: what is too old is replaced.
    fetched = fetch(there, ["python3-aiohttp", "zstd"], tmp_path / "cache")
    assert held(fetched) == ["python3-aiohttp_3.11.16-1_armhf.deb", "python3-yarl_1.19.0-1_armhf.deb"]


def test_check_mode_says_what_would_come_and_fetches_none_of_it(tmp_path: Path, archive: Archive) -> None:
    fetched = fetch(board(tmp_path / "root", archive), ["python3-yarl"], tmp_path / "cache", dry_run=True)
    assert (fetched.packages, fetched.archive) == (["python3-yarl 1.19.0-1"], "")
    assert archive.fetched == []


def test_a_file_that_is_not_what_the_lists_say_never_reaches_a_board(tmp_path: Path, archive: Archive) -> None:
    file = archive.folder / "debian/pool/python3-yarl_1.19.0-1_armhf.deb"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + b"x")
    with pytest.raises(PackagesError, match=r"python3-yarl 1\.19\.0-1.*could not be fetched.*Hash Sum mismatch"):
        fetch(board(tmp_path / "one", archive), ["python3-aiohttp"], tmp_path / "cache")
    file.write_bytes(whole)
    assert fetch(board(tmp_path / "two", archive), ["python3-aiohttp"], tmp_path / "cache").archive


def test_a_cached_file_that_went_bad_is_fetched_again(tmp_path: Path, archive: Archive) -> None:
    first = fetch(board(tmp_path / "one", archive), ["python3-yarl"], tmp_path / "cache")
    (kept,) = (tmp_path / "cache" / "packages").iterdir()
    kept.write_bytes(kept.read_bytes()[:-1] + b"x")
    Path(first.archive).unlink()
    assert fetch(board(tmp_path / "two", archive), ["python3-yarl"], tmp_path / "cache").sha256 == first.sha256
    assert len(archive.fetched) == 2


def test_a_package_that_no_source_has_is_named(tmp_path: Path, archive: Archive) -> None:
    with pytest.raises(PackagesError, match=r"lacks zstd, and the controller's apt finds no way.*locate package zstd"):
        fetch(board(tmp_path / "root", archive), ["zstd"], tmp_path / "cache")


def test_a_package_that_would_push_another_out_is_refused(tmp_path: Path, archive: Archive) -> None:
    archive.add("newcomer", Conflicts="owner", Depends="python3")
    archive.publish()
    there = board(tmp_path / "root", archive, installed=("python3", "owner"))
    with pytest.raises(PackagesError, match=r"Packages need to be removed|no way to install"):
        fetch(there, ["newcomer"], tmp_path / "cache")


def test_a_source_out_of_reach_is_named_and_the_others_do(tmp_path: Path, archive: Archive) -> None:
    there = board(tmp_path / "root", archive, "deb http://127.0.0.2:9/debian trixie main")
    fetched = fetch(there, ["python3-yarl"], tmp_path / "cache")
    assert held(fetched) == ["python3-yarl_1.19.0-1_armhf.deb"]
    assert any("127.0.0.2:9" in said or "127.0.0.2 9" in said for said in fetched.unanswered), fetched.unanswered


def test_where_nothing_answers_the_sentence_says_what_to_do(tmp_path: Path, archive: Archive) -> None:
    root = a_board(tmp_path / "root", "deb http://127.0.0.2:9/debian trixie main\n")
    there = BoardState.unpack(state.read_state(root, "armhf"))
    with pytest.raises(
        PackagesError, match=r"did not answer the controller: .*127\.0\.0\.2.*set packages_source to board"
    ):
        fetch(there, ["python3-yarl"], tmp_path / "cache")
    # Sources that the operator names stand in their place.
    other = there.with_sources([f"deb [trusted=yes] {archive.uri} trixie main"])
    assert fetch(other, ["python3-yarl"], tmp_path / "cache").packages == ["python3-yarl 1.19.0-1"]


def test_without_a_network_the_lists_and_files_of_last_time_do(tmp_path: Path, archive: Archive) -> None:
    there = board(tmp_path / "root", archive)
    first = fetch(there, ["python3-yarl"], tmp_path / "cache")
    (tmp_path / "cache" / "lists" / there.archive_digest / "fresh").unlink()
    shutil.rmtree(archive.folder / "debian")
    again = fetch(there, ["python3-yarl"], tmp_path / "cache")
    assert (again.sha256, bool(again.unanswered)) == (first.sha256, True)


def test_a_full_cache_is_told(tmp_path: Path, archive: Archive) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be", "utf-8")
    with pytest.raises(PackagesError, match=r"cannot be used: .*set PINCH_CACHE"):
        fetch(board(tmp_path / "root", archive), ["python3-yarl"], tmp_path / "cache")


@pytest.mark.skipif(not shutil.which("gpg"), reason="no gpg here to sign with")
@pytest.mark.parametrize("form", ["deb [signed-by=/usr/share/keyrings/tests.pgp] {} trixie main", "stanza"])
def test_only_what_the_boards_keys_have_signed_is_taken(tmp_path: Path, archive: Archive, form: str) -> None:
    key = make_key(tmp_path / "gnupg")
    archive.publish(tmp_path / "gnupg")
    root = a_board(tmp_path / "root", form.format(archive.uri) if form != "stanza" else "", key=key)
    if form == "stanza":
        (root / "etc/apt/sources.list.d/debian.sources").write_text(
            f"Types: deb\nURIs: {archive.uri}\nSuites: trixie\nComponents: main\n"
            "Signed-By: /usr/share/keyrings/tests.pgp\n",
            "utf-8",
        )
    there = BoardState.unpack(state.read_state(root, "armhf"))
    assert fetch(there, ["python3-yarl"], tmp_path / "cache").packages == ["python3-yarl 1.19.0-1"]
    stranger = make_key(tmp_path / "stranger")
    with pytest.raises(PackagesError, match=r"did not answer the controller: .*not signed"):
        fetch(there._replace(keyrings=dict.fromkeys(there.keyrings, stranger)), ["python3-yarl"], tmp_path / "other")


@pytest.mark.skipif(not shutil.which("gpg"), reason="no gpg here to sign with")
def test_a_key_that_another_source_names_opens_none_but_that(tmp_path: Path, archive: Archive) -> None:
    key = make_key(tmp_path / "gnupg")
    archive.publish(tmp_path / "gnupg")
    other = "deb [signed-by=/usr/share/keyrings/tests.pgp] http://127.0.0.2:9/debian trixie main"
    root = a_board(tmp_path / "root", f"deb {archive.uri} trixie main\n{other}\n", key=key)
    with pytest.raises(PackagesError, match=r"did not answer the controller: .*not signed"):
        fetch(BoardState.unpack(state.read_state(root, "armhf")), ["python3-yarl"], tmp_path / "cache")


def test_an_archive_that_was_damaged_on_the_way_is_refused(tmp_path: Path, archive: Archive) -> None:
    fetched = fetch(board(tmp_path / "root", archive), ["python3-yarl"], tmp_path / "cache")
    damaged = tmp_path / "damaged.tar"
    damaged.write_bytes(Path(fetched.archive).read_bytes()[:-1] + b"x")
    with pytest.raises(package_set.PackageSetError, match="damaged on the way"):
        package_set.unpack(damaged, fetched.sha256, tmp_path)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("E: Could not get lock /var/lib/dpkg/lock", "Could not get lock /var/lib/dpkg/lock; repair that on the board"),
        ("dpkg: error: cannot copy: No space left on device", "No space left on device; free some of the board's disk"),
        ("E: You don't have enough free space in /var/cache/apt/archives/.", "free some of the board's disk"),
    ],
)
def test_what_goes_wrong_on_the_board_is_told_in_dpkgs_words_and_with_a_remedy(words: str, said: str) -> None:
    command = ["sh", "-c", 'echo "noise"; echo "$0" >&2; exit 100', words]
    with pytest.raises(package_set.PackageSetError, match=r"^sh failed while the packages were installed: ") as caught:
        package_set.run(command, "the packages were installed")
    assert said in str(caught.value)
    assert "noise" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("a.list", "# comment\n\ndeb http://ftp.debian.org/debian trixie main\n", "deb http://near/d trixie main\n"),
        ("a.list", "deb https://ftp.de.debian.org/debian/ trixie main", "deb http://near/d trixie main\n"),
        ("a.list", "deb http://security.debian.org/debian-security x main", None),
        ("a.list", "deb http://archive.raspberrypi.com/debian/ trixie main", None),
        ("a.list", "deb http://debian.org.example.com/debian trixie main", None),
        ("a.list", "deb [ a=b signed-by=/k.gpg ] http://x/y z", "deb [a=b signed-by=/here.gpg] http://x/y z"),
        ("a.sources", "URIs: http://ftp.debian.org/debian\nEnabled: no\n", "URIs: http://near/d\nEnabled: no\n"),
        ("a.sources", "Signed-By: /k.gpg\n", "Signed-By: /here.gpg\n"),
        ("a.sources", "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n", None),
    ],
)  # fmt: skip
def test_sources_are_rewritten_for_the_controller(path: str, text: str, expected: str | None) -> None:
    rewritten = rewrite(path, text, {"/k.gpg": "/here.gpg"}, "http://near/d")
    assert rewritten.strip() == (text if expected is None else expected).strip()


@pytest.mark.parametrize("uri", ["cdrom:[Debian 13]/", "file:/srv/mirror", "mirror+file:/etc/apt/mirrors/debian.list"])
def test_a_source_that_only_the_board_can_read_is_named(uri: str) -> None:
    for path, text in (("/etc/apt/sources.list", f"deb {uri} trixie main\n"), ("/x.sources", f"URIs: {uri}\n")):
        if " " not in uri:
            with pytest.raises(PackagesError, match="which the controller cannot read; set packages_sources"):
                rewrite(path, text, {})


@settings(deadline=None)
@given(st.text(max_size=300), st.sampled_from(["a.list", "a.sources"]))
def test_any_list_of_sources_is_rewritten_or_refused_with_a_sentence(text: str, path: str) -> None:
    try:
        once = rewrite(path, text, {})
    except PackagesError:
        return
    assert rewrite(path, once, {}) == once


@pytest.mark.skipif(os.geteuid() != 0, reason="dpkg tells only root what it would remove")
def test_a_package_that_others_need_by_now_stays() -> None:
    """Asked of this machine's dpkg, which does nothing: nobody needs age, and dpkg itself needs zlib."""
    assert package_undo.removable(["age", "zlib1g"]) == ["age"]


@pytest.mark.parametrize(
    ("text", "found"), [("[]", []), ('["zlib1g", "pinch-none"]', ["zlib1g"]), (None, [])], ids=["empty", "some", "none"]
)
def test_nothing_goes_but_what_the_record_names(tmp_path: Path, text: str | None, found: list[str]) -> None:
    record = tmp_path / "packages.json"
    if text is not None:
        record.write_text(text, "utf-8")
    assert package_undo.brought(record) == found


def test_only_what_was_not_there_before_is_kept_for_the_way_back(tmp_path: Path) -> None:
    record = tmp_path / "found" / "packages.json"
    package_set.remember(["zstd 1.5", "pinch-none 1"], record)
    package_set.remember(["pinch-other:armhf 2", "pinch-none 2"], record)
    assert json.loads(record.read_text("utf-8")) == ["pinch-none", "pinch-other"]
