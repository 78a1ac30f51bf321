#!/usr/bin/python
"""Ansible module: kernel values, live and at the next boot, with a way back."""

from __future__ import annotations

import difflib
import platform
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.dropin import assignments, diff, read_later
from ansible.module_utils.kernel_values import KernelValueError, KernelValues
from ansible.module_utils.pinch_files import put, read

DOCUMENTATION = r"""
module: sysctl_values
short_description: Set kernel values, live and at the next boot, with a way back
description:
  - Writes one file below C(/etc/sysctl.d/) and sets the same values in the running kernel, as one task. What the kernel
    had before is kept on the board; a value that is no longer wanted is put back to it.
  - Nothing is written where the kernel lacks a value, refuses one, or a file that is read later says otherwise.
options:
  values:
    description: Values by name.
    type: dict
    default: {}
  text:
    description: The file, which sets just these values.
    type: str
    default: ""
  state:
    description: Whether the values are wanted; C(absent) puts back what was found.
    type: str
    choices: [present, absent]
    default: present
  root:
    description: Folder that stands for C(/).
    type: path
    default: /
author: The Pinch authors
"""
EXAMPLES = r"""
- name: Swap late
  sysctl_values:
    values: {vm.swappiness: 10}
    text: |
      vm.swappiness = 10
"""
RETURN = r"""
written:
  description: Names whose live value was changed.
  returned: always
  type: list
  elements: str
restored:
  description: Names whose live value was put back.
  returned: always
  type: list
  elements: str
unknown:
  description: Names whose first value nobody kept; the next boot brings it back.
  returned: always
  type: list
  elements: str
"""

DROPIN = "etc/sysctl.d/90-pinch.conf"
RECORD = "var/lib/pinch-found/sysctl.json"
FOLDERS = ("etc/sysctl.d", "run/sysctl.d", "usr/local/lib/sysctl.d", "usr/lib/sysctl.d", "lib/sysctl.d")
"""Where systemd-sysctl reads from; the first folder wins for files of one name."""
PROC = "/proc/sys/"


def path_of(name: str) -> str:
    """Return the file of the value `name`.

    Whichever of dot and slash comes first parts the words; the other one stands for itself:
    `net.ipv4.conf.eth0/1.forwarding` and `net/ipv4/conf/eth0.1/forwarding` are the same.
    """
    first = next((sign for sign in name if sign in "./"), ".")
    return PROC + (name.translate(str.maketrans("./", "/.")) if first == "." else name)


def rivals(root: Path, values: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for each value that a file read after ours sets differently.

    A pattern such as `net.ipv4.conf.*.rp_filter` loses to a name said in full, wherever that is.
    """
    paths = {path_of(name): (name, value) for name, value in values.items()}
    for file, name, value in read_later(root, FOLDERS, Path(DROPIN).name):
        pattern = path_of(name.lstrip("-"))
        said = " ".join(value.split())
        for path, (wanted_name, wanted) in paths.items():
            if path == pattern and wanted != said:
                yield (
                    f"{file.resolve()} sets {wanted_name} to {said} and is read after our file, which sets it to "
                    f"{wanted}; take the line out there, or set {wanted_name} to {said} in sysctl_values"
                )


def missing(root: Path, names: Iterable[str]) -> Iterator[str]:
    """Yield a sentence for each name that the running kernel does not have."""
    for name in names:
        path = root / path_of(name).lstrip("/")
        if not path.is_file():
            there = [f"{name.rpartition('.')[0]}.{file.name}" for file in _siblings(path)]
            close = difflib.get_close_matches(name, there, n=1, cutoff=0.75)
            hint = f"did you mean {close[0]}?" if close else "take it out of sysctl_values or of the set"
            yield f"the running kernel {platform.release()} has no {name}; {hint}"


def set_by(text: str) -> set[str]:
    """Return the files of the values that a drop-in sets."""
    return {path_of(name.lstrip("-")) for name, _ in assignments(text)}


def settle(root: Path, values: Mapping[str, str], text: str | None, *, dry: bool) -> dict[str, Any]:
    """Bring the board below `root` to the values; `text` None removes the drop-in. Return the module's answer.

    The order makes any end in the middle harmless: the record first, then the live values, then the
    file, then what is put back, and the record is cleared last.

    Raises:
        KernelValueError: with a sentence; neither file nor live value was changed.
    """
    if problems := [*missing(root, values), *rivals(root, values)]:
        raise KernelValueError("; ".join(problems))
    dropin = root / DROPIN
    wanted = {path_of(name): value for name, value in values.items()}
    names = {path_of(name): name for name in values}
    ours = set_by(read(dropin) or "")
    kernel = KernelValues(root, root / RECORD, ours)
    change, difference = kernel.change(wanted), diff(dropin, text)
    gone = kernel.found.keys() - wanted.keys()
    unknown = {name for name, found in change.restore.items() if found.value is None}
    unknown |= ours - wanted.keys() - kernel.found.keys()
    if not dry:
        kernel.write(wanted)
        if difference:
            put(dropin, text)
        kernel.forget(wanted)
    return {
        "changed": bool(change.write or gone or difference),
        "written": sorted(names[path] for path in change.write),
        "restored": sorted(_name_of(path) for path in change.restore.keys() - unknown),
        "unknown": sorted(_name_of(path) for path in unknown),
        "diff": [difference] if difference else [],
    }


def _siblings(path: Path) -> Iterator[Path]:
    if path.parent.is_dir():
        yield from path.parent.iterdir()


def _name_of(path: str) -> str:
    return path.removeprefix(PROC).translate(str.maketrans("/.", "./"))


def main() -> None:
    """Set or put back."""
    module = AnsibleModule(
        argument_spec={
            "values": {"type": "dict", "default": {}},
            "text": {"type": "str", "default": ""},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "root": {"type": "path", "default": "/"},
        },
        supports_check_mode=True,
    )
    present = module.params["state"] == "present"
    values = {str(name): str(value) for name, value in module.params["values"].items()} if present else {}
    text = module.params["text"] if present else None
    try:
        answer = settle(Path(module.params["root"]), values, text, dry=module.check_mode)
    except KernelValueError as error:
        module.fail_json(msg=f"{error}; nothing was changed, so correct it and run again")
    except OSError as error:
        module.fail_json(msg=f"{error.filename} cannot be written: {error.strerror}; repair the disk and run again")
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
