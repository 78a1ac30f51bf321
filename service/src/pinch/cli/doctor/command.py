"""Runs the checks and prints what they found."""

from __future__ import annotations

import argparse
from pathlib import Path

from attrs import asdict

from pinch.cli.command import accept_json
from pinch.cli.context import Context
from pinch.cli.doctor import cgroup, clock, disk, extension, model, pressure, service, swap, tokens
from pinch.cli.doctor.host import Finding, Host, Status
from pinch.cli.errors import Exit
from pinch.cli.output import Output
from pinch.cli.text import one_line, wrap
from pinch.settings import CONFIG_VARIABLE, DEFAULT_CONFIG, Settings, SettingsError, load_settings
from pinch.tiers import fits, load_tiers, this_machine

CHECKS = (
    model.check,
    extension.check,
    cgroup.check,
    pressure.check,
    swap.check,
    tokens.check,
    clock.check,
    disk.check,
)
_STYLE = {Status.OK: "green", Status.WARN: "yellow", Status.FAIL: "red"}
_NAME_COLUMNS = 10
_INDENT = " " * (6 + _NAME_COLUMNS)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    accept_json(parser)
    # For tests and for the card of another machine, mounted here.
    parser.add_argument("--root", type=Path, default=Path("/"), help=argparse.SUPPRESS)


def run(args: argparse.Namespace, context: Context) -> int:
    """Print every finding; fails when one of them is a failure."""
    settings, findings = _settings(context, args.root)
    host, tier = _host(args.root, settings, context)
    findings.append(tier)
    for check in CHECKS:
        findings += check(host)
    context.settings = settings
    findings += service.check(context)
    failed = any(finding.status is Status.FAIL for finding in findings)
    if context.as_json:
        context.output.document({"ok": not failed, "checks": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            context.output.lines(_render(finding, context.output))
    return Exit.ERROR if failed else Exit.OK


def _settings(context: Context, root: Path) -> tuple[Settings, list[Finding]]:
    environ = dict(context.environ)
    if root != Path("/") and CONFIG_VARIABLE not in environ:
        config = root / str(DEFAULT_CONFIG).lstrip("/")
        if config.exists():
            environ[CONFIG_VARIABLE] = str(config)
    source = environ.get(CONFIG_VARIABLE, str(DEFAULT_CONFIG))
    try:
        settings = load_settings(environ)
    except SettingsError as error:
        finding = Finding("settings", Status.FAIL, str(error), "correct it; the other checks assume the defaults")
        return Settings(), [finding]
    found = source if Path(source).exists() else f"defaults and environment (there is no {source})"
    return settings, [Finding("settings", Status.OK, found)]


def _host(root: Path, settings: Settings, context: Context) -> tuple[Host, Finding]:
    table = load_tiers()
    machine = this_machine(root / "proc/meminfo")
    tier = table.detect(machine) if settings.tier == "auto" else table.named(settings.tier)
    host = Host(root=root, settings=settings, tier=tier, machine=machine, now=context.now())
    misfit = fits(tier, machine)
    if misfit:
        return host, Finding("tier", Status.FAIL, misfit, 'pin a smaller tier, or set on_misfit = "step_down"')
    how = "detected" if settings.tier == "auto" else "pinned"
    return host, Finding("tier", Status.OK, f"{tier.name}, {how} on {table.nominal(machine.mem_total)} MB nominal RAM")


def _render(finding: Finding, output: Output) -> list[str]:
    columns = max(30, output.columns - len(_INDENT))
    lines = wrap(one_line(finding.found), columns) or [""]
    status = output.style(f"{finding.status.value:<4}", _STYLE[finding.status])
    head = f"{status}  {finding.name:<{_NAME_COLUMNS}}{lines[0]}"
    advice = wrap(f"→ {one_line(finding.advice)}", columns) if finding.advice else []
    return [head, *(_INDENT + line for line in lines[1:] + advice)]
