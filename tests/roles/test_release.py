"""A release: what goes in, what stays out, and how a board puts it in place."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import tarfile
from pathlib import Path, PurePosixPath

import pytest
from pinch_release.archive import write_archive
from pinch_release.errors import ReleaseError
from pinch_release.recipe import Recipe
from pinch_release.store import lay_tree
from pinch_release.target import ELF_MACHINES, Target
from pinch_release.trim import load_rules, trim

from tests.roles.sources import REPOSITORY, load

tree = load("pinch/library/release_tree.py")
state = load("pinch/library/deployment_state.py")


def elf(machine: int, bits: int = 64) -> bytes:
    """Return the first bytes of a native library."""
    return b"\x7fELF" + bytes([bits // 32, 1, 1]) + bytes(9) + (3).to_bytes(2, "little") + machine.to_bytes(2, "little")


@pytest.mark.parametrize(
    ("path", "dropped"),
    [
        ("numpy/_core/tests/test_multiarray.py", True),
        ("numpy/f2py/__init__.py", True),
        ("numpy/__init__.py", False),
        ("numpy/_core/_multiarray_umath.cpython-313-aarch64-linux-gnu.so", False),
        ("numpy.libs/libscipy_openblas64_-1b7162d6.so", False),
        ("onnxruntime/capi/libonnxruntime.so.1.31.1", True),
        ("onnxruntime/capi/onnxruntime_pybind11_state.cpython-313-aarch64-linux-gnu.so", False),
        ("onnxruntime/transformers/optimizer.py", True),
        ("apsw/sqlite_extra_binaries/vec1.so", True),
        ("apsw/__init__.cpython-313-aarch64-linux-gnu.so", False),
        ("aiohttp/_http_parser.pyx", True),
        ("aiohttp-3.14.5.dist-info/METADATA", False),
        ("aiohttp-3.14.5.dist-info/licenses/LICENSE.txt", False),
        ("aiohttp-3.14.5.dist-info/RECORD", True),
        ("pinch/gateway/http.py", False),
    ],
)
def test_only_what_a_board_imports_goes_into_a_release(path: str, dropped: bool) -> None:
    assert load_rules().drops(PurePosixPath(path)) is dropped


def test_trimming_leaves_no_empty_folder(tmp_path: Path) -> None:
    for name in ("a/tests/test_a.py", "a/__init__.py", "b/include/b.h"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x", "utf-8")
    assert trim(tmp_path, load_rules()) == 2
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["a", "a/__init__.py"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("vec0.so", elf(40, 32), "class 1 for machine 40; expected 64-bit aarch64"),
        ("vec0.so", elf(62), "class 2 for machine 62"),
        ("x.cpython-312-aarch64-linux-gnu.so", elf(ELF_MACHINES["aarch64"]), "built for another Python; expected 3.13"),
    ],
)
def test_a_library_for_another_board_is_refused_whatever_its_wheel_is_called(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ReleaseError, match=said):
        Target("3.13").check(tmp_path)


def test_the_name_of_a_release_follows_from_its_sources(tmp_path: Path) -> None:
    service = tmp_path / "service"
    package = service / "src" / "pinch"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("", "utf-8")
    (service / "pyproject.toml").write_text('[project]\nname = "pinchd"\nversion = "1.2.3"\n', "utf-8")
    for flavour in ("minimal", "semantic"):
        (service / f"requirements-{flavour}.lock").write_text("", "utf-8")
    first = Recipe(service, "minimal", Target("3.13")).name
    assert first == Recipe(service, "minimal", Target("3.13")).name
    assert first.startswith("1.2.3-")
    assert Recipe(service, "semantic", Target("3.13")).name != first
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "x.cpython-311.pyc").write_bytes(b"x")
    assert Recipe(service, "minimal", Target("3.13")).name == first
    (package / "__init__.py").write_text("x = 1\n", "utf-8")
    assert Recipe(service, "minimal", Target("3.13")).name != first


def test_the_repository_itself_is_a_recipe() -> None:
    names = {Recipe(REPOSITORY / "service", flavour, Target("3.13")).name for flavour in ("minimal", "semantic")}
    assert len(names) == 2


def a_release(folder: Path, name: str = "1.0.0-aaaaaaaa") -> tuple[Path, str]:
    """Write a small release's archive; return it with its sum."""
    source = folder / f"source-{name}"
    (source / "lib" / "thing").mkdir(parents=True)
    (source / "lib" / "thing" / "__init__.py").write_text("x = 1\n", "utf-8")
    (source / "bin").mkdir()
    (source / "bin" / "pinch").write_text("#!/bin/true\n", "utf-8")
    (source / "bin" / "pinch").chmod(0o755)
    (source / "release.json").write_text(json.dumps({"name": name}), "utf-8")
    archive = folder / f"{name}.tar.zst"
    write_archive(source, archive)
    return archive, hashlib.sha256(archive.read_bytes()).hexdigest()


