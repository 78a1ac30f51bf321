"""Kernel values: which a board gets, what is refused, and that every one of them can be taken back."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pinch.tiers import load_tiers

from tests.roles.sources import ROLES, load

planner = load("sysctl/filter_plugins/sysctl_plan.py")
module = load("sysctl/library/sysctl_values.py")

STOCK = {
    "vm.swappiness": "60",
    "vm.page-cluster": "3",
    "vm.vfs_cache_pressure": "100",
    "vm.watermark_boost_factor": "15000",
    "vm.watermark_scale_factor": "10",
    "vm.dirty_ratio": "20",
    "vm.dirty_bytes": "0",
    "vm.dirty_background_ratio": "10",
    "vm.dirty_background_bytes": "0",
    "net.ipv4.tcp_rmem": "4096\t131072\t6291456",
}
"""What a kernel starts with."""
RECORD = "var/lib/pinch-found/sysctl.json"
DROPIN = "etc/sysctl.d/90-pinch.conf"


def a_board(root: Path) -> Path:
    """Make a root tree with the kernel's files."""
    for name, value in STOCK.items():
        path = root / module.path_of(name).lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value + "\n", "utf-8")
    return root


def live(root: Path, *names: str) -> list[str]:
    """Return values as the tree's kernel has them."""
    return [(root / module.path_of(name).lstrip("/")).read_text("utf-8").strip() for name in names]


def text_of(values: dict[str, str]) -> str:
    """Return the drop-in that sets `values`."""
    return "".join(f"{name} = {value}\n" for name, value in values.items())


def settle(root: Path, values: dict[str, str] | None, *, dry: bool = False) -> dict[str, Any]:
    """Run the module's work; None takes everything back."""
    answer: dict[str, Any] = module.settle(root, values or {}, None if values is None else text_of(values), dry=dry)
    return answer


def wishes(**changes: Any) -> dict[str, Any]:
    """Return what the role hands to its filter by default, with `changes`."""
    defaults = {"profile": "auto", "sets": [], "values": {}, "mechanism": "zram", "areas": [], "tier_sets": ["light"]}
    return {**defaults, **changes}


@pytest.mark.parametrize(
    ("mechanism", "areas", "fitting"),
    [
        ("zram", [], "zram"),
        ("zswap", [{"kind": "file"}], "zswap"),
        ("file", [{"kind": "file"}], "file"),
        ("dphys", [{"kind": "file"}], "file"),
        ("none", [], "none"),
        ("rpi-swap", [], "zram"),
        ("rpi-swap", [{"kind": "zram"}, {"kind": "file"}], "zram"),
        ("rpi-swap", [{"kind": "file"}], "file"),
    ],
)
def test_a_board_gets_the_set_of_how_it_swaps_and_that_of_its_tier(
    mechanism: str, areas: list[dict[str, str]], fitting: str
) -> None:
    plan = planner.sysctl_plan(wishes(mechanism=mechanism, areas=areas))
    assert (plan["problem"], plan["sets"]) == ("", [fitting, "light"])
    assert plan["wanted"]["vm.dirty_ratio"] == "10"


def test_every_tier_names_sets_that_exist() -> None:
    for tier in load_tiers().tiers.values():
        assert planner.sysctl_plan(wishes(tier_sets=tier.host["sysctl"]))["problem"] == ""


@pytest.mark.parametrize("name", sorted(planner.sets()))
def test_every_value_of_a_set_has_its_reason_and_its_source(name: str) -> None:
    raw = yaml.safe_load((ROLES / "sysctl" / "sets" / f"{name}.yml").read_text("utf-8"))
    assert raw["about"].endswith(".")
    for entry in planner.sets()[name]:
        assert entry.reason.endswith("."), entry
        assert len(entry.source) > 10, entry
        assert entry.name in STOCK, "a set sets what every kernel has; anything else would be refused on some board"


def test_the_reports_profile_is_the_reports_values_whatever_the_board_swaps_by() -> None:
    plan = planner.sysctl_plan(wishes(profile="host-report"))
    assert plan["wanted"] == {
        "vm.swappiness": "10",
        "vm.vfs_cache_pressure": "50",
        "vm.dirty_ratio": "15",
        "vm.dirty_background_ratio": "5",
    }


def test_the_profile_keep_sets_nothing_but_the_operators_own_values() -> None:
    assert planner.sysctl_plan(wishes(profile="keep"))["wanted"] == {}
    plan = planner.sysctl_plan(wishes(profile="keep", values={"vm.swappiness": 33}))
    assert plan["wanted"] == {"vm.swappiness": "33"}


