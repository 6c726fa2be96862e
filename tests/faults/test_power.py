"""The power fails: what was promised is there when it is back, whatever the moment.

The disk holds state and inboxes. It stops at once (its shutdown ioctl), so that what was not synced is lost, and is
mounted anew, so that its journal is replayed. The log of the daemon, the witness, and the servers that it speaks to are
elsewhere, and remember what they were told.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count, cycle, islice
from pathlib import Path

import pytest

from inboxd.custody.failpoints import ARROWS, STEPS
from support.customer import Customer
from support.customers import destination
from support.customers import wait_sends as wait_sent
from support.daemon import Daemon
from support.disks import Disk
from support.faults import fault, scale
from support.invariants import Evidence, violations
from support.load import Item, files, mixture
from support.partner import Partner
from support.power import Machine, missing_results
from support.site import Site
from support.sound import assert_sound, wait_finished
from support.sourced import NAME, offer, offered, source, wait_states
from support.wait import wait_until

_KINDS = {"ok": 0.55, "sleep-0_003": 0.2, "results": 0.1, "fail-1": 0.05, "reject": 0.05, "crash-1": 0.05}
pytestmark = pytest.mark.timeout(scale(120, 7200))
_LIVES = 12  # of a disk; it holds some thousand files
_LONGEST = 0.6  # seconds of load before the cut
#: Generous: chance may cut off the runs of one innocent file many times.
_RETRY = {"max_failures": 15, "max_attempts": 200, "first": "5ms", "longest": "50ms"}

SAFE = "nothing accepted is lost, nor is anything that its uploader had synced; one outcome per file"
CUT = "{} that is shut down and mounted anew, at random instants"


@contextmanager
def _machine(base: Path, kind: str = "ext4", durability: str = "full") -> Iterator[Machine]:
    base.mkdir(exist_ok=True)
    with Disk(base, base / "disk", kind) as disk:
        site = Site(base / "site", home=disk.point, durability=durability)
        site.inbox("main", retry=_RETRY)
        yield Machine(site, disk)


def _load(seed: int) -> Iterator[Item]:
    """Without end, no name twice."""
    for part in count():
        for name, content in mixture(500, seed=seed * 1000 + part, kinds=_KINDS):
            yield name.replace(b".dat", b"-%d-%d.dat" % (seed, part)), content


def _live_and_die(machine: Machine, dice: random.Random, items: Iterator[Item], *, synced: bool, ready: bool) -> None:
    """Files come in for a while, and the power fails in the midst of it."""
    with machine.life(ready=ready) as daemon:
        end = time.monotonic() + dice.uniform(0.0, _LONGEST)
        while time.monotonic() < end:
            machine.site.drop(*next(items), synced=synced)
            time.sleep(dice.uniform(0.0, 0.004))  # an uploader's pace
        machine.cut(daemon)
    machine.reckon(synced=synced)
    assert_sound(machine.site)


def _finish(machine: Machine) -> None:
    """The last life: all comes to its end."""
    with machine.life() as daemon:
        wait_finished(machine.site, len(machine.site.manifest), timeout=60)
        assert daemon.stop() == 0
    assert_sound(machine.site, finished=True)
    assert not missing_results(machine.site)


def _at_random(base: Path, tally: Callable[[], None], rounds: int, kind: str, *, synced: bool, ledger: bool) -> None:
    dice = random.Random()
    for first in range(0, rounds, _LIVES):
        with _machine(base / str(first), kind) as machine:
            if not ledger:
                machine.site.write(state="state")
            items = _load(dice.randrange(1 << 30))
            for life in range(first, min(first + _LIVES, rounds)):
                _live_and_die(machine, dice, items, synced=synced, ready=bool(life % 3))
                tally()
            _finish(machine)


@fault("Power loss", "the power fails under load", how=CUT.format("an ext4"), shows=SAFE)
@pytest.mark.parametrize("synced", [True, False], ids=["synced", "unsynced"])
def test_at_random(tmp_path: Path, tally, synced: bool) -> None:
    _at_random(tmp_path, tally, scale(2, 120), "ext4", synced=synced, ledger=True)


@fault("Power loss", "the power fails under load", how=CUT.format("an XFS"), shows=SAFE)
def test_at_random_on_xfs(tmp_path: Path, tally) -> None:
    _at_random(tmp_path, tally, scale(2, 60), "xfs", synced=False, ledger=True)


@fault(
    "Power loss", "only the disk of the inboxes stops", how=CUT.format("an ext4"), shows="what the ledger says is there"
)
def test_with_the_ledger_elsewhere(tmp_path: Path, tally) -> None:
    """Every commit survives, as on another machine: each must be true of the disk, and no sync of the ledger helps."""
    _at_random(tmp_path, tally, scale(2, 120), "ext4", synced=False, ledger=False)


# At the failpoints

_IN_RECOVERY = sorted(name for name in STEPS if name.startswith("recover."))
_ELSEWHERE = ("recover.", "retry.", "prune.", "poll.", "fetch.", "ack.", "send.", "rebuild.")
#: By this load.
_UNREACHED = {
    "decide.kept", "files.abandon", "files.find", "files.lose", "files.release", "files.reopen", "files.retry",
}  # fmt: skip
_IN_FLOW = sorted(
    {name for name in STEPS if not name.startswith(_ELSEWHERE)}.union(
        name for name in ARROWS if name.startswith("files.")
    ) - _UNREACHED
)  # fmt: skip
_TWIN = "ok-twin.dat"


def _all_sorts(site: Site) -> None:
    """Something for every step, synced: whatever happens, none of it may be missing."""
    site.put(
        [*files(6), (b"reject-1.dat", b"r"), (b"fail-1-x.dat", b"f"), (b"results-1.dat", b"s"), (b"ok-twin.dat", b"1")]
    )
    os.symlink("/etc/hostname", site.root() / "inbound" / "a-link")
    os.sync()


def _until_its_death(machine: Machine, failpoint: str, *, twin: bool = True) -> bool:
    """A life until the failpoint, and the cut at once; False when it was not passed before all was done.

    `twin`: another file comes under a name that was there already.
    """
    site = machine.site
    with machine.life({"INBOXD_FAILPOINT": f"{failpoint}"}, ready=False) as daemon:
        if twin:
            wait_until(lambda: _is_dead(daemon) or _TWIN not in site.listed("inbound"), "room for another of its name")
            if _TWIN not in site.listed("inbound"):
                site.drop(_TWIN, b"2", synced=True)
        wait_until(lambda: _is_dead(daemon) or _all_is_done(site), f"its death at {failpoint}", 40)
        died = _is_dead(daemon)
        machine.cut(daemon)
    machine.reckon(synced=True)
    assert_sound(site)
    return died


def _is_dead(daemon: Daemon) -> bool:
    return daemon.process.poll() is not None


def _all_is_done(site: Site) -> bool:
    return site.finished() >= 11 and not site.listed("work")


@fault(
    "Power loss", "the power fails at an arrow of a file's way", how="SIGKILL at each failpoint, and an ext4 that is shut down",
    shows=SAFE,
)  # fmt: skip
@pytest.mark.parametrize("ledger", [True, False], ids=["ledger with it", "ledger elsewhere"])
def test_at_each_failpoint(tmp_path: Path, tally, ledger: bool) -> None:
    """In CI at some of them, others each time. Without the ledger's own syncs those of the files have to do."""
    passes = [f"{name}:kill@{number}" for number in (1, 2) for name in _IN_FLOW]
    for number, failpoint in enumerate(random.sample(passes, scale(1, len(passes)))):
        with _machine(tmp_path / str(number)) as machine:
            if failpoint.startswith("copy."):
                machine.site.inbox("main", retry=_RETRY, claim="copy")
            if not ledger:
                machine.site.write(state="state")
            (machine.site.root() / "inbound").mkdir(parents=True)
            _all_sorts(machine.site)
            died = _until_its_death(machine, failpoint)
            assert died or failpoint.endswith("@2"), f"it never came to {failpoint}"
            _finish(machine)
        tally()


