"""A run of `site.yml` that dies anywhere is repaired by the next one."""

from __future__ import annotations

import os
import random
import secrets
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

from tests.appliance import Board
from tests.playbook import ANSIBLE, Moment, play
from tests.report import Figures

KILLS = int(os.environ.get("PINCH_KILLS", "3"))
SEED = int(os.environ.get("PINCH_SEED") or secrets.randbelow(2**32))
TASKS = 25
"""Tasks of a run to choose from before one has been seen."""
LONGEST_S = 8.0
"""How far into a task a kill may come; on an emulated board most take less."""

WISHES: list[dict[str, Any]] = [
    {},
    {"swap_mechanism": "file"},
    {"pinch_settings": {"log_level": "debug"}},
    {"sysctl_values": {"vm.overcommit_memory": 0}},
    {"swap_mechanism": "none", "pinch_memory_max_mb": 49},
]
"""What the runs ask for by turns, so that there is something to interrupt once the board is provisioned."""

LEFTOVERS = (
    "find /opt/pinch /etc /boot /var/lib/pinch-models /var/tmp -xdev "
    r"\( -name '*.partial' -o -name '.pinch-*' -o -name '.*.new' -o -path '/var/tmp/pinch-*' \) "
    "-not -path '/var/tmp/pinch-proof*' 2>/dev/null; true"
)


def test_a_run_killed_at_random_tasks_again_and_again_converges(
    host: Host, figures: Figures, request: pytest.FixtureRequest
) -> None:
    site = partial(play, ANSIBLE / "site.yml", Path(request.config.getoption("--ansible-inventory")))
    # Its seed is printed: PINCH_SEED repeats it as far as the timing of a board lets it.
    figures.add("seed", SEED)
    chance = random.Random(SEED)
    killed: list[str] = []
    longest = TASKS
    for attempt in range(4 * KILLS):
        if len(killed) == KILLS:
            break
        wish = WISHES[attempt % len(WISHES)]
        moment = Moment(chance.randint(1, longest), chance.uniform(0, LONGEST_S))
        ended = site(variables=wish, kill=moment)
        if ended.killed:
            killed.append(ended.tasks[-1])
        else:  # it was faster than the kill; that it succeeds over what the killed ones left is what is asked
            assert ended.status == 0, ended.said[-4000:]
            longest = max(len(ended.tasks), 2)
    assert len(killed) == KILLS
    figures.add("kills", KILLS)
    figures.add("killed in", ", ".join(sorted(set(killed))))

    last = site()
    assert last.status == 0, last.said[-4000:]
    again = site()
    assert again.status == 0, again.said[-4000:]
    assert {host.changed for host in again.recap.values()} == {0}, again.said[-4000:]
    figures.add("tasks of a run that changes nothing", len(again.tasks))

    with closing(Board(host)) as board:
        assert board.run(LEFTOVERS) == ""