def test_sets_by_name_take_the_place_of_the_profile_and_the_operator_has_the_last_word() -> None:
    plan = planner.sysctl_plan(wishes(sets=["zram", "file"], values={"vm.page-cluster": 1, "vm.dirty_bytes": 1 << 20}))
    assert plan["sets"] == ["zram", "file"]
    assert plan["wanted"]["vm.swappiness"] == "10"
    assert plan["wanted"]["vm.page-cluster"] == "1"


def test_of_two_names_for_one_thing_only_the_last_one_said_is_set() -> None:
    plan = planner.sysctl_plan(wishes(values={"vm.dirty_bytes": 1 << 24}))
    assert "vm.dirty_ratio" not in plan["wanted"]
    assert plan["wanted"]["vm.dirty_bytes"] == str(1 << 24)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sets": ["zrm"]}, "there is no set zrm; expected some of file, full"),
        ({"mechanism": "partition"}, "no set for the swap mechanism partition"),
        ({"values": {"vm.swappiness": ""}}, "vm.swappiness is ''; expected a number"),
        ({"values": {"vm.swappiness": True}}, "vm.swappiness is True; expected a number"),
        ({"values": {"vm.swappiness": None}}, "expected a number or one line"),
        ({"values": {"vm.swappiness": "1\nkernel.panic = 1"}}, "expected a number or one line"),
        ({"values": {"../../etc/passwd": 1}}, "is no name of a kernel value"),
        ({"values": {"swappiness": 1}}, "is no name of a kernel value"),
        ({"values": {"vm.swappiness = 3 #": 1}}, "is no name of a kernel value"),
    ],
)
def test_what_is_no_set_or_no_value_is_refused_with_a_sentence(changes: dict[str, Any], said: str) -> None:
    plan = planner.sysctl_plan(wishes(**changes))
    assert said in plan["problem"]
    assert plan["wanted"] == {}


def test_a_set_with_a_misspelt_key_is_refused_by_the_name_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "mine.yml").write_text("about: x.\nvalues:\n  - {name: vm.swappiness, valu: 1}\n", "utf-8")
    with pytest.raises(planner.SysctlError, match=r"mine\.yml has name, valu in an entry"):
        planner.sets(tmp_path)


@given(
    st.lists(st.sampled_from(sorted(planner.sets())), max_size=5),
    st.dictionaries(st.sampled_from(sorted(STOCK)), st.integers(0, 10**9), max_size=5),
)
def test_any_choice_names_each_value_once_and_never_both_of_a_pair(chosen: list[str], own: dict[str, int]) -> None:
    entries = planner.compose(chosen, own)
    names = [entry.name for entry in entries]
    assert len(names) == len(set(names))
    assert not any(planner.COUNTERPARTS.get(name) in names for name in names)
    said = {entry.name: entry.value for entry in entries}
    for name, value in own.items():
        assert said.get(name, str(value)) == str(value)


def test_the_file_on_the_board_says_why_each_value_is_what_it_is() -> None:
    plan = planner.sysctl_plan(wishes())
    template = (ROLES / "sysctl" / "templates" / "pinch.conf.j2").read_text("utf-8")
    environment = jinja2.Environment(trim_blocks=True, autoescape=False)
    text = environment.from_string(template).render(ansible_managed="managed", __sysctl_plan=plan)
    assert dict(module.assignments(text)) == plan["wanted"]
    assert text.count("\n# Source: ") == len(plan["entries"])


def test_values_are_set_live_and_for_the_next_boot_and_the_second_run_changes_nothing(tmp_path: Path) -> None:
    root = a_board(tmp_path)
    values = {"vm.swappiness": "150", "net.ipv4.tcp_rmem": "4096 131072 8388608"}
    first = settle(root, values)
    assert (first["changed"], first["written"]) == (True, ["net.ipv4.tcp_rmem", "vm.swappiness"])
    assert live(root, *values) == list(values.values())
    assert (root / DROPIN).read_text("utf-8") == text_of(values)
    second = settle(root, values)
    assert (second["changed"], second["written"], second["diff"]) == (False, [], [])


