"""How fast inboxd is beside a bare loop and a hand-written script, in one run on one machine.

    python tests/bench/run.py [--quick] [--json] [--rounds N] [--only WORD] [--folder DIR]

Candidates are interleaved round by round, ratios are taken inside a round, and the median of the rounds is shown.
Differences under 15 % are noise. Everything is removed at the very end, never between runs (scenarios.py says why).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

import sources
from candidates import ALL, BARE, HANDWRITTEN, INBOXD, INBOXD_FULL, Candidate
from scenarios import Measured, backlog, burst, idle, trickle

Run = Callable[[Candidate, Path], Measured]


@dataclass(slots=True)
class Scenario:
    """One row group of the table."""

    name: str
    run: Run
    rounds: int
    candidates: tuple[Candidate, ...] = ALL
    results: dict[str, list[Measured]] = field(default_factory=dict)


def plan(quick: bool) -> list[Scenario]:
    """What is measured, and how often."""
    sizes = {100: 3, 1_000: 3, 10_000: 3, 100_000: 1} if not quick else {100: 1, 1_000: 1, 10_000: 1}
    scenarios = [
        Scenario(f"backlog {count:,}", lambda who, where, n=count: backlog(who, where, n), rounds)
        for count, rounds in sizes.items()
    ]
    scenarios[1:1] = [Scenario("backlog 500", lambda who, where: backlog(who, where, 500), 1 if quick else 3)]
    scenarios += [
        Scenario(f"burst {count:,}", lambda who, where, n=count: burst(who, where, n), 1 if quick else 3)
        for count in (1_000, 10_000)
    ]
    count = 400 if quick else 3_000
    scenarios.append(Scenario("200 files/s", lambda who, where: trickle(who, where, count), 1 if quick else 3))
    seconds = 3.0 if quick else 10.0
    scenarios.append(Scenario("idle", lambda who, where: idle(who, where, seconds), 1, (INBOXD, INBOXD_FULL)))
    return scenarios


def measure(scenario: Scenario, folder: Path, rounds: int) -> None:
    """All rounds of all candidates; the order turns round each time."""
    for number in range(rounds):
        order = scenario.candidates if number % 2 == 0 else scenario.candidates[::-1]
        for candidate in order:
            print(f"  {scenario.name}, round {number + 1}: {candidate.name}", file=sys.stderr, flush=True)
            place = Path(tempfile.mkdtemp(dir=folder))
            scenario.results.setdefault(candidate.name, []).append(scenario.run(candidate, place))


def median(values: list[float]) -> float:
    return statistics.median(values)


def ratio(scenario: Scenario, name: str, to: Candidate) -> float | None:
    """Files per second of `name` to those of `to`: median of the ratios within each round."""
    others = scenario.results.get(to.name)
    if not others or not others[0].rate:
        return None
    return median([mine.rate / other.rate for mine, other in zip(scenario.results[name], others, strict=True)])


def table(scenarios: list[Scenario]) -> str:
    """Plain text, one line for each scenario and candidate."""
    lines = [
        f"{'':16}{'':17}{'files/s':>9}{'steady':>9}{'CPU s/1000':>12}{'RSS MiB':>9}{'parent':>8}{'child':>7}"
        f"{'x bare':>8}{'x hand':>8}{'p50 ms':>8}{'p99 ms':>8}{'idle %':>8}{'lost':>8}"
    ]
    for scenario in scenarios:
        for name, runs in scenario.results.items():
            lines.append(f"{scenario.name:16}{name:17}" + _cells(scenario, name, runs))
    return "\n".join(lines)


def _cells(scenario: Scenario, name: str, runs: list[Measured]) -> str:
    def of(pick: Callable[[Measured], float | None], width: int, digits: int, scale: float = 1.0) -> str:
        values = [value for value in map(pick, runs) if value]
        return f"{median(values) * scale:{width}.{digits}f}" if values else f"{'-':>{width}}"

    def against(to: Candidate) -> str:
        found = ratio(scenario, name, to)
        return f"{found:8.2f}" if found is not None else f"{'-':>8}"

    idle_share = [run.idle for run in runs if run.idle is not None]
    return (
        of(lambda run: run.rate, 9, 0) + of(lambda run: run.steady, 9, 0) + of(lambda run: run.cpu, 12, 3)
        + of(lambda run: run.rss, 9, 0, 1 / (1 << 20)) + of(lambda run: run.parent, 8, 0, 1 / (1 << 20))
        + of(lambda run: run.child, 7, 0, 1 / (1 << 20)) + against(BARE) + against(HANDWRITTEN)
        + of(lambda run: run.p50, 8, 1, 1000) + of(lambda run: run.p99, 8, 1, 1000)
        + (f"{median(idle_share):8.2f}" if idle_share else f"{'-':>8}")
        + of(lambda run: run.lost, 8, 0)
    )  # fmt: skip


def _as_json(scenarios: list[Scenario]) -> str:
    return json.dumps(
        {
            "machine": {"cores": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()},
            "scenarios": {
                scenario.name: {
                    name: {
                        "rounds": [asdict(run) for run in runs],
                        "to_bare": ratio(scenario, name, BARE),
                        "to_handwritten": ratio(scenario, name, HANDWRITTEN),
                    }
                    for name, runs in scenario.results.items()
                }
                for scenario in scenarios
            },
        },
        indent=2,
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure inboxd beside a bare loop and a hand-written script.")
    parser.add_argument("--quick", action="store_true", help="one round, no backlog of 100,000")
    parser.add_argument("--json", action="store_true", help="every run, as JSON")
    parser.add_argument("--rounds", type=int, help="instead of each scenario's own number")
    parser.add_argument("--only", default="", help="scenarios whose name holds this")
    parser.add_argument("--candidates", default="", help="candidates whose name holds this, and the bare loop")
    parser.add_argument("--folder", type=Path, help="where to work (default: the temporary folder)")
    return parser.parse_args()


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is ended and removed
    arguments = _arguments()
    folder = Path(tempfile.mkdtemp(prefix="inboxd-bench-", dir=arguments.folder))
    chosen = [scenario for scenario in plan(arguments.quick) if arguments.only in scenario.name]
    try:
        for scenario in chosen:
            wanted = [one for one in scenario.candidates if arguments.candidates in one.name or one is BARE]
            scenario.candidates = tuple(wanted)
            measure(scenario, folder, arguments.rounds or scenario.rounds)
    finally:
        shutil.rmtree(folder)
    print(_as_json(chosen) if arguments.json else table(chosen))
    if not arguments.json and arguments.only in "sources":
        print()
        print(
            sources.measure(1_000 if arguments.quick else 10_000, 4, arguments.rounds or (1 if arguments.quick else 3))
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
