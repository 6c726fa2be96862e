"""What the daemon and a child say to each other, and how it is framed.

A message is one JSON object behind a length of four bytes, big-endian, on a stream socket; the records in it (the files
of an order, its reports) are arrays, each value at its place. JSON and not pickle: a child runs foreign code, and
nothing it sends may run in the daemon. Surrogate escapes pass through as \\udcXX.

Beside the socket, each worker owns a *mark*: a small file that says, in one pwrite(2), which file of which batch it
is at. The mark outlives both processes, so a death is charged to that file alone (see read_mark).
"""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from inboxd.model import Ending, Report

_LENGTH = struct.Struct(">I")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NOTHING: dict[str, Any] = {}  # shared by all records that have nothing there, and changed by nobody
LARGEST = 64 * 1024 * 1024  # bytes; a longer frame ends the conversation
LARGEST_FILES = LARGEST - 4096  # bytes of the files in an order, beside what else is in it
_REST = 512  # bytes of one of them: numbers, ids and punctuation


class BrokenFrame(ValueError):
    """The peer sent something that is not one of our messages."""


class HandlerSpec(NamedTuple):
    """How to reach the handler of one inbox."""

    python: str | None = None  # "module:function"
    command: tuple[str, ...] | None = None  # argv with {path} {name} {id} {results} {attempt}, or {files}
    database: str | None = None  # tested before a file begins
    batch: bool = False
    options: dict[str, Any] = _NOTHING


class DatabaseSpec(NamedTuple):
    """How to open a database of the user; `url` may hold a secret, so it travels on the socket only."""

    url: str
    connect_timeout: float  # seconds


class Setup(NamedTuple):
    """daemon -> worker, first of all: what it may be asked to run."""

    handlers: dict[str, HandlerSpec]  # by inbox
    databases: dict[str, DatabaseSpec]
    path: tuple[str, ...] = ()  # put before sys.path, so that a handler beside the configuration is found
    durable: bool = False  # copies must survive a power cut

    def runs_whole(self, order: Order | Errand) -> bool:
        """One call of the handler takes all files of the order."""
        handler = self.handlers.get(order.inbox)
        return handler is not None and handler.batch and isinstance(order, Order) and order.runs


class OrderedFile(NamedTuple):
    """One file as a worker sees it."""

    id: str
    path: str  # absolute
    name: str
    size: int
    attempt: int
    results: str = ""  # absolute path of its results folder; made for a program, or when a function asks for it
    folder: str = ""
    source: str | None = None
    dev: int = 0
    ino: int = 0
    mtime_ns: int = 0

    @property
    def below(self) -> str:
        """Its name below inbound/, folder included: what it is called before people."""
        return os.path.join(self.folder, self.name)


class SourceSpec(NamedTuple):
    """How to reach one source or destination; `place` may hold secrets, so it travels on the socket only."""

    kind: str  # "http", "sftp", "ftp" or "store"
    place: dict[str, Any]  # the section of that name, as config/sources.py or config/destinations.py has it
    connect: float  # seconds
    idle: float  # seconds
    total: float  # seconds, for one item or result
    min_speed: int = 0  # bytes per second; 0 for any
    max_size: int = 2 << 30  # bytes of one item
    max_items: int = 100_000  # of one listing
    durable: bool = True
    sends: bool = False  # a destination: results go there, nothing comes from it


class SourceSetup(NamedTuple):
    """daemon -> fetcher, first of all: the source that is its own."""

    source: str
    spec: SourceSpec

    def runs_whole(self, _order: Order | Errand) -> bool:
        """Items are fetched one by one."""
        return False


class Listed(NamedTuple):
    """An item as a source lists it. `item` and `version` are the source's own words, and tell one item from another."""

    item: str
    name: str
    url: str = ""  # where its bytes are: a URL or a path, for the same kind of source
    size: int | None = None  # bytes
    digest: str = ""  # "sha256:…" or "md5:…", hexadecimal
    version: str = ""


