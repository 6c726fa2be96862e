"""How fast inboxd is beside what one might write instead, in one run on one machine.

    python tests/bench/run.py [--quick] [--huge] [--rows N] [--json] [--chart FILE.svg]
        [--rounds N] [--only WORD] [--candidates WORD]... [--folder DIR]

Candidates are interleaved round by round, ratios are taken inside a round, and the median of the rounds is shown.
Differences under 15 % are noise. Everything is removed at the very end, never between runs (scenarios.py says why).
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

from candidates import BARE
from measured import Measured
from plan import Scenario, plan

import inboxd


def measure(scenario: Scenario, folder: Path, rounds: int) -> None:
    """All rounds of all candidates; the order turns round each time."""
    for number in range(rounds):
        order = scenario.candidates if number % 2 == 0 else scenario.candidates[::-1]
        for candidate in order:
            print(f"  {scenario.name}, round {number + 1}: {candidate.name}", file=sys.stderr, flush=True)
            place = Path(tempfile.mkdtemp(dir=folder))
            run = scenario.run(candidate, place)
            scenario.results.setdefault(candidate.name, []).append(run)


def as_text(scenarios: Sequence[Scenario]) -> str:
    """Every table that has lines."""
    lines: dict[str, list[str]] = {}
    for scenario in scenarios:
        for table in scenario.tables if scenario.results else ():
            lines.setdefault(f"{table.title}\n{table.head()}", []).extend(table.lines(scenario.name, scenario.results))
    return "\n\n".join("\n".join([head, *below]) for head, below in lines.items())


def as_json(scenarios: Sequence[Scenario]) -> str:
    """Every run."""
    return json.dumps(
        {
            "machine": {"cores": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()},
            "scenarios": {
                scenario.name: {name: [_known(run) for run in runs] for name, runs in scenario.results.items()}
                for scenario in scenarios
            },
        },
        indent=2,
    )


def _known(run: Measured) -> dict[str, float]:
    return {name: value for name, value in asdict(run).items() if value is not None}


def show(scenarios: Sequence[Scenario], *, json_too: bool) -> None:
    """Tables for the reader; JSON, if wanted, where only JSON is."""
    print(as_text(scenarios), file=sys.stderr if json_too else sys.stdout)
    if json_too:
        print(as_json(scenarios))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure inboxd beside a bare loop and others.")
    parser.add_argument("--quick", action="store_true", help="one round, fewer files")
    parser.add_argument("--huge", action="store_true", help="also a million files, and a ledger of many rows (hours)")
    parser.add_argument("--rows", type=int, default=10_000_000, help="so many (default: 10,000,000)")
    parser.add_argument("--json", action="store_true", help="every run, as JSON; the tables go to standard error")
    parser.add_argument("--chart", type=Path, metavar="FILE.svg", help="draw the backlogs")
    parser.add_argument("--rounds", type=int, help="instead of each scenario's own number")
    parser.add_argument("--only", default="", help="scenarios whose name holds this")
    parser.add_argument(
        "--candidates", action="append", help="candidates whose name holds this, and the bare loop; may be repeated"
    )
    parser.add_argument("--folder", type=Path, help="where to work (default: the temporary folder)")
    return parser.parse_args()


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is ended and removed
    arguments = _arguments()
    compileall.compile_dir(Path(inboxd.__file__).parent, quiet=1)  # as an installation has it
    whole = plan(quick=arguments.quick, huge=arguments.huge, rows=arguments.rows)
    chosen = [scenario for scenario in whole if arguments.only in scenario.name]
    folder = Path(tempfile.mkdtemp(prefix="inboxd-bench-", dir=arguments.folder))
    try:
        for scenario in chosen:
            words = (*(arguments.candidates or [""]), BARE.name)
            scenario.candidates = tuple(one for one in scenario.candidates if any(word in one.name for word in words))
            measure(scenario, folder, arguments.rounds or (1 if arguments.quick else scenario.rounds))
    finally:  # whatever ended it: hours of measuring are not thrown away
        show(chosen, json_too=arguments.json)
        shutil.rmtree(folder)
    if arguments.chart:
        from chart import draw  # only now: it imports a large library

        draw(chosen, arguments.chart)
    return 0


if __name__ == "__main__":
    sys.exit(main())