@fault(
    "Power loss", "the power fails during recovery, twice", how="SIGKILL at each failpoint, and an ext4 that is shut down",
    shows=SAFE,
)  # fmt: skip
def test_in_recovery(tmp_path: Path, tally) -> None:
    first = cycle(["claim.renamed", "dispatch.recorded", "decide.recorded", "deliver.renamed"])
    rounds = [*islice(zip(first, cycle(_IN_RECOVERY), strict=False), 24)]
    for number, (begin, then) in enumerate(random.sample(rounds, scale(1, len(rounds)))):
        with _machine(tmp_path / str(number)) as machine:
            (machine.site.root() / "inbound").mkdir(parents=True)
            _all_sorts(machine.site)
            for life, failpoint in enumerate((f"{begin}:kill", f"{then}:kill", f"{then}:kill")):
                assert _until_its_death(machine, failpoint, twin=not life), f"it never came to {failpoint}"
            _finish(machine)
        tally()


# What `durability: process` comes to, and that a loss is seen


@fault(
    "Power loss", "the power fails with `durability: process`", how=CUT.format("an ext4"),
    shows="it starts and ends all it finds; of what was synced by its uploader no byte is lost; the ledger is whole, and behind",
)  # fmt: skip
def test_without_syncs(tmp_path: Path, tally) -> None:
    dice = random.Random()
    for number in range(scale(1, 40)):
        with _machine(tmp_path / str(number), durability="process") as machine:
            site, items = machine.site, _load(number)
            with machine.life() as daemon:
                end = time.monotonic() + dice.uniform(0.0, 2 * _LONGEST)
                while time.monotonic() < end:
                    site.drop(*next(items), synced=True)
                machine.cut(daemon)
            with machine.life() as daemon:
                wait_until(lambda site=site: not (site.listed("inbound") or _held(site)), "the end of all", 60)
                assert daemon.stop() == 0
            found = violations(site.config, Evidence(manifest=site.manifest, witness=site.witnessed()))
            behind = [one for one in found if one.startswith(("I3: no row knows", "I5: ")) or one.endswith(" was lost")]
            assert found == behind
        tally()