def test_check_mode_says_what_would_change_and_writes_nothing(tmp_path: Path) -> None:
    root = a_board(tmp_path)
    before = sorted(root.rglob("*"))
    answer = settle(root, {"vm.swappiness": "150"}, dry=True)
    assert (answer["changed"], answer["written"]) == (True, ["vm.swappiness"])
    assert answer["diff"][0]["before_header"] == "no file"
    assert (sorted(root.rglob("*")), live(root, "vm.swappiness")) == (before, ["60"])


def test_a_value_that_a_set_no_longer_names_does_not_live_on(tmp_path: Path) -> None:
    root = a_board(tmp_path)
    settle(root, {"vm.swappiness": "150", "vm.page-cluster": "0"})
    answer = settle(root, {"vm.swappiness": "10"})
    assert (answer["written"], answer["restored"]) == (["vm.swappiness"], ["vm.page-cluster"])
    assert live(root, "vm.swappiness", "vm.page-cluster") == ["10", "3"]
    assert not settle(root, {"vm.swappiness": "10"})["changed"]


def test_everything_can_be_taken_back_and_nothing_of_ours_stays(tmp_path: Path) -> None:
    root = a_board(tmp_path)
    (root / module.path_of("vm.swappiness").lstrip("/")).write_text("42\n", "utf-8")
    before = live(root, *STOCK)
    settle(root, {"vm.swappiness": "150", "vm.dirty_ratio": "5"})
    settle(root, {"vm.swappiness": "10", "vm.page-cluster": "0"})
    answer = settle(root, None)
    assert answer["restored"] == ["vm.page-cluster", "vm.swappiness"]
    assert live(root, *STOCK) == before
    assert not (root / DROPIN).exists()
    assert not (root / RECORD).exists()
    assert not settle(root, None)["changed"]


def test_a_pair_of_names_is_taken_back_to_the_one_that_was_in_use(tmp_path: Path) -> None:
    root = a_board(tmp_path)
    for name, value in (("vm.dirty_ratio", "0"), ("vm.dirty_bytes", "1048576")):
        (root / module.path_of(name).lstrip("/")).write_text(value, "utf-8")
    settle(root, {"vm.dirty_ratio": "5"})
    # The kernel does this when the other one is written.
    (root / module.path_of("vm.dirty_bytes").lstrip("/")).write_text("0", "utf-8")
    settle(root, None)
    assert live(root, "vm.dirty_bytes") == ["1048576"]


def test_changing_over_to_the_other_name_of_a_pair_keeps_the_way_back(tmp_path: Path) -> None:
    root = a_board(tmp_path)
    settle(root, {"vm.dirty_ratio": "5"})
    answer = settle(root, {"vm.dirty_bytes": "1048576"})
    assert answer["restored"] == []
    assert live(root, "vm.dirty_bytes") == ["1048576"]
    settle(root, None)
    assert live(root, "vm.dirty_ratio") == ["20"]


def test_a_value_that_was_ours_before_anybody_kept_a_record_waits_for_the_next_boot(tmp_path: Path) -> None:
    root = a_board(tmp_path)
    (root / "etc/sysctl.d").mkdir(parents=True)
    (root / DROPIN).write_text("vm.swappiness = 150\nvm.page-cluster = 0\n", "utf-8")
    answer = settle(root, {"vm.swappiness": "10"})
    assert answer["unknown"] == ["vm.page-cluster"]
    assert settle(root, None)["unknown"] == ["vm.swappiness"]
    assert not (root / DROPIN).exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("vm.swapiness", r"has no vm\.swapiness; did you mean vm\.swappiness\?"),
        ("vm.lru_gen_min_ttl_ms", "has no vm.lru_gen_min_ttl_ms; take it out"),
        ("no.such.folder", "has no no.such.folder; take it out"),
        ("vm", "has no vm"),
    ],
)
def test_a_value_that_the_running_kernel_lacks_is_refused_before_anything_is_written(
    tmp_path: Path, name: str, said: str
) -> None:
    root = a_board(tmp_path)
    with pytest.raises(module.KernelValueError, match=said):
        settle(root, {"vm.swappiness": "150", name: "1"})
    assert live(root, "vm.swappiness") == ["60"]
    assert not (root / DROPIN).exists()
    assert not (root / RECORD).exists()


