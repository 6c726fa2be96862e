"""An hour of mixed load, with faults in a script, on one daemon that is never restarted; at its end all is flat.

    python tests/faults/soak.py [--minutes 60] [--cycle 60] [--seed N] [--folder DIR]

Files, items of a source and results for a destination go through without a pause. Every cycle each fault of FAULTS
begins and ends once. Prints a line per cycle and a verdict; exit 1 when an invariant is broken, or when memory,
descriptors, children, threads or the write-ahead log of the last quarter are above those of the second. (In the first the caches fill.)
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from storm import KINDS

from support.customer import Customer
from support.customers import destination
from support.daemon import Daemon, inboxd, run_daemon
from support.invariants import Evidence, Footprint, violations
from support.load import mixture
from support.partner import Partner
from support.site import Site
from support.sourced import NAME, fetchers, offer, offered, rows, source
from support.wait import wait_until

_RATE = 20.0  # files per second, at most; in bursts
_SAMPLE = 2.0  # seconds between two looks at the daemon
#: What may be more at the end than in the second quarter. The log grows to 16 MiB, and no further (custody/engine.py).
_RSS, _FDS, _THREADS, _WAL = 8 << 20, 8, 3, 17 << 20
#: What a child of the daemon has of its descriptors: its channel, its pidfd, its standard error and its mark. In the
#: middle of a reload the old children and the new live side by side, so descriptors are counted without these.
_A_CHILD = 4
#: How many children may be more: all the helpers of a source and of a destination, replaced at once.
_CHILDREN = 4


@dataclass(frozen=True, slots=True)
class Sample:
    """The daemon at one moment; bytes."""

    rss: int
    fds: int  # beside those of children
    children: int
    threads: int
    wal: int


class Soak:
    """One long life."""

    def __init__(self, base: Path, seed: int) -> None:
        self.site = Site(base)
        self.dice = random.Random(seed)
        self.partner, self.customer = Partner(), Customer()
        self.samples: list[Sample] = []
        self.passed: list[str] = []
        self._files = mixture(10_000_000, seed=seed, kinds=KINDS)

    def run(self, seconds: float, cycle: float) -> list[str]:
        """Returns everything that does not hold at the end."""
        with self.partner, self.customer:
            generous = {"max_failures": 50, "first": "5ms", "longest": "200ms"}
            self.site.write(durability="full", resources={"every": "10s"})
            self.site.inbox(
                "main",
                retry={**generous, "max_attempts": 500},
                sources={NAME: source(self.partner, when="processed", retry={**generous})},
                destinations={"customer": destination(self.customer, match=["one-*"], retry={**generous})},
            )
            with run_daemon(self.site.config) as daemon:
                self._live(daemon, seconds, cycle)
                self._finish(daemon)
                found = violations(self.site.config, self._evidence(daemon.pid))
                assert daemon.stop() == 0
            found += violations(self.site.config, self._evidence(None))
            return found + list(self._grown())

    def _live(self, daemon: Daemon, seconds: float, cycle: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            acts = list(FAULTS)
            self.dice.shuffle(acts)
            began, span = time.monotonic(), min(cycle, left)
            for number, act in enumerate(acts):
                self._load(daemon, began + span * (number + 1) / len(acts) * 0.9)
                act(self, daemon)
                self.passed.append(act.__name__)
            self._load(daemon, began + span)
            self._tell()

    def _load(self, daemon: Daemon, until: float) -> None:
        """Drop in bursts until then, and look at the daemon now and then."""
        looked = 0.0
        while (now := time.monotonic()) < until:
            burst = self.dice.randrange(1, 60)
            self.site.drop_all(next(self._files) for _ in range(burst))
            offer(self.partner, 1, prefix=f"ok-{len(self.partner.offers)}")
            if now - looked > _SAMPLE:
                self.samples.append(self._sample(daemon))
                looked = now
            time.sleep(min(max(0.0, until - now), burst / _RATE))  # the load's own rhythm
            wait_until(lambda: self.site.count("inbound") < 5_000, "a shorter queue", 600)

    def _sample(self, daemon: Daemon) -> Sample:
        print_, children = Footprint.of(daemon.pid), len(psutil.Process(daemon.pid).children())
        wal = self.site.state / "ledger.sqlite-wal"
        fds = print_.fds - _A_CHILD * children
        return Sample(print_.rss, fds, children, print_.threads, wal.stat().st_size if wal.exists() else 0)

    def _tell(self) -> None:
        last = self.samples[-1]
        print(
            f"{len(self.site.manifest):>9,} files {len(self.partner.offers):>6,} items {len(self.passed):>5} faults   "
            f"{last.rss >> 20:>4} MiB {last.fds:>4} descriptors {last.children:>3} children {last.threads:>3} threads {last.wal >> 10:>6} KiB of log",
            flush=True,
        )

    def _finish(self, daemon: Daemon) -> None:
        wait_until(
            lambda: not self.site.count("inbound") and not self.site.listed("work"), "every file's end", 900, 0.5
        )
        wait_until(
            lambda: not rows(self.site, "SELECT id FROM items WHERE state <> 'ACKED'"), "every item's end", 120, 0.5
        )
        wait_until(lambda: not rows(self.site, "SELECT id FROM sends WHERE open = 1"), "every result's end", 120, 0.5)
        self.samples.append(self._sample(daemon))
        self._tell()

    def _evidence(self, pid: int | None) -> Evidence:
        return Evidence(
            manifest=self.site.manifest,
            offered=offered(self.partner),
            acked=frozenset((NAME, name) for name in self.partner.acked()),
            received=frozenset((got.key, got.name, got.size) for got in self.customer.had()),
            witness=self.site.witnessed(),
            finished=True,
            daemon=pid,
        )

    def _grown(self) -> Iterator[str]:
        """What the last quarter has more of than the second."""
        count = len(self.samples)
        second, last = self.samples[count // 4 : count // 2], self.samples[-max(1, count // 4) :]
        limits = {"rss": _RSS, "fds": _FDS, "children": _CHILDREN, "threads": _THREADS, "wal": _WAL}
        for what, most in limits.items():
            before, after = (median(getattr(one, what) for one in some) for some in (second, last))
            if after > before + most:
                yield f"{what} has grown from {before:,.0f} to {after:,.0f}"


# The script


def a_worker_is_killed(_soak: Soak, daemon: Daemon) -> None:
    with contextlib.suppress(ProcessLookupError, IndexError):
        os.kill(daemon.ready_workers()[0], signal.SIGKILL)


def a_fetcher_is_killed(_soak: Soak, daemon: Daemon) -> None:
    for process in fetchers(daemon)[:1]:
        process.kill()


def the_ledger_is_locked(soak: Soak, _daemon: Daemon) -> None:
    with contextlib.closing(sqlite3.connect(soak.site.state / "ledger.sqlite", timeout=30, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        time.sleep(7)  # longer than the daemon waits for a lock
        db.execute("ROLLBACK")


def a_reader_stays(soak: Soak, _daemon: Daemon) -> None:
    with contextlib.closing(sqlite3.connect(f"file:{soak.site.state / 'ledger.sqlite'}?mode=ro", uri=True)) as db:
        db.execute("BEGIN")
        db.execute("SELECT count(*) FROM files").fetchone()
        time.sleep(3)


def processed_is_away(soak: Soak, daemon: Daemon) -> None:
    processed, elsewhere = soak.site.root() / "processed", soak.site.root() / "elsewhere"
    processed.rename(elsewhere)
    soak.site.drop_all(next(soak._files) for _ in range(20))
    time.sleep(3)  # how long it is away
    elsewhere.rename(processed)


def the_partner_refuses(soak: Soak, _daemon: Daemon) -> None:
    soak.partner.password, known = "another", soak.partner.password
    time.sleep(3)  # for so long
    soak.partner.password = known


def the_customer_fails(soak: Soak, _daemon: Daemon) -> None:
    soak.customer.default = 503
    time.sleep(3)  # for so long
    soak.customer.default = 201


def it_is_reloaded(soak: Soak, _daemon: Daemon) -> None:
    assert inboxd(soak.site.config, "reload").returncode == 0


def it_is_paused(soak: Soak, _daemon: Daemon) -> None:
    assert inboxd(soak.site.config, "pause", "main").returncode == 0
    soak.site.drop_all(next(soak._files) for _ in range(200))
    assert inboxd(soak.site.config, "resume", "main").returncode == 0


def it_is_stopped_for_a_moment(_soak: Soak, daemon: Daemon) -> None:
    daemon.signal(signal.SIGSTOP)
    time.sleep(2)  # for so long
    daemon.signal(signal.SIGCONT)


def it_is_asked(soak: Soak, _daemon: Daemon) -> None:
    for words in (("status",), ("files", "--limit", "500"), ("doctor",)):
        answer = inboxd(soak.site.config, *words, timeout=300)
        assert answer.returncode in (0, 1), answer.stderr


FAULTS: tuple[Callable[[Soak, Daemon], None], ...] = (
    a_worker_is_killed, a_fetcher_is_killed, the_ledger_is_locked, a_reader_stays, processed_is_away,
    the_partner_refuses, the_customer_fails, it_is_reloaded, it_is_paused, it_is_stopped_for_a_moment, it_is_asked,
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(
        description="A long life of inboxd under load and faults; all must be flat at its end."
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--cycle", type=float, default=60.0, help="seconds in which each fault comes once")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--folder", type=Path, help="where to work (default: the temporary folder)")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="inboxd-soak-", dir=arguments.folder))
    print(f"seed {arguments.seed}, in {folder}")
    soak = Soak(folder / "site", arguments.seed)
    found = soak.run(arguments.minutes * 60, arguments.cycle)
    for fault in found[:40]:
        print(fault.encode("utf-8", "backslashreplace").decode())
    print(f"verdict: {'SOUND AND FLAT' if not found else f'{len(found)} faults; all is kept in {folder}'}")
    if not found:
        shutil.rmtree(folder)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
