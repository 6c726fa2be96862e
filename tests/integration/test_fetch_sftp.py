"""SFTP against a real OpenSSH server, through a tunnel that can stall, break and dawdle."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from inboxd.fetch.errors import Away, Gone, Refused, RemoteError, TooLarge, Unfit
from inboxd.fetch.part import Bounds, Part
from inboxd.fetch.sftp import SftpSource
from inboxd.wire import Listed, OrderedItem, SourceSpec
from support.sshd import Sshd, fingerprint, make_key
from support.tunnel import Tunnel
from support.words import chain

CANARY = "canary-6f1c"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    made = Sshd(tmp_path_factory.mktemp("sshd"))
    made.start()
    yield made
    made.stop()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The folder of the source."""
    made = tmp_path / "out"
    made.mkdir()
    return made


class Rig:
    """Sources of one server, and their items."""

    def __init__(self, server: Sshd, out: Path, incoming: Path, stack: ExitStack) -> None:
        self._server, self._out, self._incoming, self._stack = server, out, incoming, stack

    def spec(self, **changes: Any) -> SourceSpec:
        spans = {name: changes.pop(name) for name in ("connect", "idle", "total") if name in changes}
        place = {
            "host": "127.0.0.1", "port": self._server.port, "user": self._server.user, "key": self._server.key,
            "passphrase": None, "password": None, "known_hosts": str(self._server.known_hosts),
            "path": str(self._out), "recursive": False, "after": "leave", "when": "held",
        }  # fmt: skip
        return SourceSpec("sftp", {**place, **changes}, **{"connect": 10.0, "idle": 20.0, "total": 60.0, **spans})

    def source(self, **changes: Any) -> SftpSource:
        return self._stack.enter_context(closing(SftpSource(self.spec(**changes))))

    def part(self, total: float = 60.0, max_size: int = 1 << 30) -> Part:
        path = self._incoming / "one.part"
        return self._stack.enter_context(closing(Part(str(path), Bounds(max_size=max_size, total=total))))


@pytest.fixture
def rig(server: Sshd, out: Path, tmp_path: Path) -> Iterator[Rig]:
    with ExitStack() as stack:
        yield Rig(server, out, tmp_path, stack)


@pytest.fixture
def tunnel(server: Sshd) -> Iterator[Tunnel]:
    with closing(Tunnel(server.port)) as made:
        yield made


@pytest.fixture
def through(server: Sshd, rig: Rig, tunnel: Tunnel, tmp_path: Path) -> Callable[..., SftpSource]:
    """Sources behind the tunnel."""
    known = tmp_path / "known_hosts"
    known.write_text(server.known_hosts.read_text().replace(f":{server.port} ", f":{tunnel.port} "))
    return lambda **changes: rig.source(port=tunnel.port, known_hosts=str(known), **changes)


def order(listed: Listed) -> OrderedItem:
    return OrderedItem("0" * 24 + "1f0c97b2", item=listed.item, size=listed.size, version=listed.version)


def only(source: SftpSource) -> OrderedItem:
    (found,) = source.list()
    return order(found)


def test_regular_files_are_listed_and_nothing_else(rig: Rig, out: Path) -> None:
    (out / "a.csv").write_bytes(b"12345")
    os.utime(out / "a.csv", (1_700_000_000, 1_700_000_000))
    (out / "link").symlink_to("a.csv")
    (out / "folder").mkdir()
    (out / "folder" / "b.csv").write_bytes(b"1")
    os.mkfifo(out / "pipe")
    (out / os.fsdecode(b"\xe9t\xe9.csv")).write_bytes(b"x")
    found = sorted(rig.source().list())
    assert found[0] == Listed("a.csv", "a.csv", size=5, version="5-1700000000")
    assert [listed.item for listed in found] == ["a.csv", "\udce9t\udce9.csv"]


def test_folders_are_walked_when_asked_for_to_a_depth(rig: Rig, out: Path) -> None:
    deep = out
    for number in range(20):
        (deep / f"{number}.csv").write_bytes(b"x")
        deep = deep / "d"
        deep.mkdir()
    (out / "done").mkdir()
    (out / "done" / "old.csv").write_bytes(b"x")
    found = {listed.item for listed in rig.source(recursive=True, after={"move": "done"}).list()}
    assert found == {"d/" * number + f"{number}.csv" for number in range(17)}


def test_many_names(rig: Rig, out: Path) -> None:
    for number in range(1500):
        (out / f"{number}.csv").touch()
    source = rig.source()
    assert len({listed.item for listed in source.list()}) == 1500
    assert next(source.list()).size == 0  # a listing that is left in the middle disturbs nothing
    assert len(list(source.list())) == 1500


