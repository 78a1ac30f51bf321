"""On the board a model is whole or absent, and a damaged one is replaced only by a whole one."""

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import ansible.module_utils
import pytest
from model_samples import quiet, tiny_pin
from pinch_models.build import Built, Cache
from pinch_models.manifest import directory_name
from pinch_models.sources import SourceSettings

ROLE = Path(__file__).resolve().parents[2]
MODULE = ROLE / "library" / "model_tree.py"
# Where Ansible, too, finds what modules share.
ansible.module_utils.__path__.append(str(ROLE.parent / "common" / "module_utils"))


@pytest.fixture(scope="module")
def tree() -> ModuleType:
    spec = importlib.util.spec_from_file_location("model_tree", MODULE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def built(tiny: Path, cache: Cache, settings: SourceSettings) -> Built:
    return cache.build(tiny_pin(tiny), settings, quiet)


def _install(tree: ModuleType, home: Path, cache: Cache, built: Built) -> Path:
    name = directory_name(built.manifest)
    tree.install(home, name, built.manifest["sha256"], cache.archive(built))
    return home / name


def test_an_installed_model_is_whole_and_readable_by_everyone(
    tree: ModuleType, tmp_path: Path, cache: Cache, built: Built
) -> None:
    folder = _install(tree, tmp_path / "home", cache, built)
    assert tree.fault(folder, built.manifest["sha256"]) == ""
    tree.settle(folder)
    assert not tree.settle(folder)
    assert folder.stat().st_mode & 0o777 == 0o755
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}


def test_every_kind_of_damage_is_seen(tree: ModuleType, tmp_path: Path, built: Built) -> None:
    sha256 = built.manifest["sha256"]
    for damage, said in (
        (lambda folder: (folder / "weights.bin").unlink(), "weights.bin is missing"),
        (lambda folder: (folder / "model.onnx").write_bytes(b""), "model.onnx has another sum"),
        (lambda folder: (folder / "manifest.json").write_text("{}"), "manifest.json has another sum"),
        (lambda folder: (folder / "manifest.json").write_text("["), "manifest.json cannot be read"),
        (shutil.rmtree, "manifest.json is missing"),
    ):
        folder = tmp_path / "copy"
        shutil.copytree(built.path, folder, dirs_exist_ok=True)
        damage(folder)
        assert said in tree.fault(folder, sha256)
    assert "another sum" in tree.fault(built.path, "0" * 64)


def test_a_damaged_archive_leaves_the_model_that_is_there(
    tree: ModuleType, tmp_path: Path, cache: Cache, built: Built
) -> None:
    home = tmp_path / "home"
    folder = _install(tree, home, cache, built)
    archive = tmp_path / "damaged.tar"
    content = bytearray(cache.archive(built).read_bytes())
    content[len(content) // 2] ^= 1
    archive.write_bytes(content)
    with pytest.raises(tree.ModelTreeError, match="was damaged on the way"):
        tree.install(home, folder.name, built.manifest["sha256"], archive)
    archive.write_bytes(content[: len(content) // 2])
    with pytest.raises(tree.ModelTreeError, match="is damaged"):
        tree.install(home, folder.name, built.manifest["sha256"], archive)
    assert tree.fault(folder, built.manifest["sha256"]) == ""
    assert [path.name for path in home.iterdir()] == [folder.name]


def test_the_link_moves_in_one_step_and_only_when_it_must(tree: ModuleType, tmp_path: Path) -> None:
    link = tmp_path / "current"
    assert tree.point(link, "a")
    assert not tree.point(link, "a")
    assert tree.point(link, "b")
    assert [path.name for path in tmp_path.iterdir()] == ["current"]


def test_leftovers_and_old_models_go_and_the_previous_stays(tree: ModuleType, tmp_path: Path) -> None:
    for name in ("new", "previous", "old", "dead.partial"):
        (tmp_path / name).mkdir()
    names = {path.name for path in tree.surplus(tmp_path, {"new", "previous"}, 2)}
    assert names == {"old", "dead.partial"}
    assert {path.name for path in tree.surplus(tmp_path, {"new", "previous"}, 3)} == {"dead.partial"}
