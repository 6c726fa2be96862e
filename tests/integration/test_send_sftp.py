"""Results that are sent to a real OpenSSH server, through a tunnel that can stall, break and dawdle."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from inboxd.fetch.errors import Away, Refused, Unfit, Unreadable
from inboxd.fetch.outgoing import Outgoing
from inboxd.fetch.sftp_session import Session
from inboxd.fetch.sftp_upload import UploadSession
from inboxd.model import Ending
from support.needs import unmet
from support.sending import ID, Sender, fetcher, refusal
from support.sshd import Sshd, make_key
from support.tunnel import Tunnel

CANARY = "canary-6f1c"
_BIG = os.urandom(1 << 20) * 16


class Broken(Outgoing):
    """On a disk that fails."""

    def blocks(self, most: int = 1 << 16) -> Iterator[bytes]:
        """The tenth can't be read."""
        for number, block in enumerate(super().blocks(most)):
            yield block
            if number == 8:
                memory = os.open("/proc/self/mem", os.O_RDONLY)  # nothing is at its beginning: read(2) says EIO
                os.dup2(memory, self._file.fileno())
                os.close(memory)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    made = Sshd(tmp_path_factory.mktemp("sshd"))
    made.start()
    yield made
    made.stop()


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """The folder of the destination."""
    made = tmp_path / "there"
    made.mkdir()
    return made


@pytest.fixture
def rig(server: Sshd, there: Path, tmp_path: Path) -> Iterator[Sender]:
    place = {
        "host": "127.0.0.1", "port": server.port, "user": server.user, "key": server.key, "passphrase": None,
        "password": CANARY, "known_hosts": str(server.known_hosts), "path": str(there), "replace": False,
    }  # fmt: skip
    made = Sender("sftp", place, tmp_path)
    yield made
    made.close()


@pytest.fixture
def tunnel(server: Sshd) -> Iterator[Tunnel]:
    with closing(Tunnel(server.port)) as made:
        yield made


@pytest.fixture
def through(server: Sshd, rig: Sender, tunnel: Tunnel, tmp_path: Path) -> Callable[..., Any]:
    """Destinations behind the tunnel."""
    known = tmp_path / "known_hosts"
    known.write_text(server.known_hosts.read_text().replace(f":{server.port} ", f":{tunnel.port} "))
    return lambda **changes: rig.destination(port=tunnel.port, known_hosts=str(known), **changes)


