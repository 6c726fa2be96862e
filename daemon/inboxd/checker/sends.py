"""What must hold of results that destinations are to have, checked from outside.

A send is a row (file_id, destination, name); until it has come to an end its result lies in work/results/<file_id>/.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inboxd.checker.facts import Facts

Row = dict[str, Any]

OPEN = {"DUE", "ABANDONED"}
STATES = OPEN | {"SENT", "DROPPED"}


def kept(facts: Facts) -> set[str]:
    """Files whose results have to stay in work/; or may, as long as there was no time to bring them away."""
    return {send["file_id"] for send in facts.sends if send["state"] in OPEN or not facts.evidence.finished}


def missing_results(facts: Facts) -> Iterator[str]:
    """Of I7: what is still to be sent is here, whole."""
    sizes = {(entry.inbox, entry.relative): entry.status.st_size for entry in facts.of_kind("work")}
    for send in facts.sends:
        size = sizes.get((send["inbox"], f"results/{send['file_id']}/{send['name']}"))
        if send["state"] in OPEN and size != send["size"] and not facts.evidence.results_lost:
            yield f"{tell(send)}: of {send['size']} bytes, {size} lie in work/"


def unheard(facts: Facts) -> Iterator[str]:
    """Of I9: what counts as sent was received, with the bytes that the handler left; and at the end all is sent."""
    for send in facts.sends:
        if facts.evidence.finished and send["state"] == "DUE":
            yield f"{tell(send)} is still to be sent"
        if facts.evidence.received is not None and send["state"] == "SENT":
            heard = {size for key, name, size in facts.evidence.received if (key, name) == (send["id"], send["name"])}
            if heard != {send["size"]}:
                yield f"{tell(send)}: its destination has received {heard or 'nothing'} of it"


def unasked(facts: Facts) -> Iterator[str]:
    """Of I8: nothing is sent that no row knows, nor before its file is decided."""
    known = {send["id"] for send in facts.sends}
    for key, name, _size in facts.evidence.received or ():
        if key not in known:
            yield f"{name!r} was sent as {key}, which no row knows"
    for send in facts.sends:
        file = facts.by_id.get(send["file_id"])
        if file is not None and (file["outcome"], file["state"] in ("DECIDED", "DONE")) != ("processed", True):
            yield f"{tell(send)}: its file is {file['state']}, {file['outcome']}"


def illegal(facts: Facts) -> Iterator[str]:
    """Of I10: what no way of a send leads to."""
    for send in facts.sends:
        if send["state"] not in STATES:
            yield f"{tell(send)}: no such state"
        if (send["state"] in OPEN) != (send["ended_at"] is None) or (send["state"] in OPEN) != bool(send["open"]):
            yield f"{tell(send)}: ended at {send['ended_at']}, open {send['open']}"
        if send["state"] in ("SENT", "ABANDONED") and send["attempts"] < 1:
            yield f"{tell(send)}: no attempt is counted"
    for key, count in Counter(send["id"] for send in facts.sends).items():
        if count > 1:
            yield f"{count} sends have the id {key}"


def tell(send: Row) -> str:
    """A send, for people."""
    return f"result {os.fsencode(send['name'])!r} for {send['destination']} ({send['id']}, {send['state']})"