@pytest.mark.parametrize("size", [0, 1, 32768, 32769, 5_000_000])
def test_bytes_come_whole(rig: Rig, out: Path, size: int) -> None:
    content = os.urandom(size)
    (out / "a.bin").write_bytes(content)
    source, part = rig.source(), rig.part()
    item = only(source)
    source.fetch(item, part)
    assert part.finish(item.size, "")["sha256"] == hashlib.sha256(content).hexdigest()


def test_a_name_that_is_not_utf8_is_fetched_and_deleted(rig: Rig, out: Path) -> None:
    (out / os.fsdecode(b"\xe9.csv")).write_bytes(b"latin")
    source, part = rig.source(after="delete"), rig.part()
    item = only(source)
    source.fetch(item, part)
    source.ack(item)
    assert (part.size, list(out.iterdir())) == (5, [])


@pytest.mark.parametrize("item", ["../secret", "a/../../secret", "/etc/passwd", "", ".", "a//b", "a\0"])
def test_no_item_leads_out_of_the_folder(rig: Rig, item: str) -> None:
    source = rig.source(after="delete")
    hostile = OrderedItem("id", item=item, version="1-1")
    for attempt in (lambda: source.fetch(hostile, rig.part()), lambda: source.ack(hostile)):
        with pytest.raises(Unfit, match="no path below"):
            attempt()


def test_a_stall_is_away_and_the_next_try_goes_on(through: Any, rig: Rig, tunnel: Tunnel, out: Path) -> None:
    content = os.urandom(6_000_000)
    (out / "a.bin").write_bytes(content)
    source, part = through(idle=0.5), rig.part()
    item = only(source)
    tunnel.stall_after = tunnel.passed + 3_000_000
    began = time.monotonic()
    with pytest.raises(Away, match=r"timeout\.idle"):
        source.fetch(item, part)
    assert time.monotonic() - began < 10
    assert 1_000_000 < part.size < 6_000_000
    part.close()
    tunnel.stall_after = None
    again, before = rig.part(), tunnel.passed
    source.fetch(item, again)
    result = again.finish(item.size, "")
    assert result["sha256"] == hashlib.sha256(content).hexdigest()
    assert result["resumed"] > 1_000_000
    assert tunnel.passed - before < 6_000_000


def test_a_cut_is_away_and_the_next_try_goes_on(through: Any, rig: Rig, tunnel: Tunnel, out: Path) -> None:
    content = os.urandom(6_000_000)
    (out / "a.bin").write_bytes(content)
    source, part = through(), rig.part()
    item = only(source)
    tunnel.cut_after = tunnel.passed + 3_000_000
    with pytest.raises(Away, match="broke off"):
        source.fetch(item, part)
    tunnel.cut_after = None
    source.fetch(item, part)
    assert part.finish(item.size, "")["sha256"] == hashlib.sha256(content).hexdigest()


def test_a_connection_that_was_closed_meanwhile_is_made_anew(through: Any, tunnel: Tunnel, out: Path) -> None:
    (out / "a.csv").touch()
    source = through()
    assert len(list(source.list())) == 1
    tunnel.cut()
    with pytest.raises(Away):
        while True:  # until our side has noticed
            list(source.list())
            if tunnel.connections > 1:
                raise Away("noticed before it was asked")
    assert len(list(source.list())) == 1


def test_a_peer_that_dawdles_runs_into_the_total(through: Any, rig: Rig, tunnel: Tunnel, out: Path) -> None:
    (out / "a.bin").write_bytes(os.urandom(6_000_000))
    source = through()
    item = only(source)
    tunnel.delay = 0.02
    began = time.monotonic()
    with pytest.raises(Away, match=r"timeout\.total"):
        source.fetch(item, rig.part(total=1.0))
    assert time.monotonic() - began < 5


def test_an_item_that_is_too_large_leaves_the_connection_usable(rig: Rig, out: Path) -> None:
    (out / "a.bin").write_bytes(os.urandom(3_000_000))
    source = rig.source()
    item = only(source)
    with pytest.raises(TooLarge):
        source.fetch(item, rig.part(max_size=1_000_000))
    part = rig.part()
    source.fetch(item, part)
    assert part.size == 3_000_000


def test_a_silent_host_is_away_within_connect(rig: Rig, tunnel: Tunnel) -> None:
    tunnel.stall_after = 0
    began = time.monotonic()
    with pytest.raises(Away, match=r"timeout\.connect"):
        list(rig.source(port=tunnel.port, connect=0.5).list())
    assert time.monotonic() - began < 5


