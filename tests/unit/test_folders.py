"""The folders of an inbox lie where files can be renamed; what has no renames may lie elsewhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from inboxd import folders
from inboxd.config.models import Config
from inboxd.errors import DiskError, PreconditionError
from inboxd.intake import mounts
from support.settings import loaded

_SOURCES = "sources: {acme: {http: {list: 'https://acme.example/', ack: null}, every: 1h}}, "


def _made(tmp_path: Path, sources: str) -> Config:
    config = loaded(tmp_path, f"state: state\ninboxes:\n  a: {{root: a, {sources}handler: {{command: ['true']}}}}\n")
    folders.make(config)
    return config


def _elsewhere(monkeypatch: pytest.MonkeyPatch, which: str) -> None:
    """This folder is on another mount."""
    monkeypatch.setattr(mounts, "same_mount", lambda one, other: which not in (one.name, other.name))


@pytest.mark.parametrize("which", ["work", "processed", "errors", "quarantine", "outbound"])
@pytest.mark.parametrize("sources", ["", _SOURCES])
def test_files_stay_on_one_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sources: str, which: str) -> None:
    config = _made(tmp_path, sources)
    folders.check(config)
    _elsewhere(monkeypatch, which)
    with pytest.raises(PreconditionError, match=rf"inbox a: {tmp_path}/a/{which} \({which}\) is not on the mount of"):
        folders.check(config)


def test_a_folder_is_kept_where_it_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is accepted into work/ must not vanish with it."""
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    _made(tmp_path, "")
    assert sorted(synced) == [str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a" / "work")]
    _made(tmp_path, "")
    assert len(synced) == 3


def test_a_folder_is_kept_where_a_link_leads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links above our folders are the operator's, as where all data are on a disk of their own."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "a").symlink_to("disk")
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    _made(tmp_path, "")
    assert sorted(synced) == [str(tmp_path), str(tmp_path / "disk"), str(tmp_path / "disk" / "work")]


def test_files_may_be_where_nobody_can_look(tmp_path: Path) -> None:
    """A start that took it for empty would look for them elsewhere, and call them lost."""
    folders.remember(_made(tmp_path, ""))
    config = loaded(tmp_path, "state: state\ninboxes: {a: {root: b, handler: {command: ['true']}}}\n")
    ledger: Any = _Holding()
    work = tmp_path / "a" / "work"
    folders.refuse_moved(config, ledger)
    (work / "x").touch()
    with pytest.raises(PreconditionError, match=f"inbox a: files are held in {work}"):
        folders.refuse_moved(config, ledger)
    work.rename(tmp_path / "aside")
    folders.refuse_moved(config, ledger)
    work.symlink_to("work")
    with pytest.raises(DiskError, match=f"inbox a: .* {work}: Too many levels of symbolic links"):
        folders.refuse_moved(config, ledger)


class _Holding:
    """A ledger with files of the inbox in progress."""

    def holding(self) -> set[str]:
        return {"a"}


_TWO = """\
state: {state}
inboxes:
  a: {{root: a, recursive: {recursive}, handler: {{command: ['true']}}}}
  b: {{root: {root}, {more}handler: {{command: ['true']}}}}
"""


def _two(tmp_path: Path, root: str, *, recursive: str = "true", state: str = "state", more: str = "") -> Config:
    """`link` leads into the inbound/ of inbox a."""
    (tmp_path / "a" / "inbound").mkdir(parents=True)
    (tmp_path / "link").symlink_to("a/inbound")
    config = loaded(tmp_path, _TWO.format(root=root, recursive=recursive, state=state, more=more))
    folders.make(config)
    return config


@pytest.mark.parametrize("recursive", ["true", "false"])
def test_a_folder_that_a_link_leads_into_another(tmp_path: Path, recursive: str) -> None:
    """By their paths the two are apart; told once for each folder that they lie in."""
    config = _two(tmp_path, "link/b", recursive=recursive)
    with pytest.raises(PreconditionError) as refused:
        folders.check(config)
    (problem,) = str(refused.value).splitlines()
    first = "inbound" if recursive == "true" else "processed"
    assert problem.startswith(f"{tmp_path}/link/b/{first} ({first} of inbox b) lies inside {tmp_path}/a/inbound (inb")


def test_a_state_that_a_link_leads_into_an_inbox(tmp_path: Path) -> None:
    config = _two(tmp_path, "b", state="link/state")
    with pytest.raises(
        PreconditionError, match=r"link/state \(state\) lies inside .*/a/inbound \(inbound of inbox a\)"
    ):
        folders.check(config)


def test_an_inbound_that_a_link_leads_into_one_that_is_not_recursive(tmp_path: Path) -> None:
    """Harmless, as it is where the paths say so."""
    folders.check(_two(tmp_path, "b", recursive="false", more="inbound: link/b, "))


def test_items_come_from_the_same_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = _made(tmp_path, _SOURCES)
    _elsewhere(monkeypatch, "incoming")
    with pytest.raises(PreconditionError, match=r"a/incoming \(incoming\) is not on the mount of"):
        folders.check(config)


def test_an_inbox_without_sources_does_not_care_where_incoming_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _made(tmp_path, "")
    _elsewhere(monkeypatch, "incoming")
    folders.check(config)


def test_a_probe_that_a_killed_start_has_left_is_not_taken_for_a_file(tmp_path: Path) -> None:
    config = _made(tmp_path, "")
    (tmp_path / "a" / "work" / ".inboxd-rename-01a2237c33b9742a8052f42d3381e077").touch()
    folders.check(config)
    assert [entry.name for entry in (tmp_path / "a" / "work").iterdir()] == ["results"]
