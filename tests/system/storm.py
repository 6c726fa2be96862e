"""Real files go through while workers and the daemon are killed at random; the checker has the last word.

    python tests/system/storm.py [--files 10000] [--lives 25] [--seed N] [--durability full] [--folder DIR]

Prints what was killed and what became of the files, and the verdict; exit 1 if any invariant is broken.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.daemon import Daemon, run_daemon
from support.invariants import Evidence, violations
from support.load import hostile, mixture, write_manifest
from support.site import Site
from support.sound import wait_finished

#: What the files do to their workers, and how often.
KINDS = {
    "ok": 0.60, "sleep-0_003": 0.25, "results": 0.05, "fail-1": 0.03, "retry-2": 0.02, "crash-1": 0.01, "kill-2": 0.01,
    "reject": 0.02, "fail": 0.01,
}  # fmt: skip
_LAST_LIFE = 300.0  # seconds for what is left when the storm is over


@dataclass(slots=True)
class Toll:
    """What the storm did."""

    daemons: int = 0
    workers: int = 0
    unready: int = 0  # daemons that were killed before they were READY
    seconds: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter)


def prepare(site: Site, durability: str = "full") -> None:
    """Generous limits: chance may kill the worker of one innocent file many times."""
    site.write(durability=durability, workers={"processes": 2, "batch_size": 50}, stop_grace="10s")
    limits = {"max_failures": 15, "max_attempts": 200, "first": "5ms", "longest": "50ms"}
    site.inbox("main", retry=limits)


def storm(site: Site, count: int, lives: int, seed: int) -> Toll:
    """Drop `count` files over `lives` lives of the daemon, all but the last cut short; then wait for the end."""
    source, toll, began = random.Random(seed), Toll(), time.monotonic()
    strange = list(hostile())
    items = iter([*strange, *mixture(count - len(strange), seed=seed, kinds=KINDS)])
    for life in range(lives - 1):
        with run_daemon(site.config, ready=bool(life % 3)) as daemon:
            site.drop_all(islice(items, count // lives))
            for _ in range(source.randrange(4)):
                _pause(source, 0.15)
                toll.workers += _kill_a_worker(daemon, source)
            _pause(source, 0.6)
            toll.unready += not daemon.notified("READY=1")
            daemon.kill()
            toll.daemons += 1
    with run_daemon(site.config) as daemon:
        site.drop_all(items)
        for _ in range(10):
            _pause(source, 0.1)
            toll.workers += _kill_a_worker(daemon, source)
        wait_finished(site, count, timeout=_LAST_LIFE)
        if daemon.stop() != 0:
            raise AssertionError(f"the last daemon ended with {daemon.process.returncode}\n{daemon.tail()}")
    toll.seconds = time.monotonic() - began
    return toll


def _pause(source: random.Random, longest: float) -> None:
    time.sleep(source.uniform(0.0, longest))  # the fault's instant, not a wait for anything


def _kill_a_worker(daemon: Daemon, source: random.Random) -> bool:
    victims = daemon.ready_workers()
    with contextlib.suppress(ProcessLookupError):
        if victims:
            os.kill(source.choice(victims), signal.SIGKILL)
            return True
    return False


def verdict(site: Site) -> list[str]:
    """Every violation; and every file must have come to the end that its kind deserves."""
    found = violations(site.config, Evidence(manifest=site.manifest, witness=site.witnessed(), finished=True))
    doomed = {entry.name for entry in site.manifest if entry.name.startswith("reject-") or _always_fails(entry.name)}
    in_errors = set(site.listed("errors"))
    found += [f"{name!r} is in errors/, and nothing was wrong with it" for name in sorted(in_errors - doomed)]
    found += [f"{name!r} is not in errors/" for name in sorted(doomed - in_errors)]
    return found


def _always_fails(name: str) -> bool:
    return name.startswith("fail-") and name.count("-") == 1


def _report(site: Site, toll: Toll, found: list[str]) -> None:
    starts = site.witnessed("start")
    places = {which: len(site.listed(which)) for which in ("inbound", "work", "processed", "errors", "quarantine")}
    print(f"files dropped         {len(site.manifest):,}")
    print(f"daemons killed        {toll.daemons} ({toll.unready} before READY)")
    print(f"workers killed        {toll.workers}, besides those that files killed")
    print(f"handler runs          {len(starts):,} on {len({line['id'] for line in starts}):,} files")
    print(f"places                {', '.join(f'{count:,} {which}' for which, count in places.items())}")
    print(f"seconds               {toll.seconds:.1f}")
    for fault in found:
        print(fault.encode("utf-8", "backslashreplace").decode())
    print(f"verdict               {'SOUND' if not found else f'{len(found)} VIOLATIONS'}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Kill inboxd and its workers at random under load, and check.")
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--lives", type=int, default=25, help="how often the daemon is started")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--durability", choices=["full", "process"], default="full")
    parser.add_argument("--folder", type=Path, help="where to work (default: the temporary folder)")
    parser.add_argument("--keep", action="store_true", help="leave everything there")
    return parser.parse_args()


def main() -> int:
    arguments = _arguments()
    folder = Path(tempfile.mkdtemp(prefix="inboxd-storm-", dir=arguments.folder))
    site = Site(folder / "site")
    prepare(site, arguments.durability)
    print(f"seed                  {arguments.seed}")
    toll = storm(site, arguments.files, arguments.lives, arguments.seed)
    write_manifest(site.base / "manifest.jsonl", site.manifest)
    found = verdict(site)
    _report(site, toll, found)
    if found or arguments.keep:
        print(f"kept                  {folder}")
    else:
        shutil.rmtree(folder)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
