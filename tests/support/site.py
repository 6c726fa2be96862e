"""A place to run inboxd at: a folder with config.yaml, the witness beside it, and inboxes to drop files into."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from inboxd.checker.__main__ import read_witness
from inboxd.checker.facts import entries_below
from support.load import Dropped, Item, dropped

_SUPPORT = Path(__file__).parent
_UNFINISHED = b".upload-"


def is_unfinished(name: str) -> bool:
    """What `drop` calls a file until it is complete."""
    return os.fsencode(name).startswith(_UNFINISHED)


class Site:
    """Everything a user sees of one installation. Nothing here knows how inboxd works inside."""

    def __init__(self, base: Path, home: Path | None = None, **settings: Any) -> None:
        """`settings` go to the top of config.yaml; one inbox, "main", with the witness as its handler.

        `home`: where state and inboxes are, if not beside the configuration, the witness and the daemon's log.
        """
        base.mkdir(parents=True, exist_ok=True)
        self.base = base
        self.home = home or base
        self.config = base / "config.yaml"
        self.manifest: list[Dropped] = []
        shutil.copy(_SUPPORT / "witness.py", base / "witness.py")
        self.settings: dict[str, Any] = {
            "state": os.path.relpath(self.home / "state", base),
            "durability": "process",
            "workers": {"processes": 2, "batch_size": 20},
            "min_free_space": "1MiB",
            "stop_grace": "5s",
            "inboxes": {},
            **settings,
        }
        self.inbox("main")

    def inbox(self, name: str, **rules: Any) -> None:
        """Add or replace an inbox; the witness handles it, files are taken as soon as they are renamed in."""
        self.settings["inboxes"][name] = {
            "root": os.path.relpath(self.root(name), self.base),
            "settle": "renamed",
            "layout": "",
            "handler": {"python": "witness:handle"},
            "retry": {"first": "10ms", "longest": "100ms"},
            **rules,
        }
        self.write()

    def write(self, **settings: Any) -> None:
        """Write config.yaml, with these settings changed."""
        self.settings.update(settings)
        self.config.write_text(yaml.safe_dump(self.settings, sort_keys=False), encoding="utf-8")

    def workers(self, **values: Any) -> None:
        """Change settings of the pool."""
        self.write(workers={**self.settings["workers"], **values})

    def root(self, inbox: str = "main") -> Path:
        return self.home / "inboxes" / inbox

    @property
    def state(self) -> Path:
        return self.base / str(self.settings["state"])

    def drop(
        self, name: str | bytes, content: bytes = b"", *, inbox: str = "main", folder: str = "", synced: bool = False
    ) -> Dropped:
        """Upload as a good uploader does: under a temporary name, then renamed; noted in the manifest.

        `synced`: as the best one does, so that a power cut does not undo it.
        """
        raw = os.fsencode(name)
        target = os.path.join(os.fsencode(self.root(inbox) / "inbound"), os.fsencode(folder))
        os.makedirs(target, exist_ok=True)
        temporary = os.path.join(target, _UNFINISHED + b"%d.part" % len(self.manifest))
        with open(temporary, "wb") as stream:
            stream.write(content)
            if synced:
                stream.flush()
                os.fsync(stream.fileno())
        os.rename(temporary, os.path.join(target, raw))
        if synced:
            _sync_folder(target)
        entry = dropped(inbox, raw, content, folder)
        self.manifest.append(entry)
        return entry

    def drop_all(self, items: Iterable[Item], inbox: str = "main") -> list[Dropped]:
        """Drop each of them."""
        return [self.drop(name, content, inbox=inbox) for name, content in items]

    def put(self, items: Iterable[Item], inbox: str = "main") -> list[Dropped]:
        """Move in many that were written elsewhere: a backlog, also for a daemon that runs."""
        inbound = os.fsencode(self.root(inbox) / "inbound")
        elsewhere = os.fsencode(self.root(inbox) / "to-be-moved-in")
        for folder in (inbound, elsewhere):
            os.makedirs(folder, exist_ok=True)
        entries = []
        for name, content in items:
            with open(os.path.join(elsewhere, name), "wb") as stream:
                stream.write(content)
            entries.append(dropped(inbox, name, content))
        for name in os.listdir(elsewhere):
            os.rename(os.path.join(elsewhere, name), os.path.join(inbound, name))
        os.rmdir(elsewhere)
        self.manifest += entries
        return entries

    def listed(self, which: str, inbox: str = "main") -> list[str]:
        """Names below inbound, work, processed, errors, quarantine or outbound, sorted; sidecars left out."""
        return sorted(name for name in entries_below(self.root(inbox) / which) if not self._is_sidecar(which, name))

    @staticmethod
    def _is_sidecar(which: str, name: str) -> bool:
        return which == "errors" and name.endswith(".error.json")

    def count(self, which: str, inbox: str = "main") -> int:
        """How many there are, cheaply."""
        return sum(1 for _ in entries_below(self.root(inbox) / which))

    def finished(self, inbox: str = "main") -> int:
        """Files at an end: processed, in errors or in quarantine."""
        return sum(len(self.listed(which, inbox)) for which in ("processed", "errors", "quarantine"))

    def sidecar(self, name: str, inbox: str = "main") -> dict[str, Any]:
        """The story beside a file in errors/."""
        loaded: dict[str, Any] = json.loads((self.root(inbox) / "errors" / f"{name}.error.json").read_bytes())
        return loaded

    @property
    def witness_log(self) -> Path:
        return self.base / "witness.log"

    def witnessed(self, what: str | None = None, name: str | None = None) -> list[dict[str, Any]]:
        """What the handler noted, in its order."""
        lines = read_witness(self.witness_log)
        return [line for line in lines if what in (None, line["what"]) and name in (None, line["name"])]


def _sync_folder(folder: bytes) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
