"""A daemon that only answers: the real control server, and an operator who knows a few files by heart."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from inboxd.control import SOCKET, Server
from inboxd.errors import ConfigError, UsageError

HOSTILE = "ev\x1b]0;owned\x07il\n\udcff\u202e.csv"
ID = "01a20a5172737753878492203e6560fd"
COMMANDS = ("run", "check", "tune", "schema", "init", "status", "files", "show", "explain", "retry", "forget", "pause", "resume", "poll", "send",
            "drain", "reload", "prune", "doctor")  # fmt: skip


def row(**values: Any) -> dict[str, Any]:
    """A file as the daemon tells of it; delivered if nothing else is said."""
    usual = {
        "id": ID, "inbox": "orders", "file": f"north/{HOSTILE}", "name": HOSTILE, "state": "DONE", "outcome": "error",
        "reason": "too many failures", "message": "no \x1b[31mcolour", "attempts": 2, "failures": 2, "size": 1536,
        "claimed_at": 1795469437.0, "started_at": 1795469441.0, "finished_at": 1795469442.0, "not_before": 0.0,
        "destination": f"2026-11-23/{HOSTILE}", "sha256": "ab" * 32, "result": None, "source": None,
    }  # fmt: skip
    return {**usual, **values}


def failure(attempt: int, **values: Any) -> dict[str, Any]:
    """An attempt that failed."""
    usual = {
        "attempt": attempt, "at": 1795469438.0 + attempt, "seconds": 0.25, "ending": "failed",
        "error_class": "KeyError", "message": HOSTILE, "detail": f"Traceback\n  at \x1b[2J {HOSTILE}", "charged": True,
    }  # fmt: skip
    return {**usual, **values}


def inbox(**values: Any) -> dict[str, Any]:
    """An inbox, half done."""
    usual = {
        "inbox": "orders", "condition": "events", "paused": None, "space": None, "backlog": 40, "claimed": 8,
        "running": 2, "waiting": 1, "processed": 1050, "errors": 3, "quarantined": 1, "bytes": 4096, "rate": 12.5,
        "eta": 75.0, "done": 49, "total": 98, "percent": 50.0, "oldest": 130.0, "disk_free": 1 << 40,
        "expected": None,
    }  # fmt: skip
    return {**usual, **values}


def expected(**values: Any) -> dict[str, Any]:
    """Two files that have to come, and have not."""
    usual = {"at_least": 2, "by": 1795469400.0, "when": "by 06:30 on Mon 2026-11-23 (Europe/Berlin)", "found": 1,
             "missing": True}  # fmt: skip
    return {**usual, **values}


def source(**values: Any) -> dict[str, Any]:
    """A source in the middle of a fetch."""
    usual = {
        "source": "partner", "inbox": "orders", "kind": "http", "address": "https://partner.example/api/outbox",
        "condition": "fetching 1", "rests": False, "next_poll": 42.0, "polled_at": 1795469437.0, "listed": 120, "new": 7,
        "discovered": 5, "fetching": 1, "held": 3, "ack_due": 2, "abandoned": 1,
        "expected": expected(),
    }  # fmt: skip
    return {**usual, **values}


def download(**values: Any) -> dict[str, Any]:
    """A quarter of it is here."""
    usual = {
        "source": "partner", "inbox": "orders", "file_id": ID, "file": HOSTILE, "since": 61.0, "bytes": 1 << 30,
        "size": 4 << 30, "rate": 12.0 * (1 << 20), "percent": 25.0, "eta": 256.0,
    }  # fmt: skip
    return {**usual, **values}


def item(**values: Any) -> dict[str, Any]:
    """An item whose file is processed, and whose source does not know it yet."""
    usual = {
        "source": "partner", "item": HOSTILE, "version": "v1", "id": ID, "state": "ACK_DUE", "name": HOSTILE,
        "size": 1536, "ack": "processed", "attempts": 1, "failures": 2, "not_before": 1795469500.0,
        "message": HOSTILE, "discovered_at": 1795469430.0, "fetched_at": 1795469437.0, "acked_at": None,
    }  # fmt: skip
    return {**usual, **values}


def examined(**values: Any) -> dict[str, Any]:
    """What the doctor found at a source."""
    usual = {
        "source": "partner", "inbox": "orders", "kind": "sftp", "address": "sftp://partner.example:22/out",
        "seconds": 0.5, "problem": None, "items": 13, "skipped": 1, "cut": True, "twice": True, "fresh": 7,
        "names": [HOSTILE, "b", "c", "d", "e"], "left_out": 2, "known": {"acked": 3, "ack_due": 1},
        "reasons": [{"name": HOSTILE, "why": "too odd"}, {"name": "x", "why": "ignored"}],
    }  # fmt: skip
    return {**usual, **values}


def destination(**values: Any) -> dict[str, Any]:
    """It is away, and has refused a result."""
    usual = {
        "destination": "customer", "inbox": "orders", "kind": "http", "address": "https://customer.example/in",
        "condition": HOSTILE, "rests": True, "sending": 0, "due": 3, "abandoned": 1,
    }  # fmt: skip
    return {**usual, **values}


def send(**values: Any) -> dict[str, Any]:
    """A result that waits for another try."""
    usual = {
        "id": "0199" + "0" * 28, "file_id": ID, "destination": "customer", "name": HOSTILE, "inbox": "orders",
        "size": 1536, "state": "DUE", "attempts": 2, "failures": 1, "not_before": 1795469500.0, "message": HOSTILE,
        "due_at": 1795469437.0, "ended_at": None,
    }  # fmt: skip
    return {**usual, **values}


def looked_at(**values: Any) -> dict[str, Any]:
    """What the doctor found at a destination."""
    usual = {
        "destination": "customer", "inbox": "orders", "kind": "sftp", "address": "sftp://customer.example:22/in",
        "seconds": 0.5, "problem": None, "found": HOSTILE,
    }  # fmt: skip
    return {**usual, **values}


def status(*inboxes: dict[str, Any], **values: Any) -> dict[str, Any]:
    """The whole, with two workers."""
    worker = {"slot": 0, "pid": 4711, "state": "BUSY", "inbox": "orders", "batch": "b1", "file": HOSTILE,
              "file_id": ID, "since": 4.2, "files": 17, "rss": 20 << 20, "cpu": 97.0, "restarts": 1}  # fmt: skip
    idle = {**worker, "slot": 1, "pid": None, "state": "BACKOFF", "inbox": None, "batch": None, "file": None,
            "file_id": None, "since": None}  # fmt: skip
    usual = {
        "version": "0.1.0", "pid": 4242, "config": "/etc/inboxd/config.yaml", "state": "RUNNING", "degraded": [],
        "since": 1795460000.0, "uptime": 7325.0, "durability": "full", "ledger": "sqlite",
        "inboxes": list(inboxes or [inbox()]), "sources": [source()], "downloads": [download()],
        "destinations": [destination()],
        "workers": [worker, idle],
        "resources": {"rss": 50 << 20, "cpu": 1.5, "open_files": 27, "threads": 7, "disk_free": 1 << 40},
    }  # fmt: skip
    return {**usual, **values}


class Answering:
    """Notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def _note(self, verb: str, **arguments: Any) -> None:
        self.asked.append((verb, {name: value for name, value in arguments.items() if value is not None}))

    def status(self) -> dict[str, Any]:
        self._note("status")
        return status()

    def files(
        self, inbox: str | None = None, state: str | None = None, outcome: str | None = None,
        since: float | None = None, limit: int = 100, before: str | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """There are 2,500 of them, named by their number."""
        self._note("files", inbox=inbox, state=state, outcome=outcome, since=since, limit=limit, before=before)
        first = int(before) - 1 if before else 2500
        return {"files": [row(id=f"{number:032}") for number in range(first, max(0, first - limit), -1)]}

    def show(self, id: str) -> dict[str, Any]:
        self._note("show", id=id)
        if not ID.startswith(id):
            raise UsageError(f"no file has the id {id!r}", hint="`inboxd files` lists them")
        return {
            **row(),
            "history": [failure(1), failure(2)],
            "path": f"/srv/errors/{HOSTILE}",
            "item": None,
            "sends": [],
        }

    def explain(self, path: str, name: str | None = None) -> dict[str, Any]:
        self._note("explain", path=path, name=name)
        why, file = [f"{HOSTILE} is growing"], row(state="WAITING")
        return {"path": path, "inbox": "orders", "why": why, "file": file, "items": [], "sends": []}

    def retry(
        self, ids: Any = None, errors: bool = False, inbox: str | None = None, since: float | None = None
    ) -> dict[str, Any]:
        self._note("retry", ids=ids, errors=errors, inbox=inbox, since=since)
        wanted = ids or [ID]
        return {"retried": [one for one in wanted if one == ID],
                "refused": {one: "it is not in errors/" for one in wanted if one != ID}}  # fmt: skip

    def forget(self, ids: Any) -> dict[str, Any]:
        self._note("forget", ids=ids)
        return {"forgotten": [one for one in ids if one == ID],
                "refused": {one: "its file is there" for one in ids if one != ID}}  # fmt: skip

    def pause(self, inbox: str) -> dict[str, Any]:
        self._note("pause", inbox=inbox)
        return {"inbox": inbox, "paused": "an operator said so"}

    def resume(self, inbox: str) -> dict[str, Any]:
        self._note("resume", inbox=inbox)
        raise ZeroDivisionError("a fault")

    def poll(self, source: str, again: bool = False, items: Any = None) -> dict[str, Any]:
        self._note("poll", source=source, again=again, items=items)
        refused = {one: "it was not given up" for one in items or [] if one != HOSTILE}
        return {"source": source, "inbox": "orders", "under_way": False, "hurried": 3, "full": "inbox orders is paused",
                "renewed": [HOSTILE] if again else [], "refused": refused}  # fmt: skip

    def send(self, destination: str, again: bool = False, drop: bool = False, results: Any = None) -> dict[str, Any]:
        self._note("send", destination=destination, again=again, drop=drop, results=results)
        refused = {one: "it was not given up" for one in results or [] if one != HOSTILE}
        chosen = [HOSTILE] if again or drop else []
        return {
            "destination": destination, "condition": "waits", "hurried": 1, "due": 3, "abandoned": 1,
            "renewed": chosen if again else [],
            "dropped": chosen if drop else [], "refused": refused,
        }  # fmt: skip

    def drain(self) -> dict[str, Any]:
        self._note("drain")
        return {"draining": True}

    def reload(self) -> dict[str, Any]:
        self._note("reload")
        raise ConfigError(["config.yaml:3: stat: unknown key", "config.yaml:9: rescan: no duration"])

    def prune(self, dry_run: bool = False) -> dict[str, Any]:
        self._note("prune", dry_run=dry_run)
        removed = {"orders": {"processed": 12, "errors": 0}}
        kept = {"0" * 31 + "7": f"/srv/{HOSTILE}: Operation not permitted"}
        return {"removed": removed, "refused": {} if dry_run else kept}

    def doctor(self, source: str | None = None) -> dict[str, Any]:
        self._note("doctor", source=source)
        if source is not None:
            return {"problems": [], "checked": [f"source {source}"], "sources": [examined()], "destinations": []}
        return {
            "problems": [f"{HOSTILE} has no row"],
            "checked": ["ledger", "inbox orders"],
            "sources": [],
            "destinations": [],
        }


@contextlib.contextmanager
def answering(folder: Path, operator: Any = None, owner: int | None = None) -> Iterator[Any]:
    """The operator, asked through the socket in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    operator = operator or Answering()
    server = Server(folder / SOCKET, operator, owner=owner)
    server.start()
    try:
        yield operator
    finally:
        server.stop()