def test_a_closed_port_is_away(rig: Rig, tunnel: Tunnel) -> None:
    tunnel.close()
    with pytest.raises(Away, match="can't be reached"):
        list(rig.source(port=tunnel.port).list())


def test_an_unknown_host_key_is_refused(rig: Rig, server: Sshd, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_text("# nothing\nother.example ssh-ed25519 AAAA\n\n@cert-authority * ssh-ed25519 AAAA\n")
    with pytest.raises(Refused) as caught:
        list(rig.source(known_hosts=str(empty)).list())
    said = str(caught.value)
    assert f"[127.0.0.1]:{server.port}" in said
    assert fingerprint(server.folder / "host.pub") in said
    assert f"{empty} has no line" in said


def test_a_changed_host_key_is_refused(rig: Rig, server: Sshd, tmp_path: Path) -> None:
    make_key(tmp_path / "other")
    make_key(tmp_path / "rsa", "rsa")
    for name in ("other", "rsa"):
        kind, text = (tmp_path / f"{name}.pub").read_text().split()[:2]
        known = tmp_path / "known"
        known.write_text(f"[127.0.0.1]:{server.port} {kind} {text}\n")
        with pytest.raises(Refused, match="somebody may be in between") as caught:
            list(rig.source(known_hosts=str(known)).list())
        for part in (fingerprint(server.folder / "host.pub"), fingerprint(tmp_path / f"{name}.pub"), str(known)):
            assert part in str(caught.value)


def test_one_of_several_keys_and_a_hashed_name_are_known(rig: Rig, server: Sshd, tmp_path: Path) -> None:
    make_key(tmp_path / "other")
    known = tmp_path / "known"
    lines = []
    for public in (tmp_path / "other.pub", server.folder / "host.pub"):
        kind, text = public.read_text().split()[:2]
        lines.append(f"[127.0.0.1]:{server.port}\t{kind}  {text} old comment")
    known.write_text("\n".join(lines))
    assert list(rig.source(known_hosts=str(known)).list()) == []
    os.system(f"ssh-keygen -q -H -f {known} >/dev/null 2>&1")
    assert "127.0.0.1" not in known.read_text()
    assert list(rig.source(known_hosts=str(known)).list()) == []


def test_a_revoked_key_is_refused(rig: Rig, server: Sshd, tmp_path: Path) -> None:
    known = tmp_path / "known"
    line = server.known_hosts.read_text()
    known.write_text(f"{line}@revoked {line}")
    with pytest.raises(Refused, match="revoked"):
        list(rig.source(known_hosts=str(known)).list())


def test_without_a_file_of_hosts_nothing_is_trusted(rig: Rig, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"known_hosts .*missing: No such file"):
        list(rig.source(known_hosts=str(tmp_path / "missing")).list())


@pytest.mark.parametrize(
    ("kind", "passphrase", "form"),
    [("ed25519", CANARY, ""), ("rsa", "", ""), ("rsa", CANARY, "PEM"), ("ecdsa", "", "PEM"), ("ecdsa", CANARY, "")],
)
def test_keys_of_every_kind(rig: Rig, server: Sshd, tmp_path: Path, kind: str, passphrase: str, form: str) -> None:
    key = make_key(tmp_path / "k", kind, passphrase, form)
    before = (server.folder / "authorized_keys").read_bytes()
    server.trust(tmp_path / "k.pub")
    try:
        assert list(rig.source(key=key.strip(), passphrase=passphrase or None).list()) == []
        if passphrase:
            for wrong, words in ((None, "set `passphrase`"), (f"{CANARY}-wrong", "can't be read")):
                with pytest.raises(Refused, match=words) as caught:
                    list(rig.source(key=key, passphrase=wrong).list())
                assert CANARY not in chain(caught.value)
    finally:
        (server.folder / "authorized_keys").write_bytes(before)


def test_who_is_not_known_is_refused_without_a_secret_in_the_words(rig: Rig, tmp_path: Path) -> None:
    stranger = make_key(tmp_path / "stranger")
    for changes in (
        {"key": stranger}, {"key": stranger, "password": CANARY}, {"key": None, "password": CANARY},
        {"key": None}, {"key": f"-----BEGIN OPENSSH PRIVATE KEY-----\n{CANARY}\n-----END OPENSSH PRIVATE KEY-----"},
        {"key": CANARY},
    ):  # fmt: skip
        with pytest.raises(Refused) as caught:
            list(rig.source(**changes).list())
        assert CANARY not in chain(caught.value)


def test_no_key_of_an_agent_or_of_the_home_folder_is_used(
    rig: Rig, server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "id_ed25519").write_text(server.key)
    (tmp_path / ".ssh" / "known_hosts").write_text(server.known_hosts.read_text())
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(Refused):
        list(rig.source(key=make_key(tmp_path / "stranger")).list())
    (tmp_path / "empty").touch()
    with pytest.raises(Refused, match="has no line"):
        list(rig.source(known_hosts=str(tmp_path / "empty")).list())


def test_a_folder_that_is_missing_is_refused(rig: Rig, out: Path) -> None:
    with pytest.raises(Refused, match=r"can't be listed.*check `path`"):
        list(rig.source(path=str(out / "missing")).list())


def test_an_item_that_changed_is_not_taken(rig: Rig, out: Path) -> None:
    (out / "a.csv").write_bytes(b"first")
    source = rig.source(after="delete")
    item = only(source)
    (out / "a.csv").write_bytes(b"second, and longer")
    for attempt in (lambda: source.fetch(item, rig.part()), lambda: source.ack(item)):
        with pytest.raises(Unfit, match=r"a\.csv: it has changed"):
            attempt()
    assert (out / "a.csv").exists()


def test_an_item_that_changes_while_it_is_read_is_not_taken(rig: Rig, out: Path) -> None:
    (out / "a.csv").write_bytes(b"x" * 100_000)
    source = rig.source()
    item = only(source)

    class Meddling(Part):
        def write(self, data: bytes) -> None:
            super().write(data)
            os.utime(out / "a.csv", (1, 1))

    part = Meddling(str(out.parent / "m.part"), Bounds(max_size=1 << 20, total=60))
    with closing(part), pytest.raises(Unfit, match="it has changed"):
        source.fetch(item, part)


def test_bytes_of_another_version_are_forgotten(rig: Rig, out: Path) -> None:
    (out / "a.csv").write_bytes(b"the content")
    source, part = rig.source(), rig.part()
    part.restart("3-1")
    part.write(b"old")
    source.fetch(only(source), part)
    assert part.finish(11, "")["sha256"] == hashlib.sha256(b"the content").hexdigest()


def test_an_item_that_is_gone(rig: Rig, out: Path) -> None:
    (out / "a.csv").touch()
    for after in ("delete", {"move": "done"}):
        source = rig.source(after=after)
        (out / "a.csv").touch()
        item = only(source)
        (out / "a.csv").unlink()
        for attempt in (lambda s=source, i=item: s.fetch(i, rig.part()), lambda s=source, i=item: s.ack(i)):
            with pytest.raises(Gone, match=r"a\.csv"):
                attempt()


def test_leave_and_delete(rig: Rig, out: Path) -> None:
    (out / "a.csv").touch()
    source = rig.source()
    item = only(source)
    source.ack(item)
    assert (out / "a.csv").exists()
    remover = rig.source(after="delete")
    remover.ack(item)
    assert not (out / "a.csv").exists()
    with pytest.raises(Gone):
        remover.ack(item)


@pytest.mark.parametrize("folder", ["done/of/us", "ABSOLUTE"])
def test_move_makes_the_folder_and_overwrites_nothing(rig: Rig, out: Path, tmp_path: Path, folder: str) -> None:
    target = tmp_path / "else" if folder == "ABSOLUTE" else out / folder
    source = rig.source(after={"move": str(target) if folder == "ABSOLUTE" else folder})
    for content in (b"1", b"22", b"333"):
        (out / "a.csv").write_bytes(content)
        source.ack(only(source))
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {
        "a.csv": b"1", "a.1.csv": b"22", "a.2.csv": b"333",
    }  # fmt: skip
    assert [path for path in out.iterdir() if path.is_file()] == []


def test_a_folder_that_leads_nowhere_is_no_item_that_is_gone(rig: Rig, out: Path, tmp_path: Path) -> None:
    """OpenSSH's server says the same of both."""
    (out / "done").symlink_to(tmp_path / "not mounted")
    (out / "a.csv").write_bytes(b"1")
    source = rig.source(after={"move": "done"})
    item = only(source)
    with pytest.raises(Unfit, match=r"a\.csv: it is still there"):
        source.ack(item)
    (tmp_path / "not mounted").mkdir()
    source.ack(item)
    assert (tmp_path / "not mounted" / "a.csv").read_bytes() == b"1"


def test_an_error_is_one_of_ours(rig: Rig) -> None:
    with pytest.raises(RemoteError):
        list(rig.source(host="host.invalid").list())
