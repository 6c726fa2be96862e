"""A chart of backlogs: files per second, and the daemon's memory, against the number of files that wait."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl
from candidates import ALL
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from measured import Measured, median
from plan import Scenario

# Colours that the colour-blind tell apart, too (Okabe and Ito). inboxd has one for both durabilities.
_INBOXD, _PEERS = "#0072b2", ("#444444", "#d55e00", "#009e73", "#cc79a7")
_LOOKS = (
    {"color": _INBOXD, "linewidth": 2.5, "marker": "o"},
    {"color": _INBOXD, "linewidth": 2.5, "marker": "o", "linestyle": "--"},
    *({"color": color, "linewidth": 1.2, "marker": marker} for color, marker in zip(_PEERS, "s^Dv", strict=True)),
)


def draw(scenarios: Sequence[Scenario], path: Path) -> None:
    """Write it to `path` as SVG; the same runs make the same file."""
    backlogs = [scenario for scenario in scenarios if scenario.waiting]
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "inboxd", "font.size": 9}):
        figure = Figure(figsize=(10, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        _panel(left, "files per second, from the start of the process", backlogs, lambda run: run.rate)
        _panel(right, "memory of the daemon at its peak, MiB", backlogs, lambda run: (run.parent_peak or 0) / (1 << 20))
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=len(ALL), frameon=False)
        figure.savefig(path, format="svg", metadata={"Date": None})


def _panel(axes: Axes, title: str, backlogs: Sequence[Scenario], pick: Callable[[Measured], float | None]) -> None:
    """One line for each candidate, through the medians of its rounds."""
    for candidate, look in zip(ALL, _LOOKS, strict=True):
        medians = {
            scenario.waiting: median(
                [found for run in scenario.results.get(candidate.name, []) if (found := pick(run))]
            )
            for scenario in backlogs
        }
        points = [(count, value) for count, value in sorted(medians.items()) if value]
        axes.plot(*zip(*points, strict=True), label=candidate.name, markersize=4, **look)
    axes.set(title=title, xlabel="files that wait", xscale="log", yscale="log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _place: f"{value:,.0f}"))
    axes.grid(alpha=0.3)
