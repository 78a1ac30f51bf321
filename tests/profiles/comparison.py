"""What runs of the load say about profiles: figures, their medians, the table and what may be concluded from it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from pinch.tiers import MEBIBYTE, Tier

from tests.budget.scenario import Run


class Figure(NamedTuple):
    """One number of a run, under its name and in its unit."""

    name: str
    unit: str
    value: float


class Measured(NamedTuple):
    """One run under one profile."""

    profile: str
    figures: tuple[Figure, ...]
    breaches: tuple[str, ...]
    """What keeps the run from counting as held."""

    def value(self, name: str) -> float:
        """Return the figure called `name`."""
        return next(figure.value for figure in self.figures if figure.name == name)


ANSWERS = "recalls answered in the minute"
SHOWN_AS_RATIO = ("recall p50", "recall p95", "start to first recall, page cache cold")
"""Times: on an emulated board only their ratio says something."""


def measured(profile: str, run: Run, tier: Tier) -> Measured:
    """Take the figures out of a run of the load."""
    figures = (
        Figure(ANSWERS, "", len(run.found["latencies_ms"])),
        Figure("messages answered in sessions", "", run.found["answers"]),
        Figure("documents ingested", "", run.found["ingested"]),
        Figure("memory.pressure full avg60, highest", "%", run.stalled),
        Figure("file pages read again", "", run.peak("refaults")),
        Figure("pages swapped in, whole board", "", _grown(run, "swapped_in")),
        Figure("pages swapped out, whole board", "", _grown(run, "swapped_out")),
        Figure("swap of the unit, peak", "MB", run.peak("swap") / MEBIBYTE),
        Figure("anonymous, peak", "MB", run.peak("anon") / MEBIBYTE),
        Figure("file, peak", "MB", run.peak("file") / MEBIBYTE),
        Figure("recall p50", "ms", run.latency_ms(0.5)),
        Figure("recall p95", "ms", run.latency_ms(0.95)),
        Figure("start to first recall, page cache cold", "s", run.first_recall_s),
        Figure("processes killed for want of memory", "", run.oom_kills),
    )
    return Measured(profile, figures, tuple(run.breaches(tier)))


def report(runs: Sequence[Measured], head: Mapping[str, str]) -> str:
    """Return the comparison as Markdown; the first profile is what the others are measured against.

    Args:
        runs: all runs in the order they were made.
        head: what was compared where: board, tier, kernel and so on.
    """
    return "\n".join([*_head(head), *_medians(runs), "", *_every_run(runs), "", *conclusions(runs), ""])


def conclusions(runs: Sequence[Measured]) -> list[str]:
    """Say what the runs allow to conclude, and what they do not."""
    names = _profiles(runs)
    sentences = []
    for name in names:
        broken = sorted({breach for run in _of(runs, name) for breach in run.breaches})
        if broken:
            sentences.append(f"Under {name} the budget did not hold: {'; '.join(broken)}.")
    first = _values(runs, names[0], ANSWERS)
    for name in names[1:]:
        other = _values(runs, name, ANSWERS)
        if min(other) > max(first) or max(other) < min(first):
            share = statistics.median(other) / statistics.median(first) - 1 if statistics.median(first) else math.inf
            which = "more" if share > 0 else "fewer"
            sentences.append(
                f"Every run under {name} answered {which} recalls than any under {names[0]}: "
                f"{share:+.1%} in the median."
            )
        else:
            sentences.append(
                f"{name} and {names[0]} answered as many recalls within the spread of their runs "
                f"({min(other):g} to {max(other):g} and {min(first):g} to {max(first):g}): nothing to choose by."
            )
    return sentences


def _head(head: Mapping[str, str]) -> Iterator[str]:
    yield "# Kernel values under the load of the budget"
    yield ""
    yield from (f"- {name}: {value}" for name, value in head.items())
    yield ""


def _medians(runs: Sequence[Measured]) -> Iterator[str]:
    names = _profiles(runs)
    count = len(_of(runs, names[0]))
    yield f"Medians of {count} run{'s' if count != 1 else ''} each; times as ratio to {names[0]}."
    yield ""
    yield f"| Figure | {' | '.join(names)} |"
    yield f"|---|{'---:|' * len(names)}"
    for figure in runs[0].figures:
        medians = [statistics.median(_values(runs, name, figure.name)) for name in names]
        yield f"| {figure.name} | {' | '.join(_cells(figure, medians))} |"


def _cells(figure: Figure, medians: Sequence[float]) -> Iterator[str]:
    for place, value in enumerate(medians):
        if place and figure.name in SHOWN_AS_RATIO and medians[0] and not math.isinf(max(medians)):
            yield f"× {value / medians[0]:.2f}"
        else:
            yield _said(value, figure.unit)


def _every_run(runs: Sequence[Measured]) -> Iterator[str]:
    yield "Every run, in the order they were made."
    yield ""
    yield f"| Run | Profile | {' | '.join(figure.name for figure in runs[0].figures)} | Held |"
    yield f"|---:|---|{'---:|' * len(runs[0].figures)}---|"
    for number, run in enumerate(runs, 1):
        cells = " | ".join(_said(figure.value, figure.unit) for figure in run.figures)
        yield f"| {number} | {run.profile} | {cells} | {'no' if run.breaches else 'yes'} |"


def _said(value: float, unit: str) -> str:
    if math.isinf(value):
        return "never"
    return f"{f'{value:.2f}'.rstrip('0').rstrip('.')} {unit}".strip()


def _grown(run: Run, name: str) -> int:
    samples = [int(each[name]) for each in run.found["samples"]]
    return samples[-1] - samples[0] if samples else 0


def _profiles(runs: Sequence[Measured]) -> list[str]:
    return list(dict.fromkeys(run.profile for run in runs))


def _of(runs: Sequence[Measured], name: str) -> list[Measured]:
    return [run for run in runs if run.profile == name]


def _values(runs: Sequence[Measured], name: str, figure: str) -> list[float]:
    return [run.value(figure) for run in _of(runs, name)]