def _held(site: Site) -> bool:
    return any(not name.startswith("results/") for name in site.listed("work"))


def test_that_a_loss_is_seen(tmp_path: Path) -> None:
    """The same harness, where nothing is synced: it must miss what is gone.

    Unless somebody else on this machine has called sync(2), which reaches all disks: so it has three tries.
    """
    assert any(_a_loss_is_seen(tmp_path / str(number)) for number in range(3))


def _a_loss_is_seen(base: Path) -> bool:
    with _machine(base, durability="process") as machine:
        with machine.life() as daemon:
            machine.site.drop_all(files(20))
            wait_finished(machine.site, 20)
            machine.cut(daemon)
        machine.reckon(synced=False)
        found = violations(machine.site.config, Evidence(manifest=machine.site.manifest))
    return any(one.startswith("I7: ") and one.endswith("is nowhere") for one in found)


# What others were told


@fault(
    "Power loss", "the power fails while items come from a source and results go to a destination", how=CUT.format("an ext4"),
    shows="what a source was told is safe; each result arrives, whole",
)  # fmt: skip
def test_with_a_source_and_a_destination(tmp_path: Path, tally) -> None:
    dice = random.Random()
    rounds = scale(2, 60)
    for first in range(0, rounds, _LIVES):
        with _machine(tmp_path / str(first)) as machine, Partner() as partner, Customer() as customer:
            sources = {NAME: source(partner, parallel=2)}
            machine.site.inbox("main", retry=_RETRY, sources=sources, destinations={"customer": destination(customer)})
            for life in range(first, min(first + _LIVES, rounds)):
                with machine.life(ready=bool(life % 3)) as daemon:
                    offer(partner, 15, seed=life, prefix=f"results-{life}")
                    time.sleep(dice.uniform(0.0, 2 * _LONGEST))
                    machine.cut(daemon)
                assert_sound(
                    machine.site, offered=offered(partner), acked=_acked(partner), received=_received(customer)
                )
                tally()
            with machine.life() as daemon:
                wait_states(machine.site, timeout=60, ACKED=len(partner.offers))
                wait_finished(machine.site, len(partner.offers), timeout=60)
                wait_sent(machine.site, timeout=60, SENT=2 * len(partner.offers))
                assert daemon.stop() == 0
            assert_sound(
                machine.site,
                offered=offered(partner),
                acked=_acked(partner),
                received=_received(customer),
                finished=True,
            )


def _acked(partner: Partner) -> frozenset[tuple[str, str]]:
    return frozenset((NAME, item) for item in partner.acked())


def _received(customer: Customer) -> frozenset[tuple[str, str, int]]:
    return frozenset((got.key, got.name, got.size) for got in customer.had())
