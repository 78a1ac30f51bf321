#!/usr/bin/python
"""Ansible module: one swap mechanism on a board, reached from whatever it swaps by."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.module_utils.pinch_swap.apply import ChangeError, StuckError, apply
from ansible.module_utils.pinch_swap.plan import Content, Plan, plan_change, settled, wish_now
from ansible.module_utils.pinch_swap.problems import swap_refusals
from ansible.module_utils.pinch_swap.record import RecordError
from ansible.module_utils.pinch_swap.state import State, read_state
from ansible.module_utils.pinch_swap.wanted import Link, Wish, swap_file_of

DOCUMENTATION = r"""
module: swap_setup
short_description: Swap by one mechanism
description:
  - Reads how the board swaps, works out the way to the wanted mechanism, goes it and looks at the live kernel, all
    in one remote call. Never are two mechanisms at work. What cannot be done while the board runs is put in place
    for its next boot.
options:
  swap:
    description: >-
      What preflight planned: C(mechanism), C(size_mb), C(limit_mb), C(file), C(algorithm) and C(adopted), which says
      that the file is the owner's, from C(/etc/fstab).
    type: dict
    default: {}
  state:
    description: C(absent) gives the board back to the mechanism that was found before the first change.
    type: str
    choices: [present, absent]
    default: present
author: The Pinch authors
"""
EXAMPLES = r"""
- name: Swap to compressed RAM
  swap_setup:
    swap: "{{ preflight_plan.swap }}"
"""
RETURN = r"""
steps:
  description: What was done, or would be in check mode.
  returned: always
  type: list
  elements: str
reboot_required:
  description: Why the rest waits for the next boot; empty where nothing does.
  returned: always
  type: str
areas:
  description: What the kernel swaps to now.
  returned: always
  type: list
  elements: dict
"""
ROOT = Path("/")


def shown(content: Content) -> str:
    """Return a file's text, or a link, as a diff shows it."""
    return f"-> {content.target}\n" if isinstance(content, Link) else content or ""


def wish_of(swap: Mapping[str, Any], *, ours: bool) -> Wish:
    """Return the wish that preflight planned."""
    if not ours:
        return Wish("none", ours=False)
    return Wish(
        mechanism=str(swap["mechanism"]),
        size_mb=int(swap["size_mb"]),
        limit_mb=int(swap["limit_mb"]),
        file=str(swap["file"]),
        algorithm=str(swap["algorithm"]),
        adopted=boolean(swap["adopted"]),
    )


def describe(state: State) -> str:
    """Say how a board swaps."""
    areas = ", ".join(
        f"{area.path} by {area.mechanism or area.maker} ({area.size_bytes >> 20} MB, limit {area.limit_bytes >> 20} MB)"
        for area in state.areas
    )
    return f"{areas or 'nothing'}, zswap {'on' if state.zswap.enabled else 'off'}"


def change(module: AnsibleModule, plan: Plan) -> Plan:
    """Do what `plan` says; an area that cannot be left makes it wait for the next boot."""

    def run(command: list[str]) -> tuple[int, str]:
        status, printed, error = module.run_command(command)
        return status, error or printed

    try:
        apply(plan, ROOT, run)
    except StuckError as stuck:
        make = plan.make if plan.make and plan.make[0] not in plan.leave else None
        plan = plan._replace(waits=str(stuck), leave=(), stop=(), start=(), kernel=(), drop=(), make=make)
        apply(plan, ROOT, run)
    return plan


def main() -> None:
    """Reach the mechanism."""
    module = AnsibleModule(
        argument_spec={
            "swap": {"type": "dict", "default": {}},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    wish = wish_of(module.params["swap"], ours=module.params["state"] == "present")
    path = swap_file_of(wish.mechanism, wish.file, ROOT)
    try:
        state = read_state(ROOT, path)
        refusals = list(swap_refusals(state, wish))
        if refusals:
            module.fail_json(msg="; ".join(refusals))
        plan = plan_change(state, wish, ROOT)
        steps, changed = plan.words, not plan.nothing
        if changed and not module.check_mode:
            plan = change(module, plan)
            state = read_state(ROOT, path)
            rest = plan_change(state, wish, ROOT)
            if rest.forget:
                change(module, rest)
    except (RecordError, ChangeError) as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename} cannot be written: {error.strerror}; repair the disk and run again")
    if not module.check_mode and not plan.waits and not settled(state, wish):
        module.fail_json(
            msg=f"the board should swap by {wish_now(wish, state).mechanism} alone, {wish.size_mb} MB with "
            f"{wish.limit_mb} MB of RAM at most, and swaps to {describe(state)}; look at `systemctl status '*.swap' "
            "systemd-zram-setup@zram0.service` and at `swapon --show`"
        )
    module.exit_json(
        changed=changed,
        steps=steps,
        reboot_required=plan.waits,
        areas=[area._asdict() for area in state.areas],
        diff=[
            {"before": shown(plan.before[name]), "after": shown(text), "before_header": path, "after_header": path}
            for name, text, path in ((name, text, f"/{name}") for name, text in plan.files.items())
        ],
    )


if __name__ == "__main__":
    main()
