"""Pages on a terminal, through rich: tables, bars, colours."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

from rich import text
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table as Drawn

from inboxd.cli.layout import GAP, Column, fit, fit_rows, shorten
from inboxd.cli.page import NOTHING, Bar, Cell, Page, Table, Text, Tone

_STYLES: dict[Tone, str] = {
    "": "", "title": "bold", "good": "green", "warn": "yellow", "bad": "bold red", "dim": "dim",
}  # fmt: skip
_BAR, _PERCENT = 24, 7  # cells of a bar, and of the number behind it
_FAIR, _LEAST = 24, 8  # cells of text that may be folded or shortened
_NOTHING = {"-", "0", "0.0"}


def draw(page: Page) -> None:
    """Print it."""
    _console().print(_drawn(page), crop=False)


def watch(look: Callable[[], Page], every: float) -> NoReturn:
    """Show what `look` gives, anew every so many seconds, until it raises or is interrupted."""
    console = _console()

    def seen() -> RenderableType:
        return _drawn(fit_rows(look(), console.height, lambda page: len(console.render_lines(_drawn(page)))))

    with Live(seen(), console=console, auto_refresh=False) as live:
        while True:
            time.sleep(every)
            live.update(seen(), refresh=True)


@contextlib.contextmanager
def canvas() -> Iterator[Callable[[Page], None]]:
    """A page that is shown anew whenever another is given; the last one stays."""
    with Live(console=_console(), auto_refresh=False) as live:
        yield lambda page: live.update(_drawn(page), refresh=True)


def _console() -> Console:
    return Console(highlight=False, markup=False, emoji=False)


def _drawn(page: Page) -> RenderableType:
    return Group(*(_Fitted(part) if isinstance(part, Table) else _text(part) for part in page))


class _Fitted:
    """A table, drawn for the room that there is."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        table = self._table
        widths = fit([_column(table, number) for number in range(len(table.heads))], options.max_width)
        drawn = Drawn(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")
        for head, width in zip(table.heads, widths, strict=True):
            if width:
                drawn.add_column(
                    head,
                    justify="right" if head in table.right else "left",
                    no_wrap=head in table.whole,
                    min_width=width if head in table.whole | table.right else None,
                    max_width=width,
                    overflow="fold",
                )
        for row in table.rows:
            cells = zip(table.heads, row, widths, strict=True)
            drawn.add_row(*(_cell(cell, width, cut=head in table.cut) for head, cell, width in cells if width))
        yield drawn


def _column(table: Table, number: int) -> Column:
    """What it needs, and whether it can be spared."""
    head, cells = table.heads[number], [row[number] for row in table.rows]
    longest = max((_size(cell) for cell in cells), default=0)
    width = max(cell_len(head), longest)
    spare = table.spare.index(head) if head in table.spare else None
    if head in table.right:
        if spare is None and NOTHING in table.spare and all(str(cell) in _NOTHING for cell in cells):
            spare = table.spare.index(NOTHING)
        least = max(longest, *map(cell_len, head.split()))
        return Column(width, width, least, spare)
    if head in table.whole:
        return Column(width, width, width, spare)
    if any(isinstance(cell, Bar) for cell in cells):
        least = max(cell_len(head), _PERCENT)
        return Column(width, least, least, spare)
    return Column(width, min(width, _FAIR), min(width, max(_LEAST, *map(cell_len, head.split()))), spare)


def _size(cell: Cell) -> int:
    return _BAR + 1 + _PERCENT if isinstance(cell, Bar) and cell.total else cell_len(str(cell))


def _cell(cell: Cell, width: int, *, cut: bool) -> RenderableType:
    if not isinstance(cell, Bar):
        shown = cell if isinstance(cell, Text) else Text(str(cell))
        return text.Text(shorten(str(shown), width, cell_len) if cut else str(shown), style=_STYLES[shown.tone])
    bar = width - _PERCENT - 1
    if not cell.total or bar <= 0:
        return text.Text(str(cell))
    grid = Drawn.grid(padding=(0, 1, 0, 0))
    grid.add_row(ProgressBar(total=cell.total, completed=cell.done, width=bar), text.Text(str(cell).rjust(_PERCENT)))
    return grid


def _text(part: Text) -> text.Text:
    return text.Text(str(part), style=_STYLES[part.tone], overflow="fold")
