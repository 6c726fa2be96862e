"""The outcome log: what is read is what was kept, whatever was torn; and what can't be kept is told."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from inboxd.custody.outcomes import Outcomes, Run
from inboxd.model import Ending, Report


def _ended(number: int, **more: object) -> tuple[Run, Report]:
    file_id = f"{number:032x}"
    return Run(file_id, "b" * 32, 1), Report(file_id, Ending.PROCESSED)._replace(**more)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outcomes.log"


@pytest.fixture
def log(path: Path) -> Iterator[Outcomes]:
    made = Outcomes(path)
    yield made
    made.close()


def test_what_was_kept_is_read(log: Outcomes, path: Path) -> None:
    hostile = {
        "result": {"name": "\udcff\n\x00"},
        "message": "a\nb\udc80",
        "seconds": 0.25,
        "after": 3.5,
        "results": True,
    }
    first, second = _ended(1, **hostile), _ended(2, ending=Ending.FAILED, error_class="E", detail="x" * 70_000)
    assert log.read() == {}
    assert not (log.keep([first]) or log.keep([second]) or log.keep([]))
    assert Outcomes(path).read() == dict([first, second])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert log.is_open
    log.clear()
    assert not path.exists() and not log.is_open
    assert not log.keep([second])
    assert log.read() == dict([second])


def test_a_torn_end_costs_one_line(log: Outcomes, path: Path) -> None:
    ended = [_ended(number) for number in range(3)]
    log.keep(ended)
    whole = path.read_bytes()
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    for cut in range(last, len(whole) - 1):  # without its line feed alone it is whole
        path.write_bytes(whole[:cut])
        assert log.read() == dict(ended[:2])
    path.write_bytes(whole[: last + 20])
    again = Outcomes(path)
    again.keep([ended[2]])  # what is written after it stands for itself
    again.close()
    assert log.read() == dict(ended)


def test_a_flipped_bit_costs_one_line(log: Outcomes, path: Path) -> None:
    ended = [_ended(number) for number in range(3)]
    log.keep(ended)
    whole = path.read_bytes()
    start, end = whole.find(b"\n", 1) + 1, whole.rstrip(b"\n").rfind(b"\n")
    for place in range(start, end):
        for bit in (1, 0x80):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
            found = log.read()
            assert found.items() <= dict(ended).items() and ended[0][0] in found


def test_a_full_disk_is_told(log: Outcomes, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "write", _full)
    assert os.strerror(errno.ENOSPC) in log.keep([_ended(1)])
    assert log.is_open
    monkeypatch.undo()
    assert not log.keep([_ended(1)])
    assert log.read() == dict([_ended(1)])


def _full(_fd: int, _content: bytes) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
