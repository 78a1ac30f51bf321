"""Backups: encrypted on the way, opened by their key alone, refused with a sentence where something is wrong."""

from __future__ import annotations

import hashlib
import io
import json
import sqlite3
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pinch_backup.age import decrypted, encrypted
from pinch_backup.archive import pack, unpack
from pinch_backup.errors import BackupError
from pinch_backup.folder import Folder, verify
from pinch_backup.manifest import Manifest, Member, read_manifest

from tests.roles.sources import load

contents = load("backup_archive/library/backup_contents.py")
restored = load("restore/library/restored_store.py")


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A fresh key pair: the file with the secret key, and the public one."""
    file = tmp_path_factory.mktemp("key") / "key.txt"
    subprocess.run(["age-keygen", "-o", str(file)], check=True, capture_output=True)
    public = subprocess.run(["age-keygen", "-y", str(file)], check=True, capture_output=True, text=True).stdout.strip()
    return file, public


def manifest_of(files: dict[str, bytes]) -> Manifest:
    """Return a manifest of these files."""
    members = tuple(Member(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items())
    return Manifest(
        host="kitchen", made="2026-05-01T12:00:00Z", release="1.0.0-aaaaaaaa", tier="full", model="m", schema=1,
        counts={"memories": 2}, secrets=False, members=members,
    )  # fmt: skip


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    """Yield data as a slow board gives it."""
    return (data[begin : begin + size] for begin in range(0, len(data), size))


class Kept:
    """Keeps what a backup gives."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def take(self, member: Member, piece: bytes) -> None:
        self.files[member.name] = self.files.get(member.name, b"") + piece


def backup(folder: Path, public: str, files: dict[str, bytes], name: str = "20260501T120000Z.age") -> Path:
    """Make a backup as backup.yml does; return its file."""
    manifest = manifest_of(files)
    with Folder(folder).arriving(name) as partial, encrypted("age", [public], partial) as out:
        pack(manifest, lambda member: pieces(files[member.name], 1000), out)
    return folder / name


FILES = {"snapshot": bytes(range(256)) * 2000, "settings/pinch.toml": b"tier = 'full'\n"}


def test_what_went_in_comes_out_with_the_key(tmp_path: Path, key: tuple[Path, str]) -> None:
    file = backup(tmp_path / "kitchen", key[1], FILES)
    verify(file, sum(map(len, FILES.values())))
    assert FILES["settings/pinch.toml"] not in file.read_bytes()
    assert file.stat().st_mode & 0o077 == 0
    kept = Kept()
    with decrypted("age", key[0], file) as stream:
        manifest = unpack(stream, kept)
    assert kept.files == FILES
    assert manifest == manifest_of(FILES)
    assert sorted(path.name for path in file.parent.iterdir()) == [file.name, f"{file.name}.sha256"]


def test_the_sum_beside_a_backup_is_one_that_sha256sum_reads(tmp_path: Path, key: tuple[Path, str]) -> None:
    file = backup(tmp_path, key[1], FILES)
    subprocess.run(["sha256sum", "--check", f"{file.name}.sha256"], cwd=tmp_path, check=True, capture_output=True)


def test_another_key_opens_nothing(tmp_path: Path, key: tuple[Path, str]) -> None:
    file = backup(tmp_path, key[1], FILES)
    other = tmp_path / "other.txt"
    subprocess.run(["age-keygen", "-o", str(other)], check=True, capture_output=True)
    kept = Kept()
    nothing = pytest.raises(BackupError, match="none of the keys in the identity file opens it")
    with nothing, decrypted("age", other, file) as stream:
        unpack(stream, kept)
    assert not kept.files


@pytest.mark.parametrize("share", [0.0005, 0.3, 0.9, 0.9999])
def test_a_cut_backup_is_refused_even_without_its_sum(tmp_path: Path, key: tuple[Path, str], share: float) -> None:
    file = backup(tmp_path, key[1], FILES)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(BackupError, match=r"it was cut or changed since it was made|no file of age"):
        verify(file)
    file.with_name(f"{file.name}.sha256").unlink()
    with pytest.raises(BackupError, match="cannot be opened"), decrypted("age", key[0], file) as stream:
        unpack(stream)


def test_a_changed_backup_is_refused_even_without_its_sum(tmp_path: Path, key: tuple[Path, str]) -> None:
    file = backup(tmp_path, key[1], FILES)
    whole = bytearray(file.read_bytes())
    whole[-3] ^= 1
    file.write_bytes(whole)
    with pytest.raises(BackupError, match="cut or changed"), decrypted("age", key[0], file) as stream:
        unpack(stream)


@pytest.mark.parametrize(("content", "said"), [(b"SQLite format 3\0", "is no file of age"), (None, "No such file")])
def test_a_file_that_is_none_of_ours_is_refused(tmp_path: Path, content: bytes | None, said: str) -> None:
    file = tmp_path / "x.age"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(BackupError, match=said):
        verify(file)


def test_an_encrypted_file_that_is_no_backup_is_refused(tmp_path: Path, key: tuple[Path, str]) -> None:
    file = tmp_path / "x.age"
    with encrypted("age", [key[1]], file) as out:
        out.write(b"somebody's letter" * 1000)
    with pytest.raises(BackupError, match="no archive of ours"), decrypted("age", key[0], file) as stream:
        unpack(stream)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("holiday.jpg"))
    with pytest.raises(BackupError, match="no backup of a Pinch board"):
        unpack(io.BytesIO(archive.getvalue()))