def test_a_value_that_does_not_stay_is_refused_and_the_others_go_back(tmp_path: Path) -> None:
    root = a_board(tmp_path)
    stubborn = root / module.path_of("vm.page-cluster").lstrip("/")
    stubborn.unlink()
    # Takes any write and reads back as nothing, as a value does that the kernel cuts to its own bounds.
    stubborn.symlink_to("/dev/null")
    with pytest.raises(module.KernelValueError, match="page-cluster"):
        module.KernelValues(root, root / RECORD).write(
            {"/proc/sys/vm/swappiness": "150", "/proc/sys/vm/page-cluster": "0"}
        )
    assert live(root, "vm.swappiness") == ["60"]


def test_a_file_that_is_read_later_and_says_otherwise_is_named(tmp_path: Path) -> None:
    """Whoever followed the host memory report has these lines in sysctl.conf: bookworm reads it as 99-sysctl.conf."""
    root = a_board(tmp_path)
    (root / "etc/sysctl.d").mkdir(parents=True)
    (root / "etc/sysctl.conf").write_text("vm.swappiness=10\n-vm/vfs_cache_pressure = 50\n", "utf-8")
    (root / "etc/sysctl.d/99-sysctl.conf").symlink_to("../sysctl.conf")
    with pytest.raises(module.KernelValueError, match=r"etc/sysctl\.conf sets vm\.swappiness to 10 and is read after"):
        settle(root, {"vm.swappiness": "150"})
    with pytest.raises(module.KernelValueError, match="vfs_cache_pressure to 50"):
        settle(root, {"vm.vfs_cache_pressure": "100"})
    assert settle(root, {"vm.swappiness": "10"})["changed"]


def test_files_that_are_read_before_ours_are_no_rivals(tmp_path: Path) -> None:
    root = a_board(tmp_path)
    (root / "usr/lib/sysctl.d").mkdir(parents=True)
    (root / "usr/lib/sysctl.d/50-default.conf").write_text("vm.swappiness = 1\n", "utf-8")
    (root / "usr/lib/sysctl.d/99-pattern.conf").write_text("vm.swap* = 1\n", "utf-8")
    assert settle(root, {"vm.swappiness": "150"})["changed"]


@pytest.mark.parametrize("steps", range(1, 8))
def test_a_run_that_is_killed_anywhere_is_repaired_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """Cuts the run before its nth write, whatever it is of, and then the boot may or may not have applied the file."""
    for booted, after in itertools.product((False, True), ({"vm.swappiness": "10"}, None)):
        root = a_board(tmp_path / f"{booted}-{after is None}")
        settle(root, {"vm.swappiness": "150", "vm.page-cluster": "0"})
        with monkeypatch.context() as patched:
            cut(patched, steps)
            try:
                settle(root, after)
            except KeyboardInterrupt:
                if booted:
                    boot(root)
        settle(root, after)
        assert not settle(root, after)["changed"]
        assert live(root, "vm.swappiness", "vm.page-cluster") == ["10" if after else "60", "3"]
        assert (root / DROPIN).exists() is bool(after)


def cut(patched: pytest.MonkeyPatch, steps: int) -> None:
    """Let the process die at its nth write to a file."""
    count = itertools.count(1)
    write, unlink = Path.write_text, Path.unlink

    def die() -> None:
        if next(count) == steps:
            raise KeyboardInterrupt

    def dying_write(self: Path, *words: Any, **named: Any) -> int:
        die()
        return write(self, *words, **named)

    def dying_unlink(self: Path, *words: Any, **named: Any) -> None:
        die()
        unlink(self, *words, **named)

    def dying_replace(self: Path, target: Path) -> Path:
        die()
        return Path(self.rename(target))

    patched.setattr(Path, "write_text", dying_write)
    patched.setattr(Path, "unlink", dying_unlink)
    patched.setattr(Path, "replace", dying_replace)


def boot(root: Path) -> None:
    """Start the tree's kernel anew: its own values, then those of the file."""
    a_board(root)
    dropin = root / DROPIN
    for name, value in module.assignments(dropin.read_text("utf-8") if dropin.exists() else ""):
        (root / module.path_of(name).lstrip("/")).write_text(value, "utf-8")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("vm.swappiness", "/proc/sys/vm/swappiness"),
        ("vm/swappiness", "/proc/sys/vm/swappiness"),
        ("net.ipv4.conf.eth0/1.forwarding", "/proc/sys/net/ipv4/conf/eth0.1/forwarding"),
        ("net/ipv4/conf/eth0.1/forwarding", "/proc/sys/net/ipv4/conf/eth0.1/forwarding"),
    ],
)
def test_names_are_read_as_systemd_reads_them(name: str, path: str) -> None:
    assert module.path_of(name) == path
