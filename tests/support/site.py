"""A place to run inboxd at: a folder with config.yaml, the witness beside it, and inboxes to drop files into."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from support.load import Dropped, Item, dropped

_SUPPORT = Path(__file__).parent


class Site:
    """Everything a user sees of one installation. Nothing here knows how inboxd works inside."""

    def __init__(self, base: Path, **settings: Any) -> None:
        """`settings` go to the top of config.yaml; one inbox, "main", with the witness as its handler."""
        base.mkdir(parents=True, exist_ok=True)
        self.base = base
        self.config = base / "config.yaml"
        self.manifest: list[Dropped] = []
        shutil.copy(_SUPPORT / "witness.py", base / "witness.py")
        self.settings: dict[str, Any] = {
            "state": "state",
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
            "root": f"inboxes/{name}",
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
        return self.base / "inboxes" / inbox

    @property
    def state(self) -> Path:
        return self.base / "state"

    def drop(self, name: str | bytes, content: bytes = b"", *, inbox: str = "main", folder: str = "") -> Dropped:
        """Upload as a good uploader does: under a temporary name, then renamed; noted in the manifest."""
        raw = os.fsencode(name)
        target = os.path.join(os.fsencode(self.root(inbox) / "inbound"), os.fsencode(folder))
        os.makedirs(target, exist_ok=True)
        temporary = os.path.join(target, b".upload-%d.part" % len(self.manifest))
        with open(temporary, "wb") as stream:
            stream.write(content)
        os.rename(temporary, os.path.join(target, raw))
        entry = dropped(inbox, raw, content, folder)
        self.manifest.append(entry)
        return entry

    def drop_all(self, items: Iterable[Item], inbox: str = "main") -> list[Dropped]:
        """Drop each of them."""
        return [self.drop(name, content, inbox=inbox) for name, content in items]

    def put(self, items: Iterable[Item], inbox: str = "main") -> list[Dropped]:
        """Write them in place: for a backlog that is there before the daemon."""
        inbound = os.fsencode(self.root(inbox) / "inbound")
        os.makedirs(inbound, exist_ok=True)
        entries = []
        for name, content in items:
            with open(os.path.join(inbound, name), "wb") as stream:
                stream.write(content)
            entries.append(dropped(inbox, name, content))
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


def read_witness(path: Path) -> list[dict[str, Any]]:
    """The lines of a witness.log; none if the handler never ran.

    A writer that is killed in its write(2), where two pages meet, leaves the beginning of a line before the next one.
    """
    if not path.exists():
        return []
    return [json.loads(line[max(0, line.rfind(b'{"what"')) :]) for line in path.read_bytes().split(b"\n")[:-1]]


def entries_below(top: Path) -> Iterator[str]:
    """Every entry below `top` that is no folder, as a path relative to it; names as os.fsdecode gives them."""
    stack = [""]
    while stack:
        folder = stack.pop()
        try:
            with os.scandir(top / folder) as found:
                for entry in found:
                    relative = os.path.join(folder, entry.name)
                    if entry.is_dir(follow_symlinks=False):
                        stack.append(relative)
                    else:
                        yield relative
        except FileNotFoundError:
            continue
