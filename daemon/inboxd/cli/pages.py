"""The daemon's answers as pages: which columns, which words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

from inboxd.cli import sendpages, sourcepages
from inboxd.cli.page import NOTHING, Bar, Cell, Page, Table, Text, Tone, amount, span, when, worth

Row = dict[str, Any]

_LONG = 60.0  # seconds of waiting that are worth a word
_ALIKE = 20  # problems of a kind that are shown
_KIND = re.compile(r"I\d+:(?: [a-z]+\b)*")  # an invariant, and the words before the first name, place or number
_STATES: dict[str, Tone] = {"RUNNING": "good", "DEGRADED": "bad", "DRAINING": "warn"}
_OUTCOMES: dict[str, Tone] = {"error": "bad", "quarantine": "warn", "lost": "bad", "waiting": "warn"}


def status(answer: Row) -> Page:
    """All of it: the daemon, how far each inbox is, what lies where, who does what."""
    used = answer["resources"]
    first = (
        f"inboxd {answer['version']}: {answer['state']}, pid {answer['pid']}, up {span(answer['uptime'])}; "
        f"durability {answer['durability']}, ledger {answer['ledger']}"
    )
    second = (
        f"{amount(used['rss'])} of memory, {used['cpu']:.0f} % CPU, {used['open_files']} open files, "
        f"{used['threads']} threads, {amount(used['disk_free'])} free for its state; {answer['config']}"
    )
    reasons = [Text(f"degraded: {reason}", "bad") for reason in answer["degraded"]]
    page: Page = [Text(first, _STATES.get(answer["state"], "title")), Text(second, "dim"), *reasons]
    page += [Text(""), _progress(answer["inboxes"]), Text(""), _inboxes(answer["inboxes"])]
    partners = sourcepages.sources(answer["sources"]) + sourcepages.downloads(answer["downloads"])
    partners += sendpages.destinations(answer["destinations"])
    return [*page, *partners, *sourcepages.expected(answer), *_workers(answer)]


def _progress(inboxes: Sequence[Row]) -> Table:
    heads = ("inbox", "files", "progress", "files/s", "time left")
    rows = [
        (row["inbox"], _share(row), Bar(row["done"], row["total"]), f"{row['rate']:.1f}", _left(row)) for row in inboxes
    ]
    numbers = frozenset({"files", "files/s", "time left"})
    worths = [worth(troubled=False, busy=row["done"] < row["total"]) for row in inboxes]
    return Table(heads, rows, numbers, cut=frozenset({"inbox"}), spare=(NOTHING, "files/s"), worth=worths)


def _share(row: Row) -> str:
    return f"{row['done']:,} of {row['total']:,}" if row["total"] else "-"


def _left(row: Row) -> str:
    """Unknown while nothing moves; nothing at all when nothing waits."""
    if row["done"] >= row["total"] or row["paused"]:
        return "-"
    return span(row["eta"]) if row["eta"] is not None else "unknown"


def _inboxes(inboxes: Sequence[Row]) -> Table:
    numbers = ("waiting", "in batches", "retrying", "processed", "errors", "quarantined")
    rows = [
        (
            row["inbox"], row["backlog"] + row["claimed"], row["running"], row["waiting"], row["processed"],
            Text(str(row["errors"]), "bad" if row["errors"] else ""), row["quarantined"], _condition(row),
        )
        for row in inboxes
    ]  # fmt: skip
    return Table(
        ("inbox", *numbers, "condition"), rows, frozenset(numbers), cut=frozenset({"inbox"}), spare=(NOTHING,),
        worth=[_worth(row) for row in inboxes],
    )  # fmt: skip


def _worth(row: Row) -> int:
    troubled = row["paused"] or row.get("space") or row["condition"].startswith("away")
    busy = [row[key] for key in ("backlog", "claimed", "running", "waiting", "errors", "quarantined")]
    return worth(troubled=troubled, busy=any(busy))


def _condition(row: Row) -> Text:
    oldest = f"; the oldest has waited {span(row['oldest'])}" if (row["oldest"] or 0.0) >= _LONG else ""
    if row["paused"]:
        return Text(f"paused: {row['paused']}{oldest}", "warn")
    if row.get("space"):
        return Text(f"nothing is claimed: {row['space']}{oldest}", "bad")
    return Text(row["condition"] + oldest, "bad" if row["condition"].startswith("away") else "")


def _workers(answer: Row) -> Page:
    if not answer["workers"]:
        return []
    heads = ("worker", "pid", "state", "for", "inbox", "file", "files", "memory", "CPU", "restarts")
    rows = [
        (
            str(row["slot"]), str(row["pid"] or "-"), row["state"].lower(), span(row["since"]), row["inbox"] or "-",
            row["file"] or "-", row["files"], amount(row["rss"]), f"{row['cpu']:.0f} %",
            Text(str(row["restarts"]), "warn" if row["restarts"] else ""),
        )
        for row in answer["workers"]
    ]  # fmt: skip
    numbers = frozenset({"pid", "for", "files", "memory", "CPU", "restarts"})
    spare = ("CPU", "memory", NOTHING, "files", "for", "pid")
    worths = [
        worth(troubled=row["state"] not in ("IDLE", "BUSY"), busy=row["state"] == "BUSY") for row in answer["workers"]
    ]
    cut = frozenset({"inbox", "file"})
    return [Text(""), Table(heads, rows, numbers, frozenset({"worker", "state"}), cut, spare, worths)]


def files(answer: Row) -> Page:
    """A list, the newest first."""
    heads = ("id", "claimed", "size", "state", "inbox", "file")
    rows = [
        (row["id"], when(row["claimed_at"]), amount(row["size"]), _state(row), row["inbox"], row["file"])
        for row in answer["files"]
    ]
    whole, cut = frozenset({"id", "claimed", "state"}), frozenset({"inbox", "file"})
    return [Table(heads, rows, frozenset({"size"}), whole, cut, spare=("size", "claimed"))]


def _state(row: Row) -> Text:
    """Where it has ended, or where it is on its way; and why, where that says more."""
    word = row["outcome"] if row["state"] == "DONE" and row["outcome"] else row["state"].lower()
    why = f": {row['reason']}" if row["reason"] and row["reason"] != word else ""
    return Text(word + why, _OUTCOMES.get(word, ""))


def story(answer: Row) -> Page:
    """One file, from its claim to its end."""
    page: Page = [Text(f"{answer['inbox']}: {answer['file']}", "title"), Text(f"id {answer['id']}", "dim"), Text("")]
    for at, lines in sorted(_chapters(answer), key=lambda chapter: chapter[0]):
        page += [Text(f"{when(at)}  {lines[0].raw}", lines[0].tone), *lines[1:]]
    result = json.dumps(answer["result"], ensure_ascii=False) if answer["result"] else None
    shown = {**answer, "result": result}
    facts = [(key, shown.get(key)) for key in ("state", "outcome", "message", "result", "sha256", "path")]
    page += [Text(""), *(Text(f"{key}: {value}") for key, value in facts if value)]
    return [*page, *sourcepages.item(answer["item"]), *sendpages.results(answer["sends"])]


def _chapters(answer: Row) -> Iterator[tuple[float, list[Text]]]:
    source = f", from source {answer['source']}" if answer["source"] else ""
    yield answer["claimed_at"], [Text(f"claimed, {amount(answer['size'])}{source}")]
    for failure, following in zip_longest(answer["history"], answer["history"][1:]):
        yield failure["at"], _failure(failure)
        if _began_anew(failure, following, answer):
            yield failure["at"], [Text("later: to run again from the beginning, as an operator asked", "dim")]
    if answer["state"] == "RUNNING":
        yield answer["started_at"] or 0.0, [Text(f"attempt {answer['attempts']} is running", "good")]
    elif answer["state"] == "WAITING":
        yield answer["not_before"], [Text(f"attempt {answer['attempts'] + 1} is due", "warn")]
    elif answer["finished_at"]:
        yield answer["finished_at"], [_end(answer)]


def _began_anew(failure: Row, following: Row | None, answer: Row) -> bool:
    """Its attempts were counted from the beginning after this failure: that follows from nothing but a retry."""
    if not failure["charged"]:  # it may have the same number once more
        return False
    if following is not None:
        return bool(following["attempt"] <= failure["attempt"])
    runs_later = answer["state"] == "RUNNING" or answer["outcome"] == "processed"  # counted, and no failure
    return bool(answer["attempts"] < failure["attempt"] + runs_later)


def _failure(failure: Row) -> list[Text]:
    name, what = failure["error_class"], failure["message"]
    what = what if what.startswith(name) else ": ".join(filter(None, (name, what)))
    span_told = f" after {failure['seconds']:.3f} s" if failure["seconds"] else ""
    told = f"attempt {failure['attempt']} {failure['ending']}{span_told}"
    first = Text(f"{told}: {what}" if what else told, "bad")
    return [first, *(Text(f"    {line}", "dim") for line in failure["detail"].splitlines())]


def _end(answer: Row) -> Text:
    if answer["state"] == "LOST":
        return _state(answer)
    word = answer["outcome"] or answer["state"].lower()
    where = f", as {answer['destination']}" if answer["destination"] else ""
    reason = f": {answer['reason']}" if answer["reason"] and answer["reason"] != word else ""
    started = answer["attempts"] and answer["started_at"]  # that of a former life if it has not run since
    took = f", after a run of {max(0.0, answer['finished_at'] - started):.3f} s" if started else ""
    return Text(f"{word}{reason}{where}{took}", _OUTCOMES.get(word, "good"))


def explanation(answer: Row) -> Page:
    """The reasons, and what the ledger knows."""
    page: Page = [Text(sentence) for sentence in answer["why"]]
    return [*page, Text(""), *files({"files": [answer["file"]]})] if answer["file"] else page


def retried(answer: Row) -> Page:
    """Who runs again, and who can't."""
    return [Text(f"to run again: {_many(len(answer['retried']), 'file')}"), *_refused(answer)]


