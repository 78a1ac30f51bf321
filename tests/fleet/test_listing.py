"""An inventory from a list: what is taken, and the sentence for what is not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pinch_fleet.inventory import InventoryError, hosts_file, write
from pinch_fleet.listing import COLUMNS, Listed, ListingError, by_pattern, read_listing

from tests.cache import REPOSITORY

GENERATE = REPOSITORY / "ansible" / "inventory" / "generate"


def problems(text: str, tmp_path: Path, name: str = "boards.csv") -> str:
    """Return what is said against a list."""
    file = tmp_path / name
    file.write_text(text, "utf-8")
    with pytest.raises(ListingError) as refused:
        read_listing(file)
    return str(refused.value)


def test_a_csv_becomes_hosts_and_groups(tmp_path: Path) -> None:
    file = tmp_path / "boards.csv"
    file.write_text("name,address,site,tier\n# ours\nattic,192.0.2.1,home,light\n\ncellar,,home,\n", "utf-8")
    boards = read_listing(file)
    assert [(board.name, board.address, board.tier) for board in boards] == [
        ("attic", "192.0.2.1", "light"),
        ("cellar", "", ""),
    ]
    group = yaml.safe_load(hosts_file(boards, file.name))["pinch"]
    assert group["hosts"] == {"attic": {"ansible_host": "192.0.2.1"}, "cellar": {}}
    assert group["children"]["site_home"]["hosts"] == {"attic": {}, "cellar": {}}
    assert group["children"]["tier_light"]["hosts"] == {"attic": {}}


def test_a_yaml_list_says_the_same(tmp_path: Path) -> None:
    file = tmp_path / "boards.yml"
    file.write_text("- name: attic\n  port: 2222\n  other_memory_mb: 300\n- name: cellar\n  tier: full\n", "utf-8")
    attic, cellar = read_listing(file)
    assert (attic.port, attic.other_memory_mb, cellar.tier) == (2222, 300, "full")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,adress\na,x\n", "boards.csv line 1: unknown column 'adress'; expected name, address, port"),
        ("name,name\na,b\n", "boards.csv line 1: the column name is there twice"),
        ("address\n192.0.2.1\n", "boards.csv line 1: there is no column name"),
        ("name,tier\na,light\nb,lite\n", "boards.csv line 3: the tier is 'lite'; expected one of auto, minimal, light"),
        ("name\na\nb\na\n", "boards.csv line 4: the name a is taken by line 2 already"),
        (
            "name,address\na,192.0.2.1\n\nb,192.0.2.1\n",
            "boards.csv line 4: the address 192.0.2.1 port 22 is taken by line 2 already",
        ),
        ("name\nKitchen\n", "boards.csv line 2: the name is 'Kitchen'; expected lower-case letters"),
        ("name\nall\n", "boards.csv line 2: the name is 'all'"),
        ("name,address\na,{{ x }}\n", "boards.csv line 2: the address is '{{ x }}'; expected an IP address"),
        ("name,site\na,My Home\n", "boards.csv line 2: the site is 'My Home'"),
        ("name,port\na,70000\n", "boards.csv line 2: port is '70000'; expected a whole number from 1 to 65535"),
        ("name,user\na,Pi User\n", "boards.csv line 2: the user is 'Pi User'"),
        ("name\na,b\n", "boards.csv line 2: 2 cells; expected 1, as in line 1"),
        ("name\n", "boards.csv has no board"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_line(text: str, said: str, tmp_path: Path) -> None:
    assert said in problems(text, tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- name: a\n- nam: b\n", "boards.yml line 2: unknown column 'nam'"),
        ("name: a\n", "boards.yml holds something else; expected a list of boards"),
        ("- [\n", "boards.yml is no YAML"),
        ("- name: a\n  tier: lite\n", "boards.yml line 1: the tier is 'lite'"),
    ],
)
def test_so_it_is_in_yaml(text: str, said: str, tmp_path: Path) -> None:
    assert said in problems(text, tmp_path, "boards.yml")


def test_two_boards_behind_one_address_differ_by_their_port(tmp_path: Path) -> None:
    file = tmp_path / "boards.csv"
    file.write_text("name,address,port\na,192.0.2.1,2201\nb,192.0.2.1,2202\n", "utf-8")
    assert len(read_listing(file)) == 2


@pytest.mark.parametrize("names", ["pi-001..pi-100", "pi-001…pi-100", "pi-001..100"])
def test_a_range_names_and_addresses_its_boards(names: str) -> None:
    boards = by_pattern(names, "10.0.0.250", tier="light")
    assert len(boards) == 100
    assert [board.name for board in (boards[0], boards[-1])] == ["pi-001", "pi-100"]
    assert [board.address for board in (boards[0], boards[6], boards[-1])] == ["10.0.0.250", "10.0.1.0", "10.0.1.93"]


@pytest.mark.parametrize(
    ("names", "address", "said"),
    [
        ("pi-5..pi-1", "", "has -3 names"),
        ("pi-1..pi-99999", "", "expected 1 to 10000"),
        ("pi..po", "", "expected first and last name"),
        ("pi-1..po-3", "", "expected first and last name"),
        ("pi-1..pi-9", "255.255.255.250", "the first address is '255.255.255.250'"),
        ("pi-1..pi-2", "kitchen", "the first address is 'kitchen'"),
    ],
)
def test_a_range_that_is_none_is_refused(names: str, address: str, said: str) -> None:
    with pytest.raises(ListingError, match=said.replace(".", r"\.")):
        by_pattern(names, address)


def test_ansible_reads_the_hundred_boards_it_makes(tmp_path: Path) -> None:
    command = [GENERATE, "--names", "pi-001..pi-100", "--tier", "light", "--site", "home", "--out", tmp_path / "mine"]
    subprocess.run([sys.executable, *map(str, command)], check=True, capture_output=True)
    done = subprocess.run(
        ["ansible-inventory", "-i", str(tmp_path / "mine"), "--list"], capture_output=True, text=True, check=True
    )
    hosts = json.loads(done.stdout)["_meta"]["hostvars"]
    assert len(hosts) == 100
    assert {variables["pinch_tier"] for variables in hosts.values()} == {"light"}


def test_the_command_says_every_line_that_is_wrong_and_writes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "boards.csv"
    file.write_text("name,tier\na,lite\nb,heavy\n", "utf-8")
    command = [sys.executable, str(GENERATE), "--list", str(file), "--out", str(tmp_path / "mine")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == ["boards.csv line 2", "boards.csv line 3"]
    assert not (tmp_path / "mine").exists()


def test_a_second_run_writes_nothing_and_variables_of_yours_stay(tmp_path: Path) -> None:
    boards = by_pattern("pi-1..pi-3", tier="light")
    assert len(write(tmp_path, boards, "a range")) == 2
    mine = tmp_path / "group_vars" / "tier_light.yml"
    mine.write_text("---\npinch_tier: light\nswap_size_mb: 100\n", "utf-8")
    assert write(tmp_path, boards, "a range") == []
    assert "swap_size_mb" in mine.read_text("utf-8")


def test_hosts_that_somebody_wrote_by_hand_are_kept(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text("pinch:\n", "utf-8")
    with pytest.raises(InventoryError, match="was written by hand"):
        write(tmp_path, by_pattern("pi-1..pi-3"), "a range")
    assert write(tmp_path, by_pattern("pi-1..pi-3"), "a range", replace=True)


@given(st.text())
def test_any_text_is_boards_or_sentences(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.mktemp("list") / "boards.csv"
    file.write_bytes(f"name,address,port,tier\n{text}".encode("utf-8", "surrogatepass"))
    try:
        boards = read_listing(file)
    except ListingError as refused:
        boards, said = [], refused.problems
    except UnicodeDecodeError as refused:
        boards, said = [], [str(refused)]
    else:
        said = []
    assert bool(boards) != bool(said)


@given(st.dictionaries(st.from_regex(r"[a-z][a-z0-9]{0,9}", fullmatch=True), st.sampled_from(["", "light", "full"])))
def test_what_is_listed_is_what_ansible_would_find(tiers: dict[str, str]) -> None:
    boards = [Listed(name, "", 0, "", "", tier, 0) for name, tier in tiers.items()]
    group = yaml.safe_load(hosts_file(boards, "a list"))["pinch"]
    assert list(group["hosts"]) == list(tiers)
    for tier in {*tiers.values()} - {""}:
        assert set(group["children"][f"tier_{tier}"]["hosts"]) == {name for name, each in tiers.items() if each == tier}


def test_every_column_is_in_the_help() -> None:
    done = subprocess.run([sys.executable, str(GENERATE), "--help"], capture_output=True, text=True, check=True)
    assert ", ".join(COLUMNS) in " ".join(done.stdout.split())