def test_a_backup_from_the_future_is_refused_by_its_format() -> None:
    future = json.loads(manifest_of(FILES).text()) | {"format": 2}
    with pytest.raises(BackupError, match="has format 2, and this folder knows up to 1"):
        read_manifest(json.dumps(future).encode())


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_manifest_or_are_refused(text: bytes) -> None:
    with pytest.raises(BackupError):
        read_manifest(text)


NAMES = st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=3).map("/".join)


@settings(deadline=None)
@given(st.dictionaries(NAMES, st.binary(max_size=3000), max_size=4), st.integers(1, 700))
def test_any_files_go_through_an_archive_unchanged(files: dict[str, bytes], size: int) -> None:
    out = io.BytesIO()
    pack(manifest_of(files), lambda member: pieces(files[member.name], size), out)
    kept = Kept()
    assert unpack(io.BytesIO(out.getvalue()), kept) == manifest_of(files)
    assert kept.files == files


def test_an_archive_that_lacks_or_alters_a_file_is_refused() -> None:
    manifest = manifest_of(FILES)
    for wrong, said in [
        (replace(manifest, members=(*manifest.members, Member("secrets/tokens", 1, "0"))), "ended before its 1 bytes"),
        (replace(manifest, members=(replace(manifest.members[0], sha256="0"),)), "changed while it was read"),
    ]:
        with pytest.raises(BackupError, match=said):
            pack(wrong, lambda member: pieces(FILES.get(member.name, b""), 1000), io.BytesIO())


def test_a_change_behind_the_last_file_is_noticed_too(tmp_path: Path, key: tuple[Path, str]) -> None:
    # As long as this, the archive ends within one piece of age's, and its padding is the next.
    file = backup(tmp_path, key[1], {"snapshot": bytes(125_000)})
    whole = bytearray(file.read_bytes())
    whole[-1] ^= 1
    file.write_bytes(whole)
    with pytest.raises(BackupError, match="cannot be opened"), decrypted("age", key[0], file) as stream:
        unpack(stream)


def test_an_archive_whose_bytes_are_not_those_of_its_manifest_is_refused() -> None:
    out = io.BytesIO()
    pack(manifest_of(FILES), lambda member: pieces(FILES[member.name], 1000), out)
    changed = out.getvalue().replace(FILES["settings/pinch.toml"], b"tier = 'tiny'\n")
    with pytest.raises(BackupError, match=r"settings/pinch\.toml in the backup is damaged"):
        unpack(io.BytesIO(changed))


def test_a_backup_that_fails_leaves_nothing_behind(tmp_path: Path, key: tuple[Path, str]) -> None:
    folder = Folder(tmp_path / "kitchen")
    name = "20260501T120000Z.age"
    refused = pytest.raises(BackupError, match="a recipient or an identity is none")
    with refused, folder.arriving(name) as partial, encrypted("age", ["age1nonsense"], partial) as out:
        pack(manifest_of(FILES), lambda member: pieces(FILES[member.name], 1000), out)
    missing = pytest.raises(BackupError, match="install the package age")
    with missing, folder.arriving(name) as partial, encrypted("no-such-age", [key[1]], partial):
        pass
    assert list(folder.path.iterdir()) == []


def test_old_backups_go_only_after_a_good_new_one(tmp_path: Path, key: tuple[Path, str]) -> None:
    names = [f"2026050{day}T120000Z.age" for day in range(1, 5)]
    files = [backup(tmp_path, key[1], FILES, name) for name in names]
    (tmp_path / "notes.age").write_text("mine", "utf-8")
    whole = files[-1].read_bytes()
    files[-1].write_bytes(whole[:-1])
    folder = Folder(tmp_path)
    with pytest.raises(BackupError, match="cut or changed"):
        folder.prune(2, files[-1])
    assert len(folder.backups()) == 4
    files[-1].write_bytes(whole)
    assert folder.prune(2, files[-1]) == names[1::-1]
    assert [file.name for file in folder.backups()] == names[:1:-1]
    assert folder.newest() == files[-1]
    assert (tmp_path / "notes.age").exists()
    assert len(list(tmp_path.glob("*.sha256"))) == 2


def test_a_board_without_backups_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="holds no backup; expected one with the time as its name"):
        Folder(tmp_path / "nobody").newest()


def test_a_damaged_snapshot_is_noticed_when_it_is_counted(tmp_path: Path) -> None:
    (tmp_path / "s").write_bytes(b"SQLite format 3\0" + bytes(100))
    with pytest.raises(sqlite3.Error):
        contents.contents(tmp_path / "s")
    with closing(sqlite3.connect(tmp_path / "empty")) as connection:
        connection.execute("VACUUM")
    with pytest.raises(sqlite3.Error, match="no such table"):
        contents.contents(tmp_path / "empty")


@settings(deadline=None)
@given(st.integers(0, 5000), st.integers(0, 600))
def test_memories_to_recall_are_spread_evenly(number: int, wanted: int) -> None:
    chosen = restored.spread(number, wanted)
    assert len(chosen) == (min(number, wanted) if wanted else number)
    assert all(0 <= each < number for each in chosen)


def test_counts_that_differ_are_named() -> None:
    restored.compare({"memories": 2, "schema": 1}, {"memories": 2})
    with pytest.raises(restored.RestoreError, match="1 memories of 2, None sessions of 3"):
        restored.compare({"memories": 1}, {"memories": 2, "sessions": 3})
