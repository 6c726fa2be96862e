"""What stands in config.yaml, as frozen models. docs/configuration.md is generated from the descriptions here.

Defaults are already in base units (seconds, bytes); what a person writes carries units (units.py).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, PrivateAttr, SecretStr, Tag, model_validator

from inboxd.config.destinations import Destination
from inboxd.config.fields import (
    DatabaseUrl,
    Ending,
    FunctionName,
    Layout,
    LedgerUrl,
    Name,
    Pattern,
    Place,
    Text,
)
from inboxd.config.remote import Count, Processes
from inboxd.config.section import Section, kind_by
from inboxd.config.sources import Expect, Source
from inboxd.config.units import Duration, Interval, Size, show_duration
from inboxd.lifecycle import Limits

#: Names that uploaders' tools use while they write; never looked at.
TEMPORARY_NAMES = (
    ".*", "*.part", "*.partial", "*.tmp", "*.temp", "*.filepart", "*.crdownload", "*.download", "*.swp", "*~", "~$*",
    ".nfs*", ".~lock.*", "Thumbs.db", "desktop.ini", "@eaDir",
)  # fmt: skip

FolderName = Literal["inbound", "processed", "errors", "quarantine", "outbound", "work", "incoming"]


class Workers(Section):
    """The pool of worker processes."""

    processes: Processes | Literal["auto"] = "auto"
    """How many workers run at once; `auto` is one for each core this process may use."""
    batch_size: Annotated[int, Field(ge=1, le=10_000)] = 100
    """At most so many files are dispatched together; an idle worker gets at once what there is. The files of a batch wait
    for each other: `1` where a handler is slow for some of them."""
    max_memory: Size = 512 << 20
    """A worker whose resident memory is above this is recycled (replaced by a fresh one) after the file in progress."""
    max_files: Count = 100_000
    """A worker is recycled after so many files."""
    timeout: Interval = 600.0
    """The longest a handler may take for one file, or for one call with `batch`; then its whole process group is killed."""

    @property
    def count(self) -> int:
        """How many workers to keep."""
        return len(os.sched_getaffinity(0)) if self.processes == "auto" else self.processes


class Resources(Section):
    """How often the use of memory, CPU, disk and queue is logged."""

    every: Interval = 60.0
    """One log line per interval."""


class Database(Section):
    """A database for handlers, opened afresh in each worker."""

    url: DatabaseUrl
    """An SQLAlchemy URL, such as `sqlite:///var/data.db` (relative to this file) or `postgresql+psycopg://user@host/name`.
    One with a password belongs in `{credential: NAME}`, `{file: PATH}` or `{env: NAME}`."""
    connect_timeout: Interval = 300.0
    """The longest a handler that asks for a connection waits for it; then the file is given back, without blame, and tried
    later. Before a run, it is tried for 5 s at most: other inboxes need the worker, too."""


class Quiet(Section):
    """Ready when its size and time of change have stood still for a span, measured by the daemon's own clock."""

    quiet: Duration
    """The span; longer than any pause an uploader makes in the middle of a file."""


class Marker(Section):
    """Ready when a file of the same name plus this ending lies beside it; the marker goes when the file is claimed."""

    marker: Ending
    """The ending, such as `.done`: `a.csv` is ready when `a.csv.done` is there."""


class Checksum(Section):
    """Ready when a file `NAME.sha256` (or `.md5`) lies beside it and its digest matches the content.

    That file, of which 4 KiB are read, holds the digest alone, or lines as `sha256sum` (also with `-b` or `--tag`) and
    `openssl dgst` write them. Of the name in a line the last part counts, so it does not matter in which folder it was
    made. Lines for other names are passed over; a byte order mark, upper case and CR LF make no difference.
    """

    checksum: Literal["sha256", "md5"]
    """The kind of digest, which is the ending of the file that holds it."""


Settle = Annotated[
    Annotated[Quiet, Tag("<quiet>")]
    | Annotated[Marker, Tag("<marker>")]
    | Annotated[Checksum, Tag("<checksum>")]
    | Annotated[Literal["renamed"], Tag("<word>")],
    Discriminator(
        kind_by("quiet", "marker", "checksum", words=("renamed",)),
        custom_error_type="settle",
        custom_error_message='write one of {quiet: 1s}, renamed, {marker: ".done"} or {checksum: sha256}',
    ),
]


