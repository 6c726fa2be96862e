"""What `inboxd init` makes works as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from inboxd.config.load import handler_specs, load
from inboxd.config.template import init
from inboxd.errors import UsageError
from inboxd.model import Ending
from inboxd.wire import OrderedFile, Setup
from inboxd.work.handler import Handlers


def _run(folder: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> tuple[Ending, object]:
    monkeypatch.syspath_prepend(str(folder))
    path = folder / "one.csv"
    path.write_bytes(content)
    found = path.stat()
    file = OrderedFile(
        "0" * 32, str(path), path.name, found.st_size, 1, results=str(folder / "results"),
        dev=found.st_dev, ino=found.st_ino, mtime_ns=found.st_mtime_ns,
    )  # fmt: skip
    handlers = Handlers(Setup(handler_specs(load(folder / "config.yaml")), {}, (str(folder),)))
    assert handlers.load() == {}
    report = handlers.run("example", file)
    handlers.close()
    return report.ending, report.result


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = init(tmp_path / "new" / "site")
    assert [path.name for path in made] == ["config.yaml", "handlers.py"]
    assert _run(tmp_path / "new" / "site", b"a\nb\n", monkeypatch) == (Ending.PROCESSED, {"lines": 2})
    assert _run(tmp_path / "new" / "site", b"", monkeypatch) == (Ending.REJECTED, None)


@pytest.mark.parametrize("name", ["config.yaml", "handlers.py"])
def test_nothing_is_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match=name):
        init(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_a_folder_that_can_t_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="can't be made"):
        init(tmp_path / "file" / "below")
    with pytest.raises(UsageError, match="can't be made"):
        init(tmp_path / ("d" * 256))
