"""One simulation from a schedule: lives of the daemon, one after the other, until all has come to its end."""

from __future__ import annotations

import stat
import traceback
from dataclasses import dataclass

from inboxd.errors import InboxdError, LedgerConflict, LedgerRefused
from inboxd.model import RESULTS
from inboxd.wire import Mark
from simulation.daemon import Life, configuration
from simulation.handler import Handler
from simulation.judge import Judge
from simulation.ledger import Shelf
from simulation.patches import simulated
from simulation.schedule import Schedule
from simulation.uploader import ROOT, Uploader
from simulation.world import Death, Violation, World
from support.invariants import KINDS

_PATIENCE = 500  # turns within which all must have ended, when nothing strikes any more
_SPELL = 100  # turns after which a fault that nothing has met is over
_STARTS = 400  # at most, of one simulation
_LONGEST = 20.0  # seconds that pass at once


@dataclass(frozen=True, slots=True)
class Told:
    """What a simulation came to."""

    steps: int
    lives: int
    files: int
    violation: str
    history: list[str]


class Simulation:
    """Made for one run."""

    def __init__(self, schedule: Schedule, *, verbose: bool = False) -> None:
        self.world = World(schedule)
        self._config = configuration(schedule.settle, schedule.durability, schedule.duplicates, schedule.claim)
        self.world.verbose = verbose
        self.shelf = Shelf(self.world)
        self.handler = Handler(self.world)
        self.uploader = Uploader(self.world)
        self.judge = Judge(self.world, self.shelf, self.uploader, self.handler, {"max_attempts": 10, "max_failures": 3})
        self.life: Life | None = None
        self.lives = 0
        self._marks: list[Mark] | None = []  # None: the machine was off
        self.world.acts = {
            "drop": self.uploader.drop, "meddle": self.uploader.meddle, "away": self.uploader.away,
            "worker": self._hurt_worker, "operate": self._operate, "committed": lambda _arg: self._committed(),
        }  # fmt: skip
        self._make_folders()

    def _make_folders(self) -> None:
        tree = self.world.tree
        for path in ("/site", "/site/state", ROOT, *(f"{ROOT}/{kind}" for kind in KINDS), f"{ROOT}/work/{RESULTS}"):
            folder, name = tree.place(path)
            tree.make(folder, name, stat.S_IFDIR | 0o755, 0)
        tree.sync_all()
        for number in range(self.world.schedule.files):
            self.uploader.drop(self.world.chance.randrange(1 << 16) + number)

    def run(self) -> Told:
        """Until the end, or a violation."""
        violation = ""
        try:
            with simulated(self.world):
                while not self._live():
                    pass
        except Violation as found:
            violation = str(found)
        finally:
            self.shelf.remove()
        world = self.world
        return Told(world.steps, self.lives, len(self.handler.accepted), violation, world.history)

    def _live(self) -> bool:
        """One life of the daemon; True when all has ended."""
        self.lives += 1
        if self.lives > _STARTS:
            raise Violation(f"started {_STARTS} times, and not all has ended")
        self.world.note(f"--- start {self.lives}")
        try:
            self.life = Life(self.world, self._config, self.shelf, self.handler, self._marks)
            self.world.note(f"recovered: {dict(self.life.summary)}")
            if not self.uploader.is_away:
                self.judge.look(finished=False)
            self.life.begin()
            return self._turn_until_the_end(self.life)
        except Death as death:
            self._bury(power=death.power)
        except (Violation, LedgerRefused):
            raise
        except (OSError, InboxdError) as error:
            if not self.world.disturbed or isinstance(error, LedgerConflict):
                raise Violation(f"nothing was wrong, and the daemon ends by {_told(error)}") from error
            self.world.note(f"the daemon ends: {error!r}".replace(str(self.shelf.path), "its ledger"))
            self._bury(power=False)
        except Exception as error:
            raise Violation(f"the daemon ends by {_told(error)}") from error
        return False

    def _bury(self, *, power: bool) -> None:
        """The process is gone. What its workers, the disk and the ledger keep is what the next one finds."""
        if self.life is not None:
            self._marks = self.life.pool.outlive(power=power)
        self.life = None
        self.world.revive()
        self.world.clock.now += 1.0
        self.shelf.die(power=power)
        if power:
            self.world.tree.cut_power(self.world.chance)
            self.uploader.look(self.judge.accepted)
        self.uploader.back()  # else the daemon would make another one

    def _turn_until_the_end(self, life: Life) -> bool:
        world, left, turns = self.world, _PATIENCE, 0
        while left:
            turns += 1
            if turns % _SPELL == 0:
                world.heal()
            if world.calm:
                self._calm_down(life)
                left -= 1
            pause = life.pipeline.turn()
            life.pool.work(world.chance.randint(0, 6))
            world.clock.now += 0.001
            if not life.pool.busy and (pause is None or pause > 0):
                if world.calm and not self._unfinished(life):
                    break
                world.clock.now += min(pause if pause is not None else _LONGEST, _LONGEST)
        if not left:
            raise Violation(f"after {_PATIENCE} calm turns it is not finished: {self._why(life)}")
        self.uploader.back()  # what was moved away in the last turn
        self.judge.look(finished=True)
        life.stop()
        return True

    def _calm_down(self, life: Life) -> None:
        self.uploader.back()
        if life.lane.paused is not None:
            life.lane.resume()

    def _unfinished(self, life: Life) -> bool:
        inbound = any(True for _ in self.world.tree.below(f"{ROOT}/inbound"))
        held = life.ledger.counts().get("main")
        return bool(inbound or held or life.pipeline.outages.reasons())

    def _why(self, life: Life) -> str:
        waits = [path for path, _inode in self.world.tree.below(f"{ROOT}/inbound")]
        return (
            f"inbound: {waits}; rows: {life.ledger.counts()}; {life.pipeline.outages.reasons()} {life.lane.condition}"
        )

    # What the schedule asks for

    def _committed(self) -> None:
        self.shelf.committed()
        self.judge.committed()

    def _hurt_worker(self, arg: int) -> None:
        if self.life is not None:
            self.life.pool.kill_one(arg)

    def _operate(self, arg: int) -> None:
        """Asked between two turns."""
        life = self.life
        if life is None or not hasattr(life, "pipeline"):
            return
        if arg % 4 == 0:
            life.pipeline.ask(lambda: life.lane.pause("an operator"))
        elif arg % 4 == 1:
            life.pipeline.ask(life.lane.resume)
        else:
            life.pipeline.ask(lambda: self._retry(life, arg // 4))

    def _retry(self, life: Life, arg: int) -> None:
        errors = self.shelf.rows("SELECT id FROM files WHERE outcome = 'error' AND state = 'DONE' ORDER BY id")
        if errors:
            file_id = errors[arg % len(errors)]["id"]
            self.world.note(f"an operator retries {file_id[-8:]}")
            life.retry(file_id)


def _told(error: Exception) -> str:
    return "".join(traceback.format_exception(error))