class OrderedItem(NamedTuple):
    """One item, or one result, as a fetcher sees it; of a poll, the listing that is to be written."""

    id: str  # of the file that it becomes; of a result, what tells it from any other, the same at each try
    path: str = ""  # absolute: where its bytes go, or are; or the listing
    item: str = ""
    name: str = ""
    url: str = ""
    size: int | None = None
    digest: str = ""
    version: str = ""
    attempt: int = 0
    folder: str = ""

    @property
    def below(self) -> str:
        """As that of an OrderedFile."""
        return os.path.join(self.folder, self.name)


class Errand(NamedTuple):
    """daemon -> fetcher: `poll` the source, `fetch` these items, or `ack` them; `send` results, or `look` whether they
    could be sent."""

    batch: str
    inbox: str  # whose source it is
    source: str
    verb: str
    files: tuple[OrderedItem, ...]


class Order(NamedTuple):
    """daemon -> worker: run the inbox's handler on these files; or only read them (hash), or copy them."""

    batch: str
    inbox: str
    files: tuple[OrderedFile, ...]
    hash: str = ""  # "sha256" or "md5": report HASHED with the digest, run no handler
    copy: bool = False  # report COPIED, with the digest as well if there is a `hash`

    @property
    def runs(self) -> bool:
        """The handler is to be run."""
        return not (self.hash or self.copy)


class Ready(NamedTuple):
    """worker -> daemon: every handler is loaded, or these could not be (inbox -> why)."""

    pid: int
    broken: dict[str, str] = _NOTHING


class Reports(NamedTuple):
    """worker -> daemon: some files of the batch are finished; `last` frees the worker for the next order.

    But not one that is `leaving`: it was asked to end, and would not read it.
    """

    batch: str
    reports: tuple[Report, ...]
    last: bool
    rss: int = 0  # bytes
    leaving: bool = False


class Note(NamedTuple):
    """worker -> daemon: no report, but a line for the journal, or how far a fetch is."""

    event: str
    fields: dict[str, Any] = _NOTHING


Message = Setup | Order | SourceSetup | Errand | Ready | Reports | Note


def encode(message: Message) -> bytes:
    """One frame, ready for the socket."""
    body = _to_json({"kind": type(message).__name__, **message._asdict()}).encode("ascii")
    return _LENGTH.pack(len(body)) + body


_to_json = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


def size_at_most(characters: int) -> int:
    """Bytes in an order of one file whose texts, but for its id, are so long: JSON takes up to twelve for each."""
    return _REST + 12 * characters


class Frames:
    """Bytes in, whole messages out; keeps what is not whole yet."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        """Yield each message that `data` completes. Raises BrokenFrame."""
        self._buffer += data
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if length > LARGEST:
                raise BrokenFrame(f"a frame of {length} bytes is longer than {LARGEST}")
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[_LENGTH.size : end])
            del self._buffer[:end]
            yield decode(body)


def decode(body: bytes) -> Message:
    """The message in one frame's body. Raises BrokenFrame for anything else."""
    try:
        fields = json.loads(body)
        return _BUILDERS[fields.pop("kind")](fields)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BrokenFrame(f"not a message: {error}") from error


def _setup(fields: dict[str, Any]) -> Setup:
    handlers = {
        inbox: HandlerSpec(python, tuple(command) if command else None, *rest)
        for inbox, (python, command, *rest) in fields["handlers"].items()
    }
    databases = {name: DatabaseSpec(*spec) for name, spec in fields["databases"].items()}
    return Setup(handlers, databases, tuple(fields["path"]), fields["durable"])


def _order(fields: dict[str, Any]) -> Order:
    return Order(**{**fields, "files": tuple(OrderedFile(*file) for file in fields["files"])})


def _source(fields: dict[str, Any]) -> SourceSetup:
    return SourceSetup(fields["source"], SourceSpec(*fields["spec"]))


def _errand(fields: dict[str, Any]) -> Errand:
    return Errand(**{**fields, "files": tuple(OrderedItem(*item) for item in fields["files"])})


def _reports(fields: dict[str, Any]) -> Reports:
    _check(fields, batch=str, last=bool, rss=int, leaving=bool)
    return Reports(**{**fields, "reports": tuple(map(_report, fields["reports"]))})