class Retry(Section):
    """What follows a failure: exponential backoff with full jitter."""

    max_failures: Count = 3
    """Failures laid to the file before it goes to errors/."""
    max_attempts: Count = 10
    """Starts of any kind before it goes to errors/; bounds runs cut off by stops and crashes."""
    first: Duration = 1.0
    """The longest first wait; each further one may be twice as long."""
    longest: Duration = 300.0
    """No wait is longer than this, whatever the number of failures."""

    @model_validator(mode="after")
    def _in_order(self) -> Retry:
        if self.first > self.longest:
            raise ValueError(
                f"'first' ({show_duration(self.first)}) is longer than 'longest' ({show_duration(self.longest)}); "
                "raise 'longest'"
            )
        if self.max_failures > self.max_attempts:
            raise ValueError(
                f"'max_failures' ({self.max_failures}) is above 'max_attempts' ({self.max_attempts}) and could never "
                "be reached; raise 'max_attempts'"
            )
        return self

    @property
    def limits(self) -> Limits:
        """The same, as lifecycle.decide() takes it."""
        return Limits(self.max_failures, self.max_attempts, self.first, self.longest)


class Handler(Section):
    """The code that is run on each file, or on each batch: exactly one of `python` and `command`."""

    python: FunctionName | None = None
    """`module:function`, such as `handlers:handle` for `handlers.py` beside this file, whose folder is on the module path."""
    command: Annotated[list[Text], Field(min_length=1)] | None = None
    """Program and arguments, run without a shell; `{path} {name} {id} {results} {attempt}` are filled in. With `batch`
    it is the word `{files}`, which becomes an argument for each file."""
    batch: bool = False
    """`true`: the function takes a list of files, or the program all of a batch. When it fails, or its worker dies of it,
    its halves run apart, until the culprit is found."""
    database: str | None = None
    """A name from `databases`. Tested before each file; while it is away, files wait without blame."""
    options: dict[str, Any] = {}
    """Anything; a Python handler finds it as `file.options`, a command as `INBOXD_OPTION_…` in its environment."""

    @model_validator(mode="after")
    def _one_of(self) -> Handler:
        if (self.python is None) == (self.command is None):
            raise ValueError("give exactly one of 'python' and 'command'")
        return self


