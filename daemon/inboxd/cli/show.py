"""How answers look: tables and bars on a terminal, plain aligned text in a pipe. Every name is made harmless."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from io import StringIO
from typing import Any

from inboxd.config.units import show_size
from inboxd.escape import escape
from inboxd.progress import show_span

Row = dict[str, Any]


def table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Aligned columns; drawn with lines on a terminal."""
    cells = [[escape(str(cell)) for cell in row] for row in rows]
    if sys.stdout.isatty():
        return _drawn(heads, cells)
    widths = [max(len(line[column]) for line in [list(heads), *cells]) for column in range(len(heads))]
    lines = [
        "  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)) for line in [list(heads), *cells]
    ]
    return "\n".join(line.rstrip() for line in lines)


def _drawn(heads: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(*heads)
    for row in cells:
        drawn.add_row(*(Text(cell) for cell in row))
    out = StringIO()
    Console(file=out, force_terminal=True).print(drawn)
    return out.getvalue().rstrip("\n")


def when(seconds: float | None) -> str:
    """Local time, to the second."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) if seconds else "-"


def status(answer: Row) -> str:
    """All of it, as text."""
    first = f"inboxd {answer['version']} (pid {answer['pid']}) {answer['state']}, up {show_span(answer['uptime'])}, "
    first += f"durability {answer['durability']}, ledger {answer['ledger']}, {show_size(answer['resources']['rss'])}"
    lines = [first, *(f"degraded: {escape(reason)}" for reason in answer["degraded"])]
    heads = (
        "inbox",
        "waiting",
        "running",
        "retrying",
        "processed",
        "errors",
        "quarantine",
        "progress",
        "condition",
    )
    lines.append(table(heads, [_inbox(inbox) for inbox in answer["inboxes"]]))
    workers = [
        (
            worker["slot"],
            worker["pid"] or "-",
            worker["state"],
            worker["inbox"] or "-",
            worker["file_id"] or "-",
            show_size(worker["rss"]),
        )
        for worker in answer["workers"]
    ]
    lines.append(table(("worker", "pid", "state", "inbox", "file", "memory"), workers))
    return "\n".join(lines)


def _inbox(inbox: Row) -> tuple[Any, ...]:
    condition = f"paused: {inbox['paused']}" if inbox["paused"] else inbox["space"] or inbox["condition"]
    return (
        inbox["inbox"], inbox["backlog"] + inbox["claimed"], inbox["running"], inbox["waiting"], inbox["processed"],
        inbox["errors"], inbox["quarantined"], _progress(inbox), condition,
    )  # fmt: skip


def _progress(inbox: Row) -> str:
    if not inbox["total"]:
        return "-"
    left = f", {show_span(inbox['eta'])} left" if inbox["eta"] else ""
    return f"{inbox['done']}/{inbox['total']} {inbox['percent']:.0f} % {inbox['rate']:.0f}/s{left}"


def watch(look: Callable[[], Row]) -> None:
    """A bar per inbox, until interrupted."""
    from rich.console import Group
    from rich.live import Live
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.text import Text

    bars = Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f} of {task.total:.0f}"),
        TextColumn("{task.percentage:.1f} %"), TextColumn("{task.fields[more]}"),
    )  # fmt: skip
    tasks: dict[str, Any] = {}
    with Live(refresh_per_second=4) as live:
        while True:
            answer = look()
            for inbox in answer["inboxes"]:
                if inbox["inbox"] not in tasks:
                    tasks[inbox["inbox"]] = bars.add_task(escape(inbox["inbox"]), total=1, more="")
                eta = f", {show_span(inbox['eta'])} left" if inbox["eta"] else ""
                more = f"{inbox['rate']:.0f} files/s{eta}, {inbox['errors']} errors"
                done, total = (inbox["done"], inbox["total"]) if inbox["total"] else (1, 1)
                bars.update(tasks[inbox["inbox"]], completed=done, total=total, more=more)
            live.update(Group(bars, Text.from_ansi(status(answer))))
            time.sleep(1)


def files(rows: Sequence[Row]) -> str:
    """A list of files."""
    heads = ("id", "inbox", "file", "state", "outcome", "attempts", "size", "claimed", "reason")
    return table(heads, [
        (
            row["id"], row["inbox"], row["file"], row["state"], row["outcome"] or "-", row["attempts"],
            show_size(row["size"]), when(row["claimed_at"]), row["reason"] or "",
        )
        for row in rows
    ])  # fmt: skip


def story(answer: Row) -> str:
    """One file from its claim to its end."""
    lines = [
        f"{answer['id']}  {answer['inbox']}/{answer['file']}",
        f"{when(answer['claimed_at'])}  claimed, {show_size(answer['size'])}",
    ]
    for failure in answer["history"]:
        ending = f"{failure['ending']} after {failure['seconds']:.3f} s: {failure['message']}"
        lines.append(f"{when(failure['at'])}  attempt {failure['attempt']} {ending}")
        lines += [f"    | {line}" for line in failure["detail"].splitlines()]
    if answer["finished_at"]:
        lines.append(f"{when(answer['finished_at'])}  {answer['outcome'] or answer['state']}: {answer['reason']}")
    elif answer["state"] == "WAITING":
        lines.append(f"{when(answer['not_before'])}  will run again")
    lines += [f"{key}: {answer[key]}" for key in ("state", "message", "result", "sha256", "path") if answer.get(key)]
    return "\n".join(escape(line) for line in lines)