def test_the_same_tree_makes_the_same_archive(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    first, second = (a_release(tmp_path / name)[0].read_bytes() for name in ("one", "two"))
    assert first == second
    listed = subprocess.run(["zstd", "-dc"], input=first, capture_output=True, check=True)
    (tmp_path / "plain.tar").write_bytes(listed.stdout)
    with tarfile.open(tmp_path / "plain.tar") as tar:
        assert {(entry.uid, entry.uname) for entry in tar} == {(0, "root")}


def test_an_archive_that_was_damaged_on_the_way_is_refused(tmp_path: Path) -> None:
    archive, sha256 = a_release(tmp_path)
    archive.write_bytes(archive.read_bytes()[:-1] + b"x")
    with pytest.raises(tree.ReleaseTreeError, match="damaged on the way"):
        tree.unpack(archive, sha256, tmp_path / "into")
    assert not (tmp_path / "into").exists()


def test_a_release_is_unpacked_and_its_bytecode_never_looks_at_the_source(tmp_path: Path) -> None:
    archive, sha256 = a_release(tmp_path)
    tree.unpack(archive, sha256, tmp_path / "into")
    tree.compile_bytecode(tmp_path / "into" / "lib")
    (bytecode,) = (tmp_path / "into" / "lib" / "thing" / "__pycache__").iterdir()
    # The flag word of PEP 552: bit 0 says hash-based, bit 1 would say checked.
    assert int.from_bytes(bytecode.read_bytes()[4:8], "little") == 0b01


def test_a_module_that_does_not_compile_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("def (:\n", "utf-8")
    with pytest.raises(tree.ReleaseTreeError, match=r"broken\.py"):
        tree.compile_bytecode(tmp_path)


def test_the_link_moves_in_one_step_and_over_what_a_dead_run_left(tmp_path: Path) -> None:
    link = tmp_path / "current"
    (tmp_path / ".current.new").symlink_to("half")
    assert tree.point(link, "releases/a")
    assert not tree.point(link, "releases/a")
    assert tree.point(link, "releases/b")
    assert state.link(link) == "releases/b"


def test_old_releases_and_leftovers_go_but_never_the_current_nor_the_one_before(tmp_path: Path) -> None:
    for age, name in enumerate(["e", "d", "c", "b", "a", "a.partial"]):
        (tmp_path / name).mkdir()
        (tmp_path / name / "release.json").write_text("{}", "utf-8")
        moment = 1_000_000 + age
        os.utime(tmp_path / name, (moment, moment))
    going = {path.name for path in tree.surplus(tmp_path, name="e", previous="d", keep=3)}
    assert going == {"a.partial", "b", "c"}
    assert state.releases(tmp_path.parent / "nowhere") == []


def test_a_partial_release_does_not_count_as_installed(tmp_path: Path) -> None:
    for name in ("1.0.0-aa", "1.0.1-bb.partial"):
        (tmp_path / "releases" / name).mkdir(parents=True)
        (tmp_path / "releases" / name / "release.json").write_text("{}", "utf-8")
    assert state.releases(tmp_path) == ["1.0.0-aa"]


IMPORTED = {
    "minimal": [
        "aiohttp.web",
        "apsw",
        "attrs",
        "cattrs",
        "cachetools",
        "prometheus_client",
        "sdnotify",
        "tqdm",
    ],
    "semantic": ["numpy", "onnxruntime", "tokenizers", "sqlite_vec", "aiohttp.web", "apsw"],
}


@pytest.mark.parametrize("flavour", ["minimal", "semantic"])
def test_a_trimmed_release_still_imports_and_runs_its_command_line(tmp_path: Path, flavour: str) -> None:
    """Laid out for this machine, whose wheels hold the same Python files as a board's."""
    target = Target(".".join(platform.python_version_tuple()[:2]), platform.machine())
    tree_folder = tmp_path / "release"
    lay_tree(Recipe(REPOSITORY / "service", flavour, target), tree_folder)
    own = tree_folder / "lib" / "pinch"
    modules = [".".join(file.relative_to(own.parent).with_suffix("").parts) for file in own.rglob("*.py")]
    # Without a model only what the service itself imports; with one every module there is.
    names = [name for name in modules if not name.endswith("__main__")] if flavour == "semantic" else ["pinch.app"]
    script = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]"
    imports = [sys.executable, "-PsS", "-c", script, *IMPORTED[flavour], *names]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tree_folder / "lib")}
    subprocess.run(imports, env=environment, check=True)
    (tmp_path / "current").symlink_to("release")
    command = [sys.executable, "-PsS", str(tmp_path / "current" / "bin" / "pinch"), "tier", "--json"]
    done = subprocess.run(command, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)