def _files(folder: Path) -> dict[str, bytes]:
    return {str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*") if one.is_file()}


@pytest.mark.parametrize("data", [b"", b"1", b"x" * 32768, b"y" * 32769, _BIG])
def test_a_result_appears_whole(rig: Sender, there: Path, data: bytes) -> None:
    said = rig.send(rig.destination(), rig.result("a.csv", data))
    assert said == (False, len(data), hashlib.sha256(data).hexdigest())
    assert _files(there) == {"a.csv": data}


def test_it_is_on_disk_before_it_is_shown(rig: Sender, there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    request = UploadSession._request

    def note(session: UploadSession, kind: Any, *more: Any) -> Any:
        asked.append(str(more[0]) if str(kind) == "200" else str(kind))
        return request(session, kind, *more)

    monkeypatch.setattr(UploadSession, "_request", note)
    rig.send(rig.destination(), rig.result())
    assert asked.index("fsync@openssh.com") < asked.index("4") < asked.index("18"), "sync, close, rename"


def test_it_is_never_seen_in_part(rig: Sender, there: Path) -> None:
    seen: set[tuple[str, int]] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            seen.update((one.name, one.stat().st_size) for one in there.glob("a*"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        rig.send(rig.destination(), rig.result("a.bin", _BIG))
        time.sleep(0.05)
    finally:
        over.set()
        watcher.join()
    assert seen == {("a.bin", len(_BIG))}


def test_one_connection_serves_many(through: Any, rig: Sender, tunnel: Tunnel, there: Path) -> None:
    destination = through()
    for number in range(5):
        rig.send(destination, rig.result(f"{number}.csv"))
    assert (tunnel.connections, len(_files(there))) == (1, 5)


@pytest.mark.parametrize(
    "name", [".hidden", "a b;'\"$(x).csv", "ü.csv", "\udce9.csv", "a\n\x1b.csv", "x" * 255, "é" * 127]
)
def test_names_go_as_they_are(rig: Sender, there: Path, name: str) -> None:
    rig.send(rig.destination(), rig.result(name))
    assert os.listdir(there) == [name]


@pytest.mark.parametrize("name", ["../a", "a/../../b", "/etc/x", "", ".", "a/"])
def test_no_name_leads_elsewhere(rig: Sender, there: Path, name: str) -> None:
    refusal(Unfit, lambda: rig.send(rig.destination(), rig.result(name)), "no path below")
    assert list(there.iterdir()) == []


def test_folders_below_are_made(rig: Sender, there: Path) -> None:
    destination = rig.destination()
    (there / "old").mkdir()
    (there / "link").symlink_to("old")
    for name in ("new/deep/er/a.csv", "new/b.csv", "old/c.csv", "link/d.csv", "old/sub/e.csv"):
        rig.send(destination, rig.result(name))
    assert set(_files(there)) == {"new/deep/er/a.csv", "new/b.csv", "old/c.csv", "old/d.csv", "old/sub/e.csv"}
    (there / "file").touch()
    refusal(Unfit, lambda: rig.send(destination, rig.result("file/a.csv")), r"file/a\.csv: the folder .*can't be made")


def test_memory_is_flat(rig: Sender, there: Path) -> None:
    item = rig.result()._replace(size=64 << 20)
    os.truncate(item.path, 64 << 20)
    destination = rig.destination()
    tracemalloc.start()
    try:
        rig.send(destination, item)
        assert tracemalloc.get_traced_memory()[1] < 12 << 20
    finally:
        tracemalloc.stop()
    assert (there / "a.csv").stat().st_size == 64 << 20


# What is there already


def test_a_lost_answer_is_recognised(rig: Sender, there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shift = Session.shift

    def and_cut(session: Session, path: str, target: str) -> None:
        shift(session, path, target)
        session.close()
        raise Away("it broke off")

    destination, item = rig.destination(), rig.result("a.bin", _BIG)
    with monkeypatch.context() as patch:
        patch.setattr(UploadSession, "shift", and_cut)
        refusal(Away, lambda: rig.send(destination, item), secret=CANARY)
    assert _files(there) == {"a.bin": _BIG}
    (there / f".a.bin.{ID}.part").write_bytes(_BIG)  # a server that died between link(2) and unlink(2)
    assert rig.send(destination, item._replace(attempt=2)).known is True
    assert _files(there) == {"a.bin": _BIG}


@pytest.mark.parametrize("other", [b"other!!!", b"of another length", b""])
def test_another_file_of_that_name_is_left_alone(rig: Sender, there: Path, other: bytes) -> None:
    (there / "a.csv").write_bytes(other)
    refusal(Unfit, lambda: rig.send(rig.destination(), rig.result()), r"a\.csv: another file .*`replace: true`")
    assert _files(there) == {"a.csv": other}


@pytest.mark.parametrize("replace", [True, False])
def test_folders_and_links_of_that_name_are_left_alone(rig: Sender, there: Path, replace: bool) -> None:
    (there / "a.csv").mkdir()
    refusal(Unfit, lambda: rig.send(rig.destination(replace=replace), rig.result()), "of that name is there")
    (there / "a.csv").rmdir()
    (there / "a.csv").symlink_to("elsewhere")
    if not replace:
        refusal(Unfit, lambda: rig.send(rig.destination(), rig.result()), "of that name is there")
        assert os.readlink(there / "a.csv") == "elsewhere"
    assert [one.name for one in there.iterdir()] == ["a.csv"]


def test_a_name_that_is_taken_meanwhile(rig: Sender, there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between our look and the rename, which OpenSSH's server refuses then."""
    shift = Session.shift
    taken = [b"other!!!", b"a,b\n1,2\n"]

    def and_take(session: Session, path: str, target: str) -> None:
        Path(target).write_bytes(taken[0])
        shift(session, path, target)

    monkeypatch.setattr(UploadSession, "shift", and_take)
    refusal(Unfit, lambda: rig.send(rig.destination(), rig.result()), "another file")
    assert _files(there) == {"a.csv": taken.pop(0)}
    (there / "a.csv").unlink()
    assert rig.send(rig.destination(), rig.result()).known is True
    assert _files(there) == {"a.csv": taken[0]}


def test_a_name_that_is_taken_and_free_again(rig: Sender, there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other file is collected after it was in our way: what nobody sees must not count as sent."""
    look, shift = Session.look, Session.shift

    def take(session: Session, path: str, target: str) -> None:
        if not (there / "tried").exists():
            (there / "tried").touch()
            Path(target).write_bytes(b"other!!!")
        shift(session, path, target)

    def and_collect(session: Session, path: str) -> Any:
        seen = look(session, path)
        if path.endswith("/a.csv"):
            Path(path).unlink()
        return seen

    monkeypatch.setattr(UploadSession, "shift", take)
    monkeypatch.setattr(UploadSession, "look", and_collect)
    destination, item = rig.destination(), rig.result()
    refusal(Away, lambda: rig.send(destination, item), "went away while it was read", CANARY)
    assert set(_files(there)) == {"tried"}
    monkeypatch.setattr(UploadSession, "look", look)
    assert rig.send(destination, item._replace(attempt=2)).known is False
    assert _files(there) == {"tried": b"", "a.csv": b"a,b\n1,2\n"}


def test_a_rename_that_fails_is_tried_again(rig: Sender, there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other file was collected before we saw it."""
    shift, left = Session.shift, [1, 3]

    def refuse(session: Session, path: str, target: str) -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise Unfit("Failure")
        shift(session, path, target)

    monkeypatch.setattr(UploadSession, "shift", refuse)
    assert rig.send(rig.destination(), rig.result()).known is False
    assert _files(there) == {"a.csv": b"a,b\n1,2\n"}
    left[0] = left.pop()
    refusal(Unfit, lambda: rig.send(rig.destination(), rig.result("b.csv")), r"b\.csv: Failure")
    assert set(_files(there)) == {"a.csv"}


@pytest.mark.parametrize("offered", [True, False])
def test_replace(rig: Sender, there: Path, monkeypatch: pytest.MonkeyPatch, offered: bool) -> None:
    """By posix-rename, or as well as can be where a server has none of OpenSSH's extensions."""
    if not offered:
        monkeypatch.setattr("inboxd.fetch.sftp_upload._names", lambda _told: iter(()))
    destination = rig.destination(replace=True)
    for data in (b"1", b"22", _BIG, b""):
        assert rig.send(destination, rig.result("a.csv", data)).known is False
        assert _files(there) == {"a.csv": data}


# Whose fault it is


def test_a_missing_folder_is_refused(rig: Sender, there: Path) -> None:
    for name in ("a.csv", "sub/a.csv"):
        destination = rig.destination(path=str(there / "missing"))
        refusal(Refused, lambda d=destination, n=name: rig.send(d, rig.result(n)), "missing on .* is no folder", CANARY)
    (there / "file").touch()
    destination = rig.destination(path=str(there / "file"))
    refusal(Refused, lambda: rig.send(destination, rig.result()), "is no folder")
    refusal(Refused, destination.look, "is no folder")
    assert list(there.iterdir()) == [there / "file"]


def test_a_changed_host_key_is_refused(rig: Sender, server: Sshd, there: Path, tmp_path: Path) -> None:
    make_key(tmp_path / "other")
    kind, text = (tmp_path / "other.pub").read_text().split()[:2]
    known = tmp_path / "known"
    known.write_text(f"[127.0.0.1]:{server.port} {kind} {text}\n")
    destination = rig.destination(known_hosts=str(known))
    for attempt in (lambda: rig.send(destination, rig.result()), destination.look):
        refusal(Refused, attempt, "somebody may be in between", CANARY)
    assert list(there.iterdir()) == []


def test_who_is_not_known_is_refused(rig: Sender, tmp_path: Path) -> None:
    destination = rig.destination(key=make_key(tmp_path / "stranger"))
    for attempt in (lambda: rig.send(destination, rig.result()), destination.look):
        refusal(Refused, attempt, "does not let user", CANARY)


def test_who_may_not_write_is_refused(rig: Sender, there: Path, tmp_path: Path) -> None:
    """Of a server that is read-only: to root everything else is allowed."""
    (tmp_path / "ro").mkdir()
    other = Sshd(tmp_path / "ro")
    other.start("ForceCommand internal-sftp -R")
    try:
        destination = rig.destination(port=other.port, key=other.key, known_hosts=str(other.known_hosts))
        for name in ("a.csv", "sub/a.csv"):
            refusal(Refused, lambda n=name: rig.send(destination, rig.result(n)), f"write to {there}", CANARY)
        assert "nothing was sent" in destination.look()
        (there / "a.csv").write_bytes(b"a,b\n1,2\n")
        assert rig.send(destination, rig.result()).known is True
    finally:
        other.stop()


# Stalls and breaks


def test_a_cut_is_away_and_the_next_try_begins_anew(through: Any, rig: Sender, tunnel: Tunnel, there: Path) -> None:
    destination, item = through(), rig.result("a.bin", _BIG)
    destination.look()
    tunnel.cut_after = tunnel.passed + 4096
    refusal(Away, lambda: rig.send(destination, item), ".", CANARY)
    left = _files(there)
    assert set(left) == {f".a.bin.{ID}.part"} and 0 < len(left.popitem()[1]) < len(_BIG)
    tunnel.cut_after = None
    assert rig.send(destination, item._replace(attempt=2)).known is False
    assert _files(there) == {"a.bin": _BIG}


@pytest.mark.parametrize("towards", ["server", "client"])
def test_a_stall_ends_at_idle(through: Any, rig: Sender, tunnel: Tunnel, there: Path, towards: str) -> None:
    destination, item = through(idle=0.6), rig.result("a.bin", _BIG)
    destination.look()
    if towards == "server":
        tunnel.hold_after = tunnel.sent + (3 << 20)
    else:
        tunnel.stall_after = tunnel.passed + 2048
    began = time.monotonic()
    refusal(Away, lambda: rig.send(destination, item), r"timeout\.idle", CANARY)
    assert time.monotonic() - began < 5
    tunnel.hold_after = tunnel.stall_after = None
    rig.send(through(), item)  # a busy disk may need longer than 0.6 s to have it all
    assert _files(there) == {"a.bin": _BIG}


@pytest.mark.parametrize(("spans", "words"), [({"idle": 0.6}, r"timeout\.idle"), ({"total": 1.2}, r"timeout\.total")])
def test_a_full_window_of_tcp(
    rig: Sender, server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spans: dict[str, float], words: str
) -> None:
    """paramiko hangs in send(2) then, where no time-out of a channel reaches."""
    connect = socket.create_connection

    def narrow(*address: Any) -> socket.socket:
        link = connect(*address)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)  # as between two machines: loopback's is 2.5 MiB
        return link

    monkeypatch.setattr(socket, "create_connection", narrow)
    with closing(Tunnel(server.port, window=4096)) as tunnel:
        known = tmp_path / "known_hosts"
        known.write_text(server.known_hosts.read_text().replace(f":{server.port} ", f":{tunnel.port} "))
        destination = rig.destination(port=tunnel.port, known_hosts=str(known), **spans)
        destination.look()
        tunnel.hold_after = tunnel.sent + 20_000
        item, began = rig.result("a.bin", _BIG), time.monotonic()
        refusal(Away, lambda: rig.send(destination, item, spans.get("total", 20.0)), words, CANARY)
        assert 0.5 < time.monotonic() - began < 5


def test_dawdling_ends_at_total(through: Any, rig: Sender, tunnel: Tunnel) -> None:
    destination, item = through(), rig.result("a.bin", _BIG)
    destination.look()
    tunnel.delay = 0.02
    began = time.monotonic()
    refusal(Away, lambda: rig.send(destination, item, total=1.2), r"timeout\.total", CANARY)
    assert time.monotonic() - began < 5


def test_a_failing_disk_leaves_nothing_there(rig: Sender, there: Path) -> None:
    item = rig.result("a.bin", _BIG)
    destination = rig.destination()
    with closing(Broken(item.path, item.size, 20.0)) as result:
        refusal(
            Unreadable,
            lambda: destination.send(item, result),
            r"result can't be read: Input/output error; look after the disk",
        )
    assert list(there.iterdir()) == []
    assert rig.send(destination, item).bytes == len(_BIG)


def test_a_full_disk_there_is_away(rig: Sender, there: Path) -> None:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(there)], check=False)
    if mounted.returncode:
        unmet("needs to mount a small file system")
    try:
        refusal(Away, lambda: rig.send(rig.destination(), rig.result("a.bin", _BIG)), "has no space for it", CANARY)
        assert list(there.iterdir()) == []
    finally:
        subprocess.run(["umount", str(there)], check=True)


# To look, and in a process of its own


def test_a_look_leaves_nothing(rig: Sender, server: Sshd, there: Path) -> None:
    assert f"127.0.0.1:{server.port} lets user {server.user} in, and {there} is a folder" in rig.destination().look()
    assert list(there.iterdir()) == []


def test_a_fetcher_sends_and_looks(rig: Sender, there: Path) -> None:
    with fetcher(rig.spec()) as one:
        item = rig.result("sub/a.csv")
        for known in (False, True):
            (report,), _ = one.ask("send", item)
            assert report.result == {
                "bytes": 8, "sha256": hashlib.sha256(b"a,b\n1,2\n").hexdigest(), "known": known,
            }  # fmt: skip
        (report,), _ = one.ask("look", item)
        assert report.ending is Ending.DONE
    assert _files(there) == {"sub/a.csv": b"a,b\n1,2\n"}
