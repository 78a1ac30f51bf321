"""A release: what goes in, what stays out, and how a board puts it in place."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import platform
import subprocess
import sys
import tarfile
from contextlib import suppress
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pinch_release.archive import write_archive
from pinch_release.errors import ReleaseError
from pinch_release.recipe import Recipe
from pinch_release.store import lay_tree
from pinch_release.target import ARCHITECTURES, Target
from pinch_release.trim import load_rules, trim

from tests.roles.sources import REPOSITORY, load

tree = load("pinch/library/release_tree.py")
state = load("pinch/library/deployment_state.py")
generations = load("pinch/module_utils/pinch_generations.py")
units = load("pinch/module_utils/pinch_unit.py")


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
    ("architecture", "name", "content", "said"),
    [
        ("arm64", "vec0.so", elf(40, 32), "a 32-bit ELF file for machine 40; expected 64-bit aarch64"),
        ("arm64", "vec0.so", elf(62), "a 64-bit ELF file for machine 62"),
        ("armhf", "vec0.so", elf(183), "a 64-bit ELF file for machine 183; expected 32-bit armv7l"),
        ("armhf", "vec0.so", elf(3, 32), "a 32-bit ELF file for machine 3"),
        ("arm64", "vec0.so", elf(183, 96), "a 0-bit ELF file"),
        ("arm64", "x.cpython-312-aarch64-linux-gnu.so", elf(183), "built for another Python; expected 3.13"),
    ],
)
def test_a_library_for_another_board_is_refused_whatever_its_wheel_is_called(
    tmp_path: Path, architecture: str, name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ReleaseError, match=said):
        Target("3.13", architecture).check(tmp_path)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_right_libraries_are_counted(tmp_path: Path, architecture: str) -> None:
    processor = ARCHITECTURES[architecture]
    (tmp_path / "a.so").write_bytes(elf(processor.elf_machine, processor.bits))
    (tmp_path / "a.py").write_bytes(b"x = 1\n")
    assert Target("3.13", architecture).check(tmp_path) == 1


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


def test_every_flavour_python_and_processor_is_a_release_of_its_own() -> None:
    wanted = [f"{flavour}-{python}-arm64" for flavour in ("minimal", "semantic") for python in ("3.11", "3.12", "3.13")]
    wanted += ["distribution-3.13-armhf", "distribution-3.13-arm64"]
    assert len({Recipe.named(REPOSITORY / "service", name).name for name in wanted}) == len(wanted)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("minimal", "expected <flavour>-<Python>-<architecture>"),
        ("minimal-3.13-arm64 ", "expected <flavour>-<Python>-<architecture>"),
        ("huge-3.13-arm64", "flavour is 'huge'; expected one of minimal, semantic, distribution"),
        ("minimal-3.13-riscv64", "architecture is 'riscv64'; expected one of arm64, armhf, amd64"),
        ("semantic-3.13-armhf", "there are no wheels for armhf.*expected distribution-3.13-armhf"),
    ],
)
def test_a_release_that_nobody_makes_is_refused(name: str, said: str) -> None:
    with pytest.raises(ReleaseError, match=said):
        Recipe.named(REPOSITORY / "service", name)


@settings(deadline=None)
@given(st.text(max_size=40))
def test_any_text_is_a_release_or_a_sentence(name: str) -> None:
    with suppress(ReleaseError):
        recipe = Recipe.named(REPOSITORY / "service", name)
        assert f"{recipe.flavour}-{recipe.target}" == name


def test_releases_are_built_by_name_and_found_the_next_time(tmp_path: Path) -> None:
    names = ["distribution-3.13-armhf", "distribution-3.13-arm64"]
    command = [sys.executable, "-m", "pinch_release", "--service", str(REPOSITORY / "service"), *names]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "roles/pinch/release"), "PINCH_CACHE": str(tmp_path)}
    for built in (2, 0):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        said = json.loads(done.stdout)
        assert list(said["releases"]) == names
        assert len(said["built"]) == built
        assert Path(said["releases"][names[0]]["archive"]).exists()
    refused = subprocess.run([*command, "minimal-3.13-armhf"], env=environment, capture_output=True, text=True)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("there are no wheels for armhf")


def test_a_release_on_the_distributions_packages_holds_ours_alone(tmp_path: Path) -> None:
    lay_tree(Recipe.named(REPOSITORY / "service", "distribution-3.13-armhf"), tmp_path / "release")
    assert sorted(path.name for path in (tmp_path / "release" / "lib").iterdir()) == ["pinch", "pinchd-0.1.0.dist-info"]
    program = tmp_path / "release" / "bin" / "pinch"
    launcher = program.read_text("utf-8")
    # What pip puts under /usr/local or into a home is not Debian's, and stays out.
    program.write_text(launcher.partition("from pinch.cli")[0] + "print(sys.path)", "utf-8")
    shown = subprocess.run([sys.executable, "-PsS", str(program)], capture_output=True, text=True, check=True)
    path = ast.literal_eval(shown.stdout)
    assert (path[0], path[-1]) == (str(tmp_path / "release" / "lib"), "/usr/lib/python3/dist-packages")
    assert not [entry for entry in path if "site-packages" in entry or "local/lib" in entry]


def test_the_release_that_runs_is_known_though_none_of_its_libraries_is_mapped(tmp_path: Path) -> None:
    release = tmp_path / "releases" / "0.1.0-32b17ab1"
    lay_tree(Recipe.named(REPOSITORY / "service", "distribution-3.13-armhf"), release)
    program = release / "bin" / "pinch"
    launcher = program.read_text("utf-8")
    program.write_text(launcher.partition("from pinch.cli")[0] + "print(flush=True)\ninput()\n", "utf-8")
    (tmp_path / "current").symlink_to("releases/0.1.0-32b17ab1")
    command = [sys.executable, "-PsS", str(tmp_path / "current" / "bin" / "pinch")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert str(tmp_path) not in Path(f"/proc/{process.pid}/maps").read_text("utf-8")
        assert units.held_release(process.pid, tmp_path) == "0.1.0-32b17ab1"
        process.communicate("\n")
    assert units.held_release(process.pid, tmp_path) == ""
    assert units.held_release(0, tmp_path) == ""


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
    assert generations.point(link, "releases/a")
    assert not generations.point(link, "releases/a")
    assert generations.point(link, "releases/b")
    assert str(link.readlink()) == "releases/b"


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
    machines = {processor.machine: name for name, processor in ARCHITECTURES.items()}
    target = Target(".".join(platform.python_version_tuple()[:2]), machines[platform.machine()])
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
