"""Destinations and results for them as pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from inboxd.cli.page import NOTHING, Page, Table, Text, when, worth

Row = dict[str, Any]

_TONES = {"ABANDONED": "bad", "DUE": "warn"}


def destinations(rows: Sequence[Row]) -> Page:
    """Each of them: what waits for it, what keeps it."""
    if not rows:
        return []
    numbers = ("to send", "sending", "given up")
    cells = [
        (
            row["destination"], row["inbox"] or "-", row["address"] or "-", row["due"], row["sending"],
            Text(str(row["abandoned"]), "bad" if row["abandoned"] else ""),
            Text(row["condition"], "bad" if row["rests"] else ""),
        )
        for row in rows
    ]  # fmt: skip
    heads = ("destination", "inbox", "address", *numbers, "condition")
    worths = [worth(troubled=row["rests"] or row["abandoned"], busy=row["due"] or row["sending"]) for row in rows]
    cut, spare = frozenset({"destination", "inbox", "address"}), ("address", NOTHING, "inbox")
    return [Text(""), Table(heads, cells, frozenset(numbers), cut=cut, spare=spare, worth=worths)]


def results(sends: Sequence[Row]) -> Page:
    """What became of a file's results."""
    return [_result(send) for send in sends]


def _result(send: Row) -> Text:
    what = f"result {send['name']} for {send['destination']}"
    if send["state"] == "SENT":
        return Text(f"{what}: sent {when(send['ended_at'])}")
    if send["state"] == "DROPPED":
        return Text(f"{what}: dropped {when(send['ended_at'])}, not sent")
    message = f" ({send['message']})" if send["message"] else ""
    if send["state"] == "ABANDONED":
        return Text(f"{what}: given up in attempt {send['attempts']}{message}", "bad")
    return Text(f"{what}: to be sent{message}", "warn")


def sent(answer: Row) -> Page:
    """What was started, or let be."""
    name = answer["destination"]
    page: Page = [Text(f"destination {name}: {_due(name, answer['due'])}")]
    if answer["hurried"]:
        page.append(Text(f"due at once, instead of later: {answer['hurried']}"))
    if answer["renewed"]:
        page.append(Text(f"to be sent after all: {', '.join(answer['renewed'])}"))
    if answer["dropped"]:
        page.append(Text(f"not to be sent: {', '.join(answer['dropped'])}"))
    if answer["abandoned"]:
        page.append(Text(f"given up: {answer['abandoned']}; `inboxd send {name} --again` tries them again", "warn"))
    return page + [Text(f"refused: {word}: {why}", "bad") for word, why in answer["refused"].items()]


def _due(name: str, count: int) -> str:
    if not count:
        return "nothing waits for it"
    what = "1 result is" if count == 1 else f"{count} results are"
    return f"{what} due now; `inboxd explain {name}` tells what becomes of them"


def examined(row: Row) -> Page:
    """Whether a destination can be reached."""
    where = f"destination {row['destination']} at {row['address']}"
    if row["problem"]:
        return [Text(f"{where}: {row['problem']}", "bad")]
    return [Text(f"{where} answers in {row['seconds']:.2f} s: {row['found']}", "good")]
