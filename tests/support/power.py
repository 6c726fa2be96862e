"""A machine that loses power: a site on a disk of its own, with all that tells of it on another.

The daemon's log, the witness, and whoever it speaks to keep what they have heard; the disk keeps what was synced.
"""

from __future__ import annotations

import json
import os
import signal
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.daemon import Daemon, run_daemon
from support.disks import LET_GO, Disk
from support.invariants import Entry, Evidence, Facts, Installation
from support.load import dropped
from support.site import Site, is_unfinished

#: What is told of a file once it is accepted, and before its uploader hears of it.
_TELLS = {"file.claimed", "file.processed", "file.error", "file.quarantined", "file.waiting", "file.released"}
#: States of a row whose file is not accepted yet, or never was.
_NOT_OURS = {"CLAIMING", "ABANDONED"}


class Machine:
    """`site` and its `disk`. `gone` and `short`: uploads that nobody had synced or accepted, and that a cut undid."""

    def __init__(self, site: Site, disk: Disk) -> None:
        self.site = site
        self.disk = disk
        self.gone = self.short = 0
        self._boot = site.base / "boot_id"

    @contextmanager
    def life(self, env: dict[str, str] | None = None, *, ready: bool = True) -> Iterator[Daemon]:
        """A daemon, until `cut`; or until the end of the block, where it must stop well."""
        self._boot.write_text(f"{uuid.uuid4()}\n")
        with run_daemon(self.site.config, env, ready=ready, under=self._booted(), level="DEBUG") as daemon:
            yield daemon

    def _booted(self) -> tuple[str, ...]:
        """The command that lets those below it believe that the machine was booted (random(4)); mounts stay shared."""
        bind = f"mount --bind {self._boot} /proc/sys/kernel/random/boot_id"
        script = f'mine={self.disk.point}\n{LET_GO}\n{bind}\nexec "$@"'
        return ("unshare", "--mount", "--propagation", "slave", "sh", "-ec", script, "sh")

    def cut(self, daemon: Daemon) -> None:
        """At once for the daemon and the disk; then an end to all that ran."""
        daemon.process.send_signal(signal.SIGSTOP)
        self.disk.cut_power()
        daemon.kill()
        daemon.end_family()
        self.disk.restart()

    def reckon(self, *, synced: bool) -> None:
        """What the uploaders find after a cut: `site.manifest` follows, as far as nobody had a promise.

        `synced`: they had all of it synced, so that nothing may be missing.
        """
        site = self.site
        facts = Facts(Installation.read(site.config), Evidence(manifest=site.manifest))
        ours = told(site) | {row["name"] for row in facts.rows if row["state"] not in _NOT_OURS}
        entries = [entry for entry in facts.of_kind("inbound", "work", "processed", "errors") if _is_upload(entry)]
        found = Counter(entry.sha256 for entry in entries)
        kept = []
        for one in sorted(site.manifest, key=lambda one: one.name not in ours):
            if synced or one.name in ours or found[one.sha256]:
                kept.append(one)
                found[one.sha256] -= 1
        for entry in facts.of_kind("inbound"):
            if is_unfinished(os.path.basename(entry.relative)) and not entry.status.st_size:
                os.unlink(entry.path)  # its uploader begins anew; it looks like those cut short that have their names
        claiming = {row["id"] for row in facts.rows if row["state"] in _NOT_OURS}
        short = []
        for entry in entries if not synced else ():
            waits = entry.kind == "inbound" or (entry.kind == "work" and entry.relative[:32] in claiming)
            if waits and found[entry.sha256] > 0:
                found[entry.sha256] -= 1
                name = os.fsencode(os.path.basename(entry.relative))
                short.append(dropped(entry.inbox, name, Path(entry.path).read_bytes()))
        self.gone += len(site.manifest) - len(kept) - len(short)
        self.short += len(short)
        site.manifest = kept + short


def _is_upload(entry: Entry) -> bool:
    """An uploader means it; not one of our drafts, nor one of his that had not got its name."""
    return not (entry.is_draft or is_unfinished(os.path.basename(entry.relative)))


def told(site: Site) -> set[str]:
    """Names of files that the daemon has told of, or whose handler was started: these are accepted."""
    names = {line["name"] for line in site.witnessed()}
    for record in _records(site.base / "daemon.log"):
        if record.get("event") in _TELLS:
            names.add(os.path.basename(record["file"]))
    return names


def _records(log: Path) -> Iterator[dict[str, Any]]:
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("{"):
            yield json.loads(line)


def missing_results(site: Site) -> list[str]:
    """Results of processed files that are not in outbound/, whole: the witness leaves two of each `results-…`."""
    outbound = site.root() / "outbound"
    wrong = []
    for line in site.witnessed("end"):
        if line["name"].startswith("results-") and (site.root() / "processed" / line["name"]).exists():
            for part in ("one", "two"):
                path = outbound / f"{part}-{line['name']}"
                if not path.exists() or path.read_bytes() != f"{part} of {line['id']}\n".encode():
                    wrong.append(path.name)
    return wrong
