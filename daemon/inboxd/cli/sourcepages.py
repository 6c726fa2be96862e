"""Sources and their items as pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from inboxd.cli.page import BUSY, NOTHING, Bar, Page, Table, Text, amount, span, when, worth

Row = dict[str, Any]


def sources(rows: Sequence[Row]) -> Page:
    """Each of them: when it is asked, what is on its way, what keeps it."""
    if not rows:
        return []
    numbers = ("listed", "new", "to fetch", "fetching", "held", "to ack", "given up")
    heads = ("source", "inbox", "address", "next poll", "last poll", *numbers, "condition")
    cells = [
        (
            row["source"], row["inbox"], row["address"], _next(row), when(row["polled_at"]), _count(row["listed"]),
            _count(row["new"] if row["polled_at"] else None), row["discovered"], row["fetching"], row["held"],
            row["ack_due"], Text(str(row["abandoned"]), "bad" if row["abandoned"] else ""), _condition(row),
        )
        for row in rows
    ]  # fmt: skip
    spare = ("address", "last poll", NOTHING, "next poll", "inbox")
    worths = [worth(troubled=row["rests"] or row["abandoned"], busy=row["condition"] != "waits") for row in rows]
    cut, whole = frozenset({"source", "inbox", "address"}), frozenset({"last poll"})
    return [Text(""), Table(heads, cells, frozenset({"next poll", *numbers}), whole, cut, spare, worths)]


def _next(row: Row) -> str:
    return "now" if row["next_poll"] == 0.0 else span(row["next_poll"])


def _count(number: int | None) -> str:
    return "-" if number is None else str(number)


def _condition(row: Row) -> Text:
    return Text(row["condition"], "bad" if row["rests"] else "")


def downloads(rows: Sequence[Row]) -> Page:
    """Items in progress."""
    if not rows:
        return []
    heads = ("source", "file", "for", "here", "of", "progress", "per second", "time left")
    cells = [
        (
            row["source"], row["file"], span(row["since"]), amount(row["bytes"]), amount(row["size"]),
            Bar(min(row["bytes"], row["size"] or 0), row["size"] or 0),
            amount(None if row["rate"] is None else int(row["rate"])), span(row["eta"]),
        )
        for row in rows
    ]  # fmt: skip
    numbers = frozenset({"for", "here", "of", "per second", "time left"})
    spare = ("for", "of", "per second", NOTHING)
    cut = frozenset({"source", "file"})
    return [Text(""), Table(heads, cells, numbers, cut=cut, spare=spare, worth=[BUSY] * len(rows))]


def item(row: Row | None) -> Page:
    """What a file's source calls it, and whether it knows that we have it."""
    if row is None:
        return []
    version = f", version {row['version']}" if row["version"] else ""
    message = f": {row['message']}" if row["message"] else ""
    return [
        Text(f"item: {row['item']} of source {row['source']}{version}"),
        Text(f"acknowledgement: {_ack(row)}{message}", "warn" if row["failures"] else ""),
    ]


def _ack(row: Row) -> str:
    if row["state"] == "ACKED":
        return f"made {when(row['acked_at'])}" if row["ack"] else "none is wanted"
    return "due" if row["state"] == "ACK_DUE" else "waits until the file is processed"


def polled(answer: Row) -> Page:
    """What was started."""
    name = answer["source"]
    page: Page = [
        Text(f"{name} is being polled; another poll follows" if answer["under_way"] else f"{name} is polled now")
    ]
    if answer["hurried"]:
        page.append(Text(f"due at once, instead of later: {answer['hurried']}"))
    if answer["renewed"]:
        page.append(Text(f"to be fetched after all: {', '.join(answer['renewed'])}"))
    if answer["full"]:
        page.append(Text(f"nothing is fetched now: {answer['full']}", "warn"))
    return page + [Text(f"refused: {word}: {why}", "bad") for word, why in answer["refused"].items()]


def examined(row: Row) -> Page:
    """What a source has, or why it can't be told."""
    where = f"source {row['source']} at {row['address']}"
    if row["problem"]:
        return [Text(f"{where}: {row['problem']}", "bad")]
    twice = ", once two listings show them alike" if row["twice"] else ""
    known = ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in sorted(row["known"].items()))
    reasons = [f"{one['name']} ({one['why']})" for one in row["reasons"]]
    lines = [
        Text(f"{where} answers in {row['seconds']:.2f} s; items listed: {row['items']}", "good"),
        Text(f"  would be fetched{twice}: {_some(row['fresh'], row['names'])}"),
        Text(f"  left alone: {_some(row['left_out'], reasons)}") if row["left_out"] else None,
        Text(f"  known already: {known}") if known else None,
        Text(f"  can't be used, for their ids, versions, sizes or URLs: {row['skipped']}", "warn")
        if row["skipped"]
        else None,
        Text("  the listing is cut off at `max_items`", "warn") if row["cut"] else None,
    ]
    return [line for line in lines if line is not None]


def _some(count: int, named: Sequence[str]) -> str:
    """The first of them by name."""
    return f"{count}: {', '.join(named)}{', …' if count > len(named) else ''}" if count else "nothing"


def expected(answer: Row) -> Page:
    """What has to arrive, and whether it has."""
    whose = [(f"inbox {row['inbox']}", row["expected"]) for row in answer["inboxes"]]
    whose += [(f"source {row['source']}", row["expected"]) for row in answer["sources"]]
    lines = [_expected(name, row) for name, row in whose if row is not None]
    return [Text(""), *lines] if lines else []


def _expected(name: str, row: Row) -> Text:
    what = f"{name}: expected {row['at_least']} {row['when']}"
    here = "here" if row["found"] >= row["at_least"] else f"{row['found']} so far"
    return Text(f"{what}: missing, {here}", "bad") if row["missing"] else Text(f"{what}: {here}")
