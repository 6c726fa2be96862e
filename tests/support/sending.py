"""Destinations in this process, results in a folder, and a fetcher process that sends: what tests of sending need."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from inboxd.fetch.errors import RemoteError
from inboxd.fetch.opening import open_destination
from inboxd.fetch.outgoing import Outgoing
from inboxd.fetch.remote import Destination
from inboxd.model import Report
from inboxd.wire import Errand, Frames, Message, Note, OrderedItem, Ready, Reports, SourceSetup, SourceSpec, encode

ID = "0192a4c8d1b27c3e9f5a6b7c8d9e0f12"
_SPANS = {"connect": 10.0, "idle": 30.0, "total": 60.0}  # a slow machine needs them


class Said(NamedTuple):
    """What came of a send."""

    known: bool
    bytes: int
    sha256: str


class Sender:
    """Destinations of one kind, with results from `folder`."""

    def __init__(self, kind: str, place: dict[str, Any], folder: Path) -> None:
        self.kind, self.place, self.folder = kind, place, folder
        self._stack = ExitStack()

    def close(self) -> None:
        """All of them."""
        self._stack.close()

    def spec(self, **changes: Any) -> SourceSpec:
        """With spans and keys of the place changed."""
        spans = {name: changes.pop(name, usual) for name, usual in _SPANS.items()}
        return SourceSpec(self.kind, {**self.place, **changes}, **spans, sends=True)

    def destination(self, **changes: Any) -> Destination:
        """Opened as a fetcher does, not connected yet."""
        return self._stack.enter_context(closing(open_destination(self.spec(**changes))))

    def result(self, name: str = "a.csv", data: bytes = b"a,b\n1,2\n", **values: Any) -> OrderedItem:
        """A file in work/, and what is told of it."""
        path = self.folder / "result"
        path.write_bytes(data)
        usual = {"path": str(path), "item": name, "name": name, "size": len(data), "attempt": 1}
        return OrderedItem(**{"id": ID, **usual, **values})

    def send(self, destination: Destination, item: OrderedItem, total: float = 60.0) -> Said:
        """As a fetcher does."""
        with closing(Outgoing(item.path, item.size, total)) as result:
            known = destination.send(item, result)
            return Said(known, result.size, result.sha256())


def refusal(kind: type[RemoteError], call: Callable[[], Any], words: str = ".", secret: str = "canary") -> RemoteError:
    """What `call` raises: of this kind and no other, with these words, and without what is secret."""
    with pytest.raises(kind, match=words) as caught:
        call()
    assert type(caught.value) is kind or type(caught.value).ending is kind.ending, caught.value
    text = "".join(traceback.format_exception(caught.value))
    assert secret not in text.replace(repr(secret), "") and "\n" not in str(caught.value), text
    return caught.value


class Fetcher:
    """A fetcher process that has been told of one destination."""

    def __init__(self, ours: socket.socket) -> None:
        self._ours = ours
        self._frames = Frames()
        self.pid = 0

    def begin(self, spec: SourceSpec) -> None:
        """Tell it, and wait until it is ready."""
        self._ours.sendall(encode(SourceSetup("there", spec)))
        for message in self._until(lambda one: isinstance(one, Ready)):
            assert isinstance(message, Ready)
            self.pid = message.pid

    def ask(self, verb: str, *items: OrderedItem) -> tuple[list[Report], list[Note]]:
        """What it reports, and what it says meanwhile."""
        self._ours.sendall(encode(Errand("b1", "main", "there", verb, items)))
        messages = list(self._until(lambda one: isinstance(one, Reports) and one.last))
        reports = [report for one in messages if isinstance(one, Reports) for report in one.reports]
        return reports, [one for one in messages if isinstance(one, Note)]

    def _until(self, is_last: Callable[[Message], bool]) -> Iterator[Message]:
        while data := self._ours.recv(65536):
            for message in self._frames.feed(data):
                yield message
                if is_last(message):
                    return

    def most_memory(self) -> int:
        """Bytes that were resident at most (VmHWM of proc(5))."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024


@contextmanager
def fetcher(spec: SourceSpec) -> Iterator[Fetcher]:
    """Killed at the end."""
    ours, theirs = socket.socketpair()
    ours.settimeout(30)
    with ours, tempfile.TemporaryFile() as mark:
        with theirs:
            spoken = (theirs.fileno(), mark.fileno())
            command = [sys.executable, "-P", "-m", "inboxd.fetch.fetcher", *map(str, spoken)]
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=spoken)
        try:
            one = Fetcher(ours)
            one.begin(spec)
            yield one
        finally:
            process.kill()
            process.wait()
