#!/usr/bin/python
"""Ansible module: load a snapshot into the running service, and see that everything of it is found there."""

from __future__ import annotations

import hashlib
import http.client
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.pinch_service import Service, address, first_token

DOCUMENTATION = r"""
module: restored_store
short_description: Load a snapshot into the running service and verify it
description:
  - Lets the service replace its store by the snapshot, which it checks from end to end first; compares the counts, and
    recalls memories by their own words.
options:
  snapshot:
    description: The snapshot on the board.
    type: path
    required: true
  sha256:
    description: Its sum.
    type: str
    required: true
  counts:
    description: What it holds.
    type: dict
    required: true
  launcher:
    description: The command line of the release that runs.
    type: path
    required: true
  settings:
    description: The service's file of settings.
    type: path
    required: true
  tokens:
    description: The service's file of tokens.
    type: path
    required: true
  recalled:
    description: Memories to recall by their own words, spread evenly; 0 recalls all.
    type: int
    default: 500
author: The Pinch authors
"""
EXAMPLES = r"""
- name: Load and verify the store
  restored_store:
    snapshot: /var/lib/pinch-snapshots/restore/snapshot
    sha256: "{{ member.sha256 }}"
    counts: "{{ manifest.counts }}"
    launcher: /usr/local/bin/pinch
    settings: /etc/pinch/pinch.toml
    tokens: /etc/pinch/tokens
"""
RETURN = r"""
loaded:
  description: What the service says that it loaded.
  returned: success
  type: dict
recalled:
  description: Memories that were recalled by their own words.
  returned: success
  type: int
"""

ANSWER_S = 120.0
"""A recall on a busy small board takes its time."""
QUERY_CHARACTERS = 300
HITS = 50


class RestoreError(Exception):
    """A store that is not what was backed up; the message says what to do."""


def load(launcher: Path, snapshot: Path, sha256: str) -> dict[str, int]:
    """Let the service load the snapshot; return what it counted.

    Raises:
        RestoreError: another sum, or the service refuses.
    """
    with snapshot.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if found != sha256:
        raise RestoreError(
            f"the snapshot reached the board with sha256 {found[:16]}…; expected {sha256[:16]}…. Run again; "
            "nothing was changed"
        )
    command = [str(launcher), "--json", "snapshot", "load", str(snapshot)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        answer: dict[str, Any] = json.loads(done.stdout or done.stderr)
    except ValueError:
        answer = {}
    if done.returncode or "memories" not in answer:
        error = answer.get("error", {})
        said = "; ".join(filter(None, (error.get("message"), error.get("hint")))) or done.stderr.strip()
        raise RestoreError(f"the service did not load the snapshot: {said or done.returncode}. Its store is as it was")
    return {name: int(count) for name, count in answer.items()}


def compare(loaded: dict[str, int], counts: dict[str, Any]) -> None:
    """Refuse a store that holds another number of anything than was backed up.

    Raises:
        RestoreError: it does.
    """
    differing = {name: count for name, count in counts.items() if loaded.get(name) != int(count)}
    if differing:
        wrong = [f"{loaded.get(name)} {name} of {count}" for name, count in differing.items()]
        raise RestoreError(f"the service loaded {', '.join(wrong)}; the store before is kept as pinch.db.replaced")


def memories(service: Service) -> Iterator[dict[str, Any]]:
    """Yield every memory of every space.

    Raises:
        RestoreError: the service does not list them.
    """
    cursor = ""
    while True:
        status, page = service.call("GET", f"/v1/memories?limit=200{f'&cursor={quote(cursor)}' if cursor else ''}")
        if status != 200 or not isinstance(page, dict):
            raise RestoreError(f"the service answers {status} when it is to list its memories; look at its journal")
        yield from page["memories"]
        cursor = page.get("cursor") or ""
        if not cursor:
            return


def spread(number: int, wanted: int) -> set[int]:
    """Return which of `number` are looked at where `wanted` are enough, evenly; all of them for 0."""
    if not wanted or wanted >= number:
        return set(range(number))
    return {position * number // wanted for position in range(wanted)}


def is_found(service: Service, memory: dict[str, Any]) -> bool:
    """Whether a memory is recalled by its own words, where it has one."""
    text = str(memory["text"])
    for query in (text[:QUERY_CHARACTERS], text[-QUERY_CHARACTERS:]):
        question = {"query": query, "space": memory["space"], "mode": "keyword", "k": HITS}
        status, answer = service.call("POST", "/v1/recall", question)
        if status == 200 and any(hit.get("id") == memory["id"] for hit in answer["hits"]):
            return True
    # Punctuation alone has no word that it could be found by, on the board that it comes from no more than here.
    return not any(character.isalnum() for character in text)


def recall(service: Service, number: int, wanted: int) -> int:
    """Recall memories by their own words; return how many.

    Raises:
        RestoreError: one is not found.
    """
    chosen, lost, seen = spread(number, wanted), [], 0
    for position, memory in enumerate(memories(service)):
        if position in chosen:
            seen += 1
            if not is_found(service, memory):
                lost.append(str(memory["id"]))
    if seen != len(chosen) or lost:
        some = ", ".join(lost[:5])
        raise RestoreError(
            f"{len(lost)} of {seen} memories are not recalled by their own words ({some or 'too few are listed'}); the "
            "store before is kept as pinch.db.replaced"
        )
    return seen


def main() -> None:
    """Load, compare, recall."""
    module = AnsibleModule(
        argument_spec={
            "snapshot": {"type": "path", "required": True},
            "sha256": {"type": "str", "required": True},
            "counts": {"type": "dict", "required": True},
            "launcher": {"type": "path", "required": True},
            "settings": {"type": "path", "required": True},
            "tokens": {"type": "path", "required": True, "no_log": False},
            "recalled": {"type": "int", "default": 500},
        },
        supports_check_mode=True,
    )
    params = module.params
    if module.check_mode:
        module.exit_json(changed=True, loaded=params["counts"], recalled=0)
    try:
        loaded = load(Path(params["launcher"]), Path(params["snapshot"]), params["sha256"])
        compare(loaded, params["counts"])
        where = address(Path(params["settings"]).read_text("utf-8"))
        service = Service(where, first_token(Path(params["tokens"])), ANSWER_S)
        recalled = recall(service, loaded["memories"], params["recalled"])
    except RestoreError as error:
        module.fail_json(msg=str(error))
    except (OSError, http.client.HTTPException) as error:
        module.fail_json(msg=f"the service broke off while its store was verified: {error}; look at its journal")
    module.exit_json(changed=True, loaded=loaded, recalled=recalled)


if __name__ == "__main__":
    main()
