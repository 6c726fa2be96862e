"""Files to drop, made from a seed: the same names and bytes on every machine, and a list of what they are."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

from inboxd.checker.__main__ import read_manifest
from inboxd.checker.evidence import Dropped

__all__ = [
    "HOSTILE_NAMES",
    "Dropped",
    "Item",
    "dropped",
    "files",
    "hostile",
    "mixture",
    "read_manifest",
    "write_manifest",
]

Item = tuple[bytes, bytes]  # name, content


def dropped(inbox: str, name: bytes, content: bytes, folder: str = "") -> Dropped:
    """The manifest's entry for a file."""
    return Dropped(inbox, os.fsdecode(name), hashlib.sha256(content).hexdigest(), len(content), folder)


def write_manifest(path: Path, entries: Iterable[Dropped]) -> None:
    """One JSON object a line; lone surrogates are escaped by JSON itself."""
    path.write_text("".join(json.dumps(asdict(entry)) + "\n" for entry in entries), encoding="ascii")


def files(count: int, *, seed: int = 1, size: int = 1024, prefix: str = "ok") -> Iterator[Item]:
    """`count` files of about `size` bytes, every content different: PREFIX-00001.dat and so on."""
    source = random.Random(seed)
    for number in range(count):
        head = f"{prefix} {seed} {number}\n".encode()
        yield f"{prefix}-{number:05d}.dat".encode(), head + source.randbytes(max(0, size - len(head)))


def mixture(count: int, *, seed: int, kinds: dict[str, float], size: int = 512) -> Iterator[Item]:
    """Files whose names tell the witness how to behave: `kinds` maps a name's prefix to its share of the whole."""
    source = random.Random(seed)
    prefixes, weights = list(kinds), list(kinds.values())
    for number in range(count):
        prefix = source.choices(prefixes, weights)[0]
        head = f"{prefix} {seed} {number}\n".encode()
        yield f"{prefix}-{number:05d}.dat".encode(), head + source.randbytes(max(0, size - len(head)))


#: Names a file system allows and a careless program trips over (none is ignored by default, none holds NUL or '/').
HOSTILE_NAMES: tuple[bytes, ...] = (
    b"a" * 255,
    b"b" * 251 + b".csv",
    "\N{PILE OF POO}".encode() * 63,
    b"not-utf8-\xff\xfe\x80.dat",
    b"\xc3\x28.bin",
    b"two\nlines.txt",
    b"carriage\rreturn",
    b"tab\there",
    b"\x1b[31mred\x1b[0m.txt",
    b"\x01\x02\x7f",
    b"-rf",
    b"--help",
    b"x..foo",
    b"   ",
    b" leading and trailing ",
    b"*",
    b"?[a-z]*",
    b"{evil}",
    b"{file_id!r:>99}",
    b"{0.__class__}",
    b"%s%n%(name)s",
    b"$(touch pwned)",
    b"`touch pwned`",
    b"; touch pwned #",
    b"a && touch pwned",
    b"quote'single",
    b'quote"double',
    b"back\\slash\\n",
    "\N{RIGHT-TO-LEFT OVERRIDE}gpj.exe".encode(),
    "e\N{COMBINING ACUTE ACCENT}".encode(),
    "\N{LATIN SMALL LETTER E WITH ACUTE}".encode(),
    "\N{ZERO WIDTH SPACE}".encode(),
    "\N{LINE SEPARATOR}".encode(),
    b"<script>alert(1)<script>",
    b"CON",
    b"null",
    b"name.error.json",
    b"0190a5f0c1d27a3b8c4d5e6f70819203",
    b"0190a5f0c1d27a3b8c4d5e6f70819203.results",
    b"x.results",
    b"ledger.sqlite",
    b"inbound",
    b"no-extension.",
    b"many.dots.in.a.name.tar.gz",
    b"extension." + b"e" * 100,
    b"[31m <6>inboxd: forged",
    b'{"event": "file.processed"}',
)


def hostile() -> Iterator[Item]:
    """One file for each hostile name, every content different; and one empty file."""
    for number, name in enumerate(HOSTILE_NAMES):
        yield name, b"hostile %d\n" % number
    yield b"empty", b""
