"""`pinch tier`: this machine's tier and why, or that of a machine given by its numbers."""

from __future__ import annotations

import argparse
from pathlib import Path

from pinch.cli.command import accept_json
from pinch.cli.context import Context
from pinch.cli.errors import CommandError, Exit
from pinch.tiers import MEBIBYTE, Machine, Tier, TierTable, fits, load_tiers, this_machine


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    accept_json(parser)
    parser.add_argument("--mem-total", type=int, metavar="BYTES", help="judge a machine with this MemTotal")
    parser.add_argument("--machine", metavar="NAME", help="judge a machine of this `uname -m`, such as aarch64")
    parser.add_argument("--bits", type=int, choices=(32, 64), help="width of its userland")


def run(args: argparse.Namespace, context: Context) -> int:
    """Print the tier; fails when it does not fit the machine."""
    table = load_tiers()
    if args.mem_total is not None and args.mem_total <= 0:
        raise CommandError(f"--mem-total is {args.mem_total}; expected bytes above 0", exit_status=Exit.USAGE)
    given = {"mem_total": args.mem_total, "machine": args.machine, "bits": args.bits}
    if args.bits is None and args.machine is not None:
        given["bits"] = 32 if args.machine.startswith(("armv", "i386", "i686")) else 64
    changes = {name: value for name, value in given.items() if value is not None}
    local = this_machine(Path("/proc/meminfo"))
    machine = local._replace(**changes)
    # What an operator pinned here says nothing about another machine.
    pinned = None if changes or context.settings.tier == "auto" else table.named(context.settings.tier)
    detected = table.detect(machine)
    tier = pinned or detected
    misfit = fits(tier, machine)
    document = {
        "tier": tier.name,
        "detected": detected.name,
        "pinned": pinned is not None,
        "why": _why(table, detected, machine) if pinned is None else "the setting tier says so",
        "nominal_mb": table.nominal(machine.mem_total),
        "mem_total_bytes": machine.mem_total,
        "machine": machine.machine,
        "bits": machine.bits,
        "fits": misfit is None,
        "misfit": misfit,
        "model": tier.model or None,
        "budget_mb": tier.budget_mb,
        "memory_high_mb": tier.memory_high_mb,
        "memory_max_mb": tier.memory_max_mb,
        "memory_swap_max_mb": tier.memory_swap_max_mb,
    }
    if context.as_json:
        context.output.document(document)
    else:
        context.output.lines(
            [
                f"{context.output.style(tier.name, 'bold')}: {document['why']}",
                f"nominal RAM {document['nominal_mb']} MB (MemTotal {machine.mem_total // MEBIBYTE} MB), "
                f"{machine.machine}, {machine.bits}-bit",
                f"budget {tier.budget_mb} MB, MemoryHigh {tier.memory_high_mb} MB, "
                f"MemoryMax {tier.memory_max_mb} MB, model {tier.model or 'none: recall by keyword'}",
                misfit or "it fits this machine",
            ]
        )
    return Exit.OK if misfit is None else Exit.ERROR


def _why(table: TierTable, tier: Tier, machine: Machine) -> str:
    if machine.is_arm32:
        return "32-bit Arm has no ONNX Runtime, whatever its RAM"
    nominal = table.nominal(machine.mem_total)
    ordered = list(table.tiers.values())
    position = ordered.index(tier)
    least = ordered[position - 1].below_mb if position else None
    bounds = [f"at least {least} MB" if least else "", f"below {tier.below_mb} MB" if tier.below_mb else ""]
    return f"a board sold with {nominal} MB, {' and '.join(bound for bound in bounds if bound)}"