class Duplicates(Section):
    """What happens to a file whose content was processed before in this inbox."""

    policy: Literal["process", "skip", "error"] = "process"
    """`process` it again, `skip` it (to processed/, without a run), or `error` (to errors/). Empty files are never
    duplicates. `duplicates: skip` is short for `duplicates: {policy: skip}`."""
    window: Interval | None = None
    """How far back to look for the first one; without it, as far back as the ledger goes."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"policy": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _has_use(self) -> Duplicates:
        if self.policy == "process" and self.window is not None:
            raise ValueError(
                "'window' has no use with 'policy: process'; write 'policy: skip' or 'policy: error', or remove it"
            )
        return self


class Retention(Section):
    """How long delivered files and their rows are kept; `inboxd prune` and the daemon remove them after that."""

    processed: Duration | None = None
    """How long files stay in processed/; without it, for ever."""
    errors: Duration | None = None
    """How long files stay in errors/; without it, for ever."""


class Inbox(Section):
    """A directory that uploaders write to, and everything that happens to its files."""

    root: Place | None = None
    """Holds inbound/ processed/ errors/ quarantine/ outbound/ work/ incoming/, all made at start; those named one by one
    may lie elsewhere."""
    inbound: Place | None = None
    """Where uploaders write; `root`/inbound if not given."""
    processed: Place | None = None
    """Where files go that the handler has processed; `root`/processed if not given."""
    errors: Place | None = None
    """Where files go that were given up, each with its story beside it; `root`/errors if not given."""
    quarantine: Place | None = None
    """Where entries go that are no regular file; `root`/quarantine if not given."""
    outbound: Place | None = None
    """Where results of handlers appear; `root`/outbound if not given."""
    work: Place | None = None
    """Holds claimed files; private to the daemon, on the same mount as inbound; `root`/work if not given."""
    incoming: Place | None = None
    """Holds what is being fetched from remote sources; `root`/incoming if not given."""
    match: Annotated[list[Pattern], Field(min_length=1)] = ["*"]
    """Shell patterns of the names to take."""
    ignore: list[Pattern] = []
    """Shell patterns of names to leave where they are, besides those of `ignore_temporary`."""
    ignore_temporary: bool = True
    """Leave names alone that uploaders use while they write, such as `.*`, `*.part`, `*.tmp`, `*.filepart`, `~$*`."""
    recursive: bool = False
    """Look into folders below inbound, too, up to 64 of them one in the other; their names are kept below processed/ and
    errors/."""
    settle: Settle = Quiet(quiet=1.0)
    """When a file is complete: `{quiet: 1s}`, `renamed`, `{marker: ".done"}` or `{checksum: sha256}`. `renamed`: as soon
    as it is there, for uploaders that write elsewhere or under a temporary name and rename; one that is written in place
    would be taken in the middle."""
    claim: Literal["rename", "copy"] = "rename"
    """How a file becomes ours. `rename`: it is moved into work/; what its uploader writes to it afterwards, through a file
    that is still open, is noticed at best. `copy`, for uploaders you don't trust: then its bytes are copied into a new
    file, with our owner and mode, which takes its place before a handler sees it; what is written afterwards goes nowhere.
    It costs a write of each file, or next to nothing where the file system shares blocks (XFS, Btrfs)."""
    order: Literal["arrival", "name", "none"] = "arrival"
    """`arrival` is by time of change; `none` is fastest."""
    watch: Literal["auto", "events", "poll"] = "auto"
    """`auto` takes kernel events where they arrive, and polls on network file systems."""
    handler: Handler
    retry: Retry = Retry()
    duplicates: Duplicates = Duplicates()
    layout: Layout = "%Y-%m-%d"
    """Folder below processed/ and errors/, a strftime pattern of the local time; `""` for none."""
    retention: Retention = Retention()
    priority: int = 0
    """Inboxes with a higher number are served first."""
    parallel: Count | None = None
    """At most so many files of this inbox run at once."""
    expect: Expect | None = None
    """Files that have to arrive by an hour of the day, however they come."""
    sources: dict[Name, Source] = {}
    """Remote sources that items are fetched from, by names that are unique in this file."""
    destinations: dict[Name, Destination] = {}
    """Where results of handlers are sent, by names that are unique in this file, also among sources."""
    sent: Literal["keep", "delete"] = "keep"
    """What becomes of results that all destinations have: `keep`: they appear in outbound/; `delete`: they are removed."""

    def folder(self, which: FolderName) -> Path:
        """The absolute path of one of the seven folders (absolute once loaded)."""
        named: Path | None = getattr(self, which)
        if named is not None:
            return named
        assert self.root is not None  # the validator below
        return self.root / which

    @model_validator(mode="after")
    def _has_folders(self) -> Inbox:
        if self.root is None:
            missing = [name for name in FOLDERS if getattr(self, name) is None]
            if missing:
                raise ValueError(f"give 'root', or name every folder; missing: {', '.join(missing)}")
        return self

    @model_validator(mode="after")
    def _sends_what_is_deleted(self) -> Inbox:
        if "sent" in self.model_fields_set and not self.destinations:
            raise ValueError("'sent' is about results that 'destinations' have; add those, or remove it")
        return self


FOLDERS: tuple[FolderName, ...] = (
    "inbound", "processed", "errors", "quarantine", "outbound", "work", "incoming",
)  # fmt: skip


class Config(Section):
    """The whole of config.yaml."""

    state: Annotated[Place, Field(validate_default=True)] = Path("var/state")
    """Folder of ledger, control socket and locks; private to the daemon. One daemon per state folder."""
    ledger: LedgerUrl = SecretStr("sqlite")
    """`sqlite` (the file `ledger.sqlite` below `state`) or the URL of a database in UTF8: `postgresql+psycopg://…`. One
    with a password belongs in `{credential: NAME}`, `{file: PATH}` or `{env: NAME}`."""
    durability: Literal["full", "process"] = "full"
    """`full`: what was accepted survives power loss. `process`: it survives the death of any process, and is faster."""
    workers: Workers = Workers()
    min_free_space: Size = 1 << 30
    """While less is free on the disk of an inbox or of `state`, nothing is claimed there; it resumes by itself."""
    min_free_inodes: Annotated[int, Field(ge=0)] = 1000
    """Likewise for inodes."""
    rescan: Interval = 30.0
    """Every inbox is looked through at least so often, whatever the kernel told us."""
    stop_grace: Duration = 30.0
    """How long files in progress may go on when the daemon stops; then they are cut off, and run again after the next
    start."""
    resources: Resources = Resources()
    databases: dict[Name, Database] = {}
    """Databases for handlers, by name."""
    inboxes: Annotated[dict[Name, Inbox], Field(min_length=1)]
    """The inboxes, by name."""

    _file: Path = PrivateAttr(default=Path("config.yaml"))
    _environment: frozenset[str] = PrivateAttr(default=frozenset())
    _lines: dict[tuple[str | int, ...], int] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _ledger_can_be_named(self) -> Config:
        if self.ledger.get_secret_value() == "sqlite" and any(sign in str(self.state) for sign in "?%"):
            raise ValueError(f"state: a SQLite ledger can't lie in {self.state}; take a path without ? and %")
        return self

    @property
    def file(self) -> Path:
        """The absolute path this configuration was read from."""
        return self._file

    def line(self, *where: str) -> int:
        """The line of the file in which this key, or the nearest around it, stands."""
        return next((self._lines[where[:end]] for end in range(len(where), 0, -1) if where[:end] in self._lines), 1)

    @property
    def base(self) -> Path:
        """The folder that relative paths are relative to, and that handlers are imported from."""
        return self._file.parent

    @property
    def secret_variables(self) -> frozenset[str]:
        """Environment variables that this configuration reads values from; workers do not see them."""
        return self._environment

    @property
    def ledger_url(self) -> str:
        """The SQLAlchemy URL of the ledger; may hold a secret."""
        url = self.ledger.get_secret_value()
        return f"sqlite:///{self.state / 'ledger.sqlite'}" if url == "sqlite" else url
