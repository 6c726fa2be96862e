"""What must hold of the items of sources, checked from outside; a part of I4, I8, I9 and I10.

An item is a row (source, item, version) whose `id` is that of the file it becomes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inboxd.checker.facts import Entry, Facts

Row = dict[str, Any]

WITH_SOURCE = {"DISCOVERED", "FETCHING"}  # its bytes, if there are any, lie in incoming/
WITH_US = {"HELD", "ACK_DUE", "ACKED"}  # its file has a row, and was accepted
STATES = WITH_SOURCE | WITH_US | {"ABANDONED"}
ACKS = ("", "held", "processed")


def leftovers(facts: Facts) -> Iterator[str]:
    """Of I4: what lies in incoming/ belongs to an item that is on its way, or is a listing, going on or cut off."""
    listings = facts.evidence.daemon is not None or not facts.evidence.finished
    awaited = {item["id"] for item in facts.items if item["state"] in WITH_SOURCE}
    for entry in facts.of_kind("incoming"):
        if not (_is_part_of(entry, awaited) or (entry.relative.endswith(".listing") and listings)):
            yield f"left in incoming/: {entry.path}"


def _is_part_of(entry: Entry, awaited: set[str]) -> bool:
    name = entry.relative.removesuffix(".from")
    return name.endswith(".part") and name.removesuffix(".part") in awaited


def early_acks(facts: Facts) -> Iterator[str]:
    """Of I8: no item is acknowledged, or about to be, before its file is accepted; or processed, where it waits."""
    files = facts.by_id
    for item in facts.items:
        file = files.get(item["id"])
        if item["state"] in WITH_US and file is None and not _may_be_pruned(facts, item):
            yield f"{tell(item)} has no file"
        if item["state"] in WITH_US and file is not None:
            yield from (f"{tell(item)}: {fault}" for fault in _unsafe(item, file))
    heard = Counter((item["source"], item["item"]) for item in facts.items if item["state"] in ("ACK_DUE", "ACKED"))
    for source, name in facts.evidence.acked or ():
        if not heard[source, name]:
            yield f"{source} was told of {name!r}, and nothing here is owed to it or told"


def _unsafe(item: Row, file: Row) -> Iterator[str]:
    if file["state"] in ("CLAIMING", "ABANDONED"):
        yield f"its file is {file['state']}"
    if (file["source"], file["inbox"]) != (item["source"], item["inbox"]):
        yield f"its file is of source {file['source']!r}, inbox {file['inbox']!r}"
    told = item["ack"] == "processed" and item["state"] in ("ACK_DUE", "ACKED")
    if told and (file["state"], file["outcome"]) != ("DONE", "processed"):
        yield f"its file is {file['state']}, {file['outcome']}, and its source is told of its success"
    if item["state"] == "HELD" and item["ack"] != "processed":
        yield f"it is kept from its source, which wants to hear when it is {item['ack']!r}"


def _may_be_pruned(facts: Facts, item: Row) -> bool:
    rules = facts.inboxes.get(item["inbox"])
    return (rules is None or not rules.keeps) and item["state"] in ("ACK_DUE", "ACKED")


def unknown_files(facts: Facts) -> Iterator[str]:
    """Of I8: a file that came from a source is one of its items."""
    states = {item["id"]: item["state"] for item in facts.items}
    for row in facts.rows:
        if not row.get("source") or row["state"] == "ABANDONED":
            continue
        wanted = {"FETCHING"} if row["state"] == "CLAIMING" else WITH_US
        if states.get(row["id"]) not in wanted:
            yield f"{row['id']} ({row['state']}) came from {row['source']!r}; its item is {states.get(row['id'])}"


def missing_acks(facts: Facts) -> Iterator[str]:
    """Of I9: when all had time to finish, each item that we have is acknowledged, and none is under way."""
    if not facts.evidence.finished:
        return
    for item in facts.items:
        file = facts.by_id.get(item["id"], {})
        waits = item["state"] == "HELD" and (file.get("state"), file.get("outcome")) == ("DONE", "error")
        if item["state"] not in ("ACKED", "ABANDONED") and not waits:
            yield f"{tell(item)} has not come to an end"
        told = facts.evidence.acked is None or (item["source"], item["item"]) in facts.evidence.acked
        if item["state"] == "ACKED" and item["ack"] and not told:
            yield f"{tell(item)}: its source has never heard of it"


def illegal(item: Row) -> Iterator[str]:
    """Of I10: what no way of an item leads to."""
    if item["state"] not in STATES:
        yield "no such state"
    if item["ack"] not in ACKS:
        yield f"no such acknowledgement: {item['ack']!r}"
    if (item["state"] in WITH_US) != (item["fetched_at"] is not None):
        yield f"fetched at {item['fetched_at']}"
    if (item["state"] == "ACKED") != (item["acked_at"] is not None):
        yield f"acknowledged at {item['acked_at']}"
    begun = item["state"] == "FETCHING" or (item["state"] == "ACKED" and item["ack"])
    if begun and item["attempts"] < 1:
        yield "no attempt is counted"


def tell(item: Row) -> str:
    """An item, for people."""
    return f"{item['id']} ({item['source']}: {item['item']!r}, {item['state']}, attempt {item['attempts']})"
