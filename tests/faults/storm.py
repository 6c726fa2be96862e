"""Real files and items go through while daemon, workers and fetchers are killed at random; the checker has the last word.

    python tests/faults/storm.py [--files 10000] [--lives 25] [--seed N] [--durability full] [--folder DIR]

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
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import psutil

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.customer import Customer
from support.customers import destination
from support.daemon import Daemon, run_daemon
from support.invariants import Evidence, violations
from support.load import Item, hostile, mixture, write_manifest
from support.partner import Partner
from support.site import Site
from support.sound import survivors, wait_finished
from support.sourced import NAME, fetchers, offer, offered, rows, source, wait_states
from support.wait import wait_until

#: What the files do to their workers, and how often.
KINDS = {
    "ok": 0.60, "sleep-0_003": 0.25, "results": 0.05, "fail-1": 0.03, "retry-2": 0.02, "crash-1": 0.01, "kill-2": 0.01,
    "reject": 0.02, "fail": 0.01,
}  # fmt: skip
_REPEATING = ("fail", "retry", "crash", "kill", "reject")  # kinds that repeat by themselves
_LAST_LIFE = 300.0  # seconds for what is left when the storm is over


@dataclass(slots=True)
class Toll:
    """What the storm did."""

    daemons: int = 0
    workers: int = 0
    fetchers: int = 0
    unready: int = 0  # daemons that were killed before they were READY
    checks: int = 0  # made in between
    seconds: float = 0.0
    running: Counter[str] = field(default_factory=Counter)  # by id: deaths at which its row was RUNNING
    found: list[str] = field(default_factory=list)


class Storm:
    """Files are dropped over many lives of the daemon, all but the last cut short; then all may come to its end."""

    def __init__(self, base: Path, durability: str, seed: int) -> None:
        self.site = Site(base)
        self.dice = random.Random(seed)
        self.seed = seed
        self.toll = Toll()
        self.partner, self.customer = Partner(), Customer()
        self._durability = durability

    def __enter__(self) -> Storm:
        self.partner.__enter__()
        self.customer.__enter__()
        self._configure()
        return self

    def __exit__(self, *error: object) -> None:
        self.partner.__exit__(*error)
        self.customer.__exit__(*error)

    def _configure(self) -> None:
        """Generous limits: chance may kill the process of one innocent file many times."""
        self.site.write(durability=self._durability, workers={"processes": 2, "batch_size": 50}, stop_grace="10s")
        generous = {"max_failures": 50, "first": "5ms", "longest": "50ms"}
        self.site.inbox(
            "main",
            retry={**generous, "max_attempts": 500},
            sources={NAME: source(self.partner, when="processed", retry={**generous})},
            destinations={"customer": destination(self.customer, match=["one-*"], retry={**generous})},
        )

    def rage(self, count: int, lives: int, every: int = 10) -> None:
        """Drop `count` files, and offer a tenth as many items. Checks after every so many lives."""
        began = time.monotonic()
        strange = list(hostile())
        items = iter([*strange, *mixture(count - len(strange), seed=self.seed, kinds=KINDS)])
        for life in range(lives - 1):
            with run_daemon(self.site.config, ready=bool(life % 3)) as daemon:
                self.site.drop_all(islice(items, count // lives))
                offer(self.partner, max(1, count // lives // 10), seed=self.seed, prefix=f"ok-{life}")
                for _ in range(self.dice.randrange(5)):
                    self._pause(0.12)
                    self._kill_somebody(daemon)
                self._pause(0.5)
                self.toll.unready += not daemon.notified("READY=1")
                daemon.kill()
                self.toll.daemons += 1
            self._after_death(check=life % every == every - 1)
        self._last_life(items, count)
        self.toll.seconds = time.monotonic() - began

    def _after_death(self, *, check: bool) -> None:
        running = rows(self.site, "SELECT id FROM files WHERE state = 'RUNNING'")
        self.toll.running.update(row["id"] for row in running)
        if check:
            wait_until(lambda: not survivors(self.site), "the workers' end")
            self.toll.found += violations(self.site.config, self._evidence())
            self.toll.checks += 1

    def _last_life(self, items: Iterator[Item], count: int) -> None:
        with run_daemon(self.site.config) as daemon:
            self.site.drop_all(items)
            for _ in range(10):
                self._pause(0.1)
                self._kill_somebody(daemon)
            wait_finished(self.site, count + len(self.partner.offers), timeout=_LAST_LIFE)
            wait_states(self.site, timeout=60, ACKED=len(self.partner.offers))
            wait_until(lambda: not rows(self.site, "SELECT id FROM sends WHERE open = 1"), "all sent", 60)
            wait_until(lambda: not self.site.listed("work"), "an empty work/", 60)
            if daemon.stop() != 0:
                raise AssertionError(f"the last daemon ended with {daemon.process.returncode}\n{daemon.tail()}")

    def _pause(self, longest: float) -> None:
        time.sleep(self.dice.uniform(0.0, longest))  # the fault's instant, not a wait for anything

    def _kill_somebody(self, daemon: Daemon) -> None:
        """A worker, or a fetcher."""
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if self.dice.random() < 0.3 and (found := fetchers(daemon)):
                self.dice.choice(found).kill()
                self.toll.fetchers += 1
            elif victims := daemon.ready_workers():
                os.kill(self.dice.choice(victims), signal.SIGKILL)
                self.toll.workers += 1

    def _evidence(self, *, finished: bool = False) -> Evidence:
        return Evidence(
            manifest=self.site.manifest,
            offered=offered(self.partner),
            acked=frozenset((NAME, name) for name in self.partner.acked()),
            received=frozenset((got.key, got.name, got.size) for got in self.customer.had()),
            witness=self.site.witnessed(),
            finished=finished,
        )

    def verdict(self) -> list[str]:
        """Every violation; every file must have come to the end that its kind deserves, and none ran again for nothing."""
        found = [*self.toll.found, *violations(self.site.config, self._evidence(finished=True))]
        doomed = {
            entry.name for entry in self.site.manifest if entry.name.startswith("reject-") or _always_fails(entry.name)
        }
        in_errors = set(self.site.listed("errors"))
        found += [f"{name!r} is in errors/, and nothing was wrong with it" for name in sorted(in_errors - doomed)]
        found += [f"{name!r} is not in errors/" for name in sorted(doomed - in_errors)]
        return [*found, *self._repeated_for_nothing()]

    def _repeated_for_nothing(self) -> Iterator[str]:
        """A file runs again only after a death at which it was RUNNING: the daemon's, or that of its worker."""
        crashed = Counter(row["file_id"] for row in rows(self.site, "SELECT file_id FROM failures"))
        runs = Counter((line["id"], line["name"]) for line in self.site.witnessed("start"))
        for (id, name), count in runs.items():
            deaths = self.toll.running[id] + crashed[id]
            if count - 1 > deaths and not name.startswith(_REPEATING):
                yield f"{name!r} ({id}) ran {count} times, and {deaths} deaths interrupted it"


def _always_fails(name: str) -> bool:
    return name.startswith("fail-") and name.count("-") == 1


def _report(storm: Storm, found: list[str]) -> None:
    site, toll = storm.site, storm.toll
    starts = site.witnessed("start")
    places = {which: len(site.listed(which)) for which in ("inbound", "work", "processed", "errors", "quarantine")}
    print(f"files dropped         {len(site.manifest):,}")
    print(f"daemons killed        {toll.daemons} ({toll.unready} before READY)")
    print(f"workers killed        {toll.workers}, besides those that files killed")
    print(f"fetchers killed       {toll.fetchers}")
    print(f"items and results     {len(storm.partner.offers):,} fetched, {len(storm.customer.names()):,} sent")
    print(f"checked in between    {toll.checks} times")
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
    print(f"seed                  {arguments.seed}")
    with Storm(folder / "site", arguments.durability, arguments.seed) as storm:
        storm.rage(arguments.files, arguments.lives)
        write_manifest(storm.site.base / "manifest.jsonl", storm.site.manifest)
        found = storm.verdict()
        _report(storm, found)
    if found or arguments.keep:
        print(f"kept                  {folder}")
    else:
        shutil.rmtree(folder)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
