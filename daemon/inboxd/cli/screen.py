"""Pages on a terminal, through rich: tables, bars, colours."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

from rich import text
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table as Drawn

from inboxd.cli.page import Bar, Cell, Page, Table, Text, Tone

_STYLES: dict[Tone, str] = {
    "": "", "title": "bold", "good": "green", "warn": "yellow", "bad": "bold red", "dim": "dim",
}  # fmt: skip
_BAR = 24  # columns
_NARROW = 10  # columns; text that may be folded is never narrower


def draw(page: Page) -> None:
    """Print it."""
    _console().print(_drawn(page), crop=False)


def watch(look: Callable[[], Page], every: float) -> NoReturn:
    """Show what `look` gives, anew every so many seconds, until it raises or is interrupted."""
    with Live(_drawn(look()), console=_console(), auto_refresh=False) as live:
        while True:
            time.sleep(every)
            live.update(_drawn(look()), refresh=True)


@contextlib.contextmanager
def canvas() -> Iterator[Callable[[Page], None]]:
    """A page that is shown anew whenever another is given; the last one stays."""
    with Live(console=_console(), auto_refresh=False) as live:
        yield lambda page: live.update(_drawn(page), refresh=True)


def _console() -> Console:
    return Console(highlight=False, markup=False, emoji=False)


def _drawn(page: Page) -> RenderableType:
    return Group(*(_table(part) if isinstance(part, Table) else _text(part) for part in page))


def _table(table: Table) -> Drawn:
    drawn = Drawn(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for number, head in enumerate(table.heads):
        longest = max((len(str(row[number])) for row in table.rows), default=0)
        whole = head in table.whole | table.right
        least = max(len(head), longest if whole else min(longest, _NARROW))
        drawn.add_column(
            head, justify="right" if head in table.right else "left", no_wrap=whole, min_width=least, overflow="fold"
        )
    for row in table.rows:
        drawn.add_row(*map(_cell, row))
    return drawn


def _cell(cell: Cell) -> RenderableType:
    if not isinstance(cell, Bar):
        return _text(cell if isinstance(cell, Text) else Text(str(cell)))
    if not cell.total:
        return text.Text("-")
    grid = Drawn.grid(padding=(0, 1))
    grid.add_row(ProgressBar(total=cell.total, completed=cell.done, width=_BAR), text.Text(str(cell).rjust(7)))
    return grid


def _text(part: Text) -> text.Text:
    return text.Text(str(part), style=_STYLES[part.tone], overflow="fold")
