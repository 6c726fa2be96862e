"""Folders below a root."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from inboxd import beneath
from inboxd.beneath import opened


def test_a_folder_whose_name_was_not_synced_is_synced_when_it_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its maker died before the fsync, or that failed: files in it would be gone after a power cut."""
    synced: list[str] = []

    def fsync(fd: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        if len(synced) == 1:
            raise OSError(errno.EIO, "as the disk says")

    monkeypatch.setattr(beneath, "_lasting", set())
    monkeypatch.setattr(beneath.os, "fsync", fsync)
    (tmp_path / "by-another").mkdir()
    with pytest.raises(OSError, match="as the disk says"), opened(tmp_path, "by-another/day", make=True):
        pass
    for _ in range(2):
        with opened(tmp_path, "by-another/day", make=True):
            pass
    assert synced == [str(tmp_path), str(tmp_path), str(tmp_path / "by-another")]