def _ready(fields: dict[str, Any]) -> Ready:
    _check(fields, pid=int, broken=dict)
    "".join(fields.get("broken", {}).values())  # raises TypeError for anything but text
    return Ready(**fields)


def _note(fields: dict[str, Any]) -> Note:
    _check(fields, event=str, fields=dict)
    if not _is_count(fields.get("fields", {}).get("bytes", 0)):
        raise TypeError("a note whose bytes are no number of them")
    return Note(**fields)


def _check(found: dict[str, Any], **kinds: type) -> None:
    for name, kind in kinds.items():
        if name in found and not isinstance(found[name], kind):
            raise TypeError(f"{name} is no {kind.__name__}")


def _report(values: list[Any]) -> Report:
    """A child runs foreign code: the types it sends are checked, so that a wrong one can't surface far from here."""
    file_id, ending, *rest = values
    report = Report(file_id, Ending(ending), *rest)
    texts = (report.file_id, report.error_class, report.message, report.detail, report.output)
    "".join(texts)  # raises TypeError for anything but text
    if not isinstance(report.result, dict | None):
        raise TypeError("a report whose result is no object")
    if report.ending in (
        Ending.HASHED,
        Ending.COPIED,
        Ending.DONE,
    ):  # of the others, a result is the handler's own business
        _check_answer(report.result or {})
    if not (_is_span(report.seconds) and (report.after is None or _is_span(report.after))):
        raise TypeError("a report with a span that is none")
    return report


def _check_answer(result: dict[str, Any]) -> None:
    """What the daemon itself reads there."""
    digest = result.get("sha256")
    if digest is not None and not (isinstance(digest, str) and _SHA256.fullmatch(digest)):
        raise TypeError("a report whose sha256 is none")
    if not _is_count(result.get("items", 0)):
        raise TypeError("a report whose items are no number of them")


def _is_count(found: object) -> bool:
    return isinstance(found, int) and 0 <= found < 1 << 63


def _is_span(seconds: object) -> bool:
    return isinstance(seconds, float | int) and 0.0 <= seconds < 1e12


_BUILDERS: dict[str, Callable[[dict[str, Any]], Message]] = {
    "Setup": _setup,
    "Order": _order,
    "SourceSetup": _source,
    "Errand": _errand,
    "Reports": _reports,
    "Ready": _ready,
    "Note": _note,
}


class Mark(NamedTuple):
    """Which file of which batch a worker is at, and since when (seconds, CLOCK_MONOTONIC)."""

    batch: str
    at: int
    since: float
    file_id: str = ""


_MARK = "{:<32} {:>8d} {:>20.6f} {:<32}\n"
_MARK_SIZE = len(_MARK.format("", 0, 0.0, ""))
_MARKS = 64  # batches kept: far more than a worker can finish before the ledger has heard of the first


def write_mark(fd: int, mark: Mark, order: int) -> None:
    """Say "I begin file `at`, which is `file_id`", in this worker's `order`th order.

    Where one call takes many files, `file_id` is the last of them: all begin together.
    The length of the batch says "I have finished it"; `file_id` is then the last one's. The marks
    of earlier batches stay for a while: their reports may not have reached the ledger yet.
    """
    text = _MARK.format(mark.batch, mark.at, mark.since, mark.file_id)
    os.pwrite(fd, text.encode("ascii"), order % _MARKS * _MARK_SIZE)


def read_marks(fd: int) -> list[Mark]:
    """The last mark of each of the last batches, in no order."""
    text = os.pread(fd, _MARKS * _MARK_SIZE, 0).decode("ascii", "replace")
    places = range(0, len(text), _MARK_SIZE)
    return [mark for place in places if (mark := _mark_of(text[place : place + _MARK_SIZE].split()))]


def read_mark(fd: int) -> Mark | None:
    """The newest mark, or None when the worker never began anything."""
    return max(read_marks(fd), key=lambda mark: mark.since, default=None)


def _mark_of(words: list[str]) -> Mark | None:
    try:
        return Mark(words[0], int(words[1]), float(words[2]), words[3])
    except (ValueError, IndexError):
        return None
