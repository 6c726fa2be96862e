"""Simulate for a while, or replay a seed.

python tests/simulation/run.py --minutes 10          from a seed on, one schedule after the other
python tests/simulation/run.py --seed 4711           replay one, with its story
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from simulation.schedule import Schedule, shrunk
from simulation.simulation import Simulation, Told


def simulate(schedule: Schedule, *, verbose: bool = False) -> Told:
    """One simulation."""
    return Simulation(schedule, verbose=verbose).run()


def tell(schedule: Schedule) -> None:
    """A schedule that fails: made small, with its story and its violations."""
    small = shrunk(schedule, lambda one: bool(simulate(one).violation))
    told = simulate(small, verbose=True)
    print(small, *told.history, told.violation, sep="\n")


def main() -> int:
    parser = argparse.ArgumentParser(description="Simulate inboxd's pipeline, with faults at any call.")
    parser.add_argument("--seed", type=int, default=0, help="the first seed; without --minutes the only one")
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--longest", type=int, default=40, help="events of one schedule")
    arguments = parser.parse_args()
    if not arguments.minutes:
        schedule = Schedule.random(arguments.seed, arguments.longest)
        told = simulate(schedule, verbose=True)
        print(schedule, *told.history, told.violation or "all holds", sep="\n")
        return 1 if told.violation else 0
    return _go_on(arguments)


def _go_on(arguments: argparse.Namespace) -> int:
    began, steps, seed, lives, files, failed = time.monotonic(), 0, arguments.seed, 0, 0, []
    while time.monotonic() < began + 60 * arguments.minutes:
        schedule = Schedule.random(seed, arguments.longest)
        told = simulate(schedule)
        steps, lives, files = steps + told.steps, lives + told.lives, files + told.files
        if told.violation:
            failed.append(seed)
            print(f"seed {seed} fails: {told.violation}")
            if len(failed) == 1:
                tell(schedule)
        seed += 1
    minutes = (time.monotonic() - began) / 60
    print(
        f"{seed - arguments.seed} schedules, {steps} steps ({steps / minutes:.0f} a minute), {lives} starts, "
        f"{files} files; {len(failed)} failed {failed[:20]}"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
