"""tune."""

from __future__ import annotations

import os
import signal
import sys
from argparse import Namespace
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict

from pydantic import ValidationError

from inboxd.cli.output import give, remark
from inboxd.cli.page import Bar, Page, Table, Text, amount
from inboxd.cli.repairing import refuse_others
from inboxd.cli.screen import canvas
from inboxd.clock import SystemClock
from inboxd.config.load import load
from inboxd.config.models import Config, Workers
from inboxd.errors import UsageError
from inboxd.tune.plan import Figures, Run, Setting, Wishes, best, grid, lines, needs, rounds
from inboxd.tune.trial import Trials


def tune(options: Namespace) -> None:
    """Try settings, show how they do, and say which to take."""
    config = load(options.config)
    if config.state.exists():  # the handler's files, too, must be those of the user who runs it at other times
        refuse_others(config, f"tune {options.samples}")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))  # so that all is ended and removed
    inbox = _inbox(config, options.inbox)
    _refuse_large("processes", options.processes)
    _refuse_large("batch_size", options.batch_sizes)
    present = Setting(config.workers.count, config.workers.batch_size, config.durability)
    durabilities = {"both": ("full", "process"), None: ()}.get(options.durability, (options.durability,))
    settings = grid(present, _cores(), Wishes(options.processes, options.batch_sizes, durabilities), options.files)
    runs: dict[Setting, list[Run]] = {setting: [] for setting in settings}
    with Trials(config, inbox, options.samples, options.files, SystemClock()) as trials, _canvas(options) as show:
        for count, setting in enumerate(rounds(settings, options.rounds), 1):
            show(_page(runs, present, options))
            runs[setting].append(trials.run(setting))
            if not _is_drawn(options):
                _tell(f"trial {count} of {len(runs) * options.rounds}", setting, runs[setting][-1])
        show(_page(runs, present, options))
    figures = {setting: Figures.of(some) for setting, some in runs.items()}
    working = {setting: found for setting, found in figures.items() if found.errors < options.files}
    chosen = best(working, present.durability, present)
    answer = {
        "inbox": inbox, "files": options.files, "present": asdict(present),
        "recommended": asdict(chosen) if chosen else None,
        "gain": figures[chosen].rate / figures[present].rate if chosen and present in working else None,
        "tried": [{**asdict(setting), **asdict(found)} for setting, found in figures.items()],
    }  # fmt: skip
    told = [] if _is_drawn(options) else _page(runs, present, options)
    give(options, answer, [*told, *_advice(figures, working, present, chosen, options.files)])


def _tell(which: str, setting: Setting, run: Run) -> None:
    """A line for each trial, where nobody sees the table grow."""
    tried = f"processes {setting.processes}, batch_size {setting.batch_size}, durability {setting.durability}"
    remark(f"{which}: {tried}: " + (f"{run.rate:,.0f} files/s" if run.rate else "given up, it kills its workers"))


def _inbox(config: Config, name: str | None) -> str:
    if name is None and len(config.inboxes) == 1:
        return next(iter(config.inboxes))
    known = ", ".join(config.inboxes)
    if name is None:
        raise UsageError("there are several inboxes", hint=f"say `--inbox` with one of {known}")
    if name not in config.inboxes:
        raise UsageError(f"there is no inbox {name}", hint=f"the configuration has {known}")
    return name


def _refuse_large(key: str, numbers: Sequence[int]) -> None:
    """What the configuration would refuse is not to be recommended."""
    for number in numbers:
        try:
            Workers.model_validate({key: number})
        except ValidationError as error:
            most = error.errors()[0]["ctx"]["le"]
            raise UsageError(f"no configuration takes {number} as `{key}`", hint=f"{most} at most") from None


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _is_drawn(options: Namespace) -> bool:
    return sys.stdout.isatty() and not options.json


def _canvas(options: Namespace) -> AbstractContextManager[Callable[[Page], None]]:
    if not _is_drawn(options):
        return nullcontext(lambda _page: None)
    return canvas()


def _page(runs: Mapping[Setting, Sequence[Run]], present: Setting, options: Namespace) -> Page:
    found = {setting: Figures.of(some) for setting, some in runs.items() if some}
    most = max((figures.rate for figures in found.values()), default=0.0)
    done, wanted = sum(map(len, runs.values())), len(runs) * options.rounds
    rows = [
        (
            Text(str(setting.processes)), Text(str(setting.batch_size)),
            Text(setting.durability + (" (now)" if setting == present else "")),
            *_cells(found.get(setting), most),
        )
        for setting in runs
    ]  # fmt: skip
    heads = ("processes", "batch_size", "durability", "files/s", "of the fastest", "memory", "errors")
    table = Table(heads, rows, right=frozenset({"processes", "batch_size", "files/s", "memory", "errors"}))
    return [Text(f"{done} of {wanted} trials, {options.files} files each", "title"), table]


def _cells(figures: Figures | None, most: float) -> tuple[Text | Bar, ...]:
    if figures is None:
        return (Text("-"), Text("-"), Text("-"), Text("-"))
    bar = Bar(round(figures.rate * 1000), round(most * 1000))
    errors = Text(str(figures.errors), "bad" if figures.errors else "")
    return (Text(f"{figures.rate:,.0f}"), bar, Text(amount(figures.memory)), errors)


def _advice(
    figures: Mapping[Setting, Figures],
    working: Mapping[Setting, Figures],
    present: Setting,
    chosen: Setting | None,
    files: int,
) -> Page:
    """`working`: those with which not all files ended in errors/."""
    if chosen is None:
        return [Text(f"nothing is recommended: {_fault(figures.values())}; try `inboxd run` with one of them", "bad")]
    if chosen == present:
        told: Page = [Text("nothing that was tried is better than what the configuration says", "good")]
    elif present in working:
        gain = figures[chosen].rate / figures[present].rate
        told = [Text(f"recommended, at {gain:.2f} times the present rate:", "good"), *map(Text, lines(chosen))]
    else:
        now = f"with what the configuration says {_fault([figures[present]])}"
        told = [Text(now, "bad"), Text("recommended:", "good"), *map(Text, lines(chosen))]
    for durability in sorted({setting.durability for setting in figures} - {present.durability}):
        if other := best(working, durability):
            more = figures[other].rate / figures[chosen].rate
            told.append(
                Text(f"with durability {durability} it would be {more:.2f} times that (processes {other.processes}, "
                     f"batch_size {other.batch_size}); docs/guarantees.md says what it gives up or gains")
            )  # fmt: skip
    needed = max(map(needs, figures))
    if needed > files:
        told.append(Text(f"too few files to compare all of these by: say --files {needed}", "warn"))
    if any(not found.rate for setting, found in figures.items() if setting != present):
        told.append(Text("a setting with 0 files/s kills its workers, as for want of memory", "warn"))
    if any(found.errors for found in figures.values() if found.rate):
        told.append(
            Text("some files ended in errors/: what is measured is your handler on files that it refuses", "warn")
        )
    return told


def _fault(figures: Collection[Figures]) -> str:
    """Why none of these works."""
    killing = [found for found in figures if not found.rate]
    if not killing:
        return "all files ended in errors/"
    return "workers are killed, as for want of memory" + (
        ", or all files ended in errors/" if len(killing) < len(figures) else ""
    )
