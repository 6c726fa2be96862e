"""Handlers in this process: write one, give it a file, look at the report."""

from __future__ import annotations

import textwrap
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from inboxd.model import Report, new_id
from inboxd.wire import DatabaseSpec, HandlerSpec, Note, OrderedFile, Setup
from inboxd.work.handler import Handlers


class HandlerRig:
    """One inbox, "main", and its handler."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notes: list[Note] = []
        self.databases: dict[str, DatabaseSpec] = {}
        self._opened: list[Handlers] = []

    def module(self, source: str) -> str:
        """Write a module of a name of its own, which is returned."""
        name = f"handlers_{uuid.uuid4().hex}"
        (self.folder / f"{name}.py").write_text(textwrap.dedent(source), encoding="utf-8")
        return name

    def database(self, name: str, url: str, connect_timeout: float = 5.0) -> None:
        self.databases[name] = DatabaseSpec(url, connect_timeout)

    def open(self, **spec: Any) -> Handlers:
        """Handlers that are not loaded yet."""
        setup = Setup({"main": HandlerSpec(**spec)}, self.databases, (str(self.folder),))
        self._opened.append(Handlers(setup, self.notes.append))
        return self._opened[-1]

    def loaded(self, **spec: Any) -> Handlers:
        handlers = self.open(**spec)
        assert handlers.load() == {}
        return handlers

    def python(self, source: str, **spec: Any) -> Handlers:
        """The function `handle` of this module."""
        return self.loaded(python=self.module(source) + ":handle", **spec)

    def command(self, *words: str, **spec: Any) -> Handlers:
        return self.loaded(command=words, **spec)

    def shell(self, script: str, **spec: Any) -> Handlers:
        """A shell script that is given the path."""
        return self.command("/bin/sh", "-c", script.replace("{", "{{").replace("}", "}}"), "sh", "{path}", **spec)

    def file(self, name: str = "a.csv", content: bytes = b"content", **fields: Any) -> OrderedFile:
        file_id = new_id()
        path = self.folder / f"{file_id}.dat"
        path.write_bytes(content)
        found = path.stat()
        ordered = OrderedFile(
            file_id, str(path), name, found.st_size, 1, str(self.folder / f"{file_id}-results"),
            dev=found.st_dev, ino=found.st_ino, mtime_ns=found.st_mtime_ns,
        )  # fmt: skip
        return ordered._replace(**fields)

    def repeated(self, file: OrderedFile) -> OrderedFile:
        """The same file in its second attempt."""
        return file._replace(attempt=2)

    def run(self, handlers: Handlers, file: OrderedFile | None = None) -> Report:
        """An order of one file."""
        report = handlers.run("main", file or self.file())
        handlers.tidy()
        return report

    def run_python(self, source: str, file: OrderedFile | None = None) -> Report:
        """One file through the function `handle` of this module."""
        return self.run(self.python(source), file)

    def run_batch(self, handlers: Handlers, files: Sequence[OrderedFile]) -> list[Report]:
        begun: list[int] = []
        reports = handlers.run_batch("main", files, begun.append)
        assert begun == [0]
        assert [report.file_id for report in reports] == [file.id for file in files]
        return reports

    def told(self, event: str) -> list[dict[str, Any]]:
        return [note.fields for note in self.notes if note.event == event]

    def close(self) -> None:
        for handlers in self._opened:
            handlers.close()