def forgotten(answer: Row) -> Page:
    """What is no longer known, and what stays."""
    return [Text(f"forgotten: {_many(len(answer['forgotten']), 'error')}"), *_refused(answer)]


def _refused(answer: Row) -> Page:
    refused = answer["refused"].items()
    return [Text(f"refused: {why if id in why else f'{id}: {why}'}", "bad") for id, why in refused]


def pruned(answer: Row, dry_run: bool) -> Page:
    """How much went."""
    rows: list[list[Cell]] = [[inbox, row["processed"], row["errors"]] for inbox, row in answer["removed"].items()]
    title = "would be removed" if dry_run else "removed"
    table = Table(("inbox", "processed", "errors"), rows, frozenset({"processed", "errors"}))
    return [Text(title, "title"), table, *_refused(answer)]


def findings(answer: Row) -> Page:
    """What the doctor found."""
    problems: Page = [Text(problem, "bad") for problem in _first_of_each_kind(answer["problems"])]
    seen = [line for row in answer["sources"] for line in sourcepages.examined(row)]
    seen += [line for row in answer["destinations"] for line in sendpages.examined(row)]
    seen += (
        [Text(f"repaired: {', '.join(f'{count:,} {what}' for what, count in answer['repaired'].items()) or 'nothing'}")]
        if "repaired" in answer
        else []
    )
    if answer.get("in_progress"):
        sooner = "" if "repaired" in answer else "; what is decided of them, `inboxd doctor --repair` delivers before"
        seen.append(
            Text(f"in progress: {_many(answer['in_progress'], 'file')}, which the next start goes on with{sooner}")
        )
    count = _many(len(answer["problems"]), "problem")
    return [*problems, *seen, Text(f"checked {', '.join(answer['checked'])}: {count}", "dim")]


def _first_of_each_kind(problems: Sequence[str]) -> Iterator[str]:
    """Of many alike some, and how many more there are; what speaks of no invariant is of its own kind."""
    kinds: dict[str, list[str]] = {}
    for problem in problems:
        known = _KIND.match(problem)
        kinds.setdefault(known[0] if known else problem, []).append(problem)
    for kind, alike in kinds.items():
        yield from alike[:_ALIKE]
        if len(alike) > _ALIKE:
            yield f"{kind.partition(':')[0]}: … and {len(alike) - _ALIKE:,} more like it; --json names all"


def _many(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"
