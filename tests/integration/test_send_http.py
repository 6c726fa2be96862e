"""Results that are sent over HTTP: what a server gets, what its answers mean, and how long it may take."""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import socket
import ssl
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import inboxd
from inboxd.fetch.errors import Away, Gone, Refused, Unfit, Unreadable
from inboxd.fetch.outgoing import Outgoing
from inboxd.model import Ending
from support.certificates import Authority
from support.receiver import Receiver, Taking, accept, break_off, dawdle, lose_the_answer, refuse, stall
from support.sending import ID, Sender, fetcher, refusal
from support.wait import wait_until

CANARY = "canary-9b1e"
_BIG = os.urandom(1 << 20) * 16  # more than the kernel keeps for two sockets


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


class Rig(Sender):
    """Destinations at one receiver."""

    def __init__(self, receiver: Receiver, folder: Path, **place: Any) -> None:
        usual = {
            "url": f"{receiver.url}/in/{{name}}", "method": "PUT", "content_type": "text/csv", "headers": {},
            "auth": {"bearer": CANARY}, "certificate": None, "authority": None, "known": [], "cleartext": False,
        }  # fmt: skip
        super().__init__("http", {**usual, **place}, folder)
        self.receiver = receiver


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("tls"), "ca")
    made.certify("server")
    return made


@pytest.fixture(params=["http", "https"])
def rig(request: pytest.FixtureRequest, authority: Authority, tmp_path: Path) -> Iterator[Rig]:
    """In clear text and within TLS: their sockets are not the same."""
    context = None
    if request.param == "https":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        folder = authority.file.parent
        context.load_cert_chain(folder / "server.pem", folder / "server.key")
    with Receiver(context) as receiver:
        made = Rig(receiver, tmp_path, authority=str(authority.file) if context else None)
        yield made
        made.close()


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Rig]:
    with Receiver() as receiver:
        made = Rig(receiver, tmp_path)
        yield made
        made.close()


# What a server gets


@pytest.mark.parametrize("data", [b"", b"a,b\n1,2\n", _BIG])
def test_a_result_goes_in_one_request(rig: Rig, data: bytes) -> None:
    said = rig.send(rig.destination(), rig.result("a.csv", data))
    assert said == (False, len(data), hashlib.sha256(data).hexdigest())
    (sent,) = rig.receiver.log()
    assert (sent.method, sent.path) == ("PUT", "/in/a.csv")
    assert hashlib.sha256(sent.body).hexdigest() == said.sha256
    wanted = {
        "Content-Length": str(len(data)), "Content-Type": "text/csv", "Idempotency-Key": f'"{ID}"',
        "Repr-Digest": f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:",
        "Authorization": f"Bearer {CANARY}", "User-Agent": f"inboxd/{inboxd.__version__} (+drop-folder daemon)",
    }  # fmt: skip
    assert wanted.items() <= sent.headers.items()
    assert not {"Transfer-Encoding", "Expect", "Cookie"} & set(sent.headers)


def test_connections_are_used_again(rig: Rig) -> None:
    destination = rig.destination()
    for _ in range(4):
        rig.send(destination, rig.result())
    assert len({sent.port for sent in rig.receiver.log()}) == 1


def test_a_connection_that_ended_meanwhile_is_made_again(rig: Rig) -> None:
    has_ended = threading.Event()

    def take(taking: Taking) -> None:
        accept()(taking)  # which says nothing of an end
        taking.close_connection = True
        taking.connection.shutdown(socket.SHUT_RDWR)
        has_ended.set()

    rig.receiver.take = take
    destination = rig.destination()
    for _ in range(4):
        has_ended.clear()
        rig.send(destination, rig.result())
        assert has_ended.wait(10)
    assert len(rig.receiver.log()) == 4


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (".hidden", "/in/.hidden"), ("a b&c?.csv", "/in/a%20b%26c%3F.csv"), ("sub/ü.csv", "/in/sub%2F%C3%BC.csv"),
        ("\udce9.csv", "/in/%E9.csv"), ("a\n\x1b.csv", "/in/a%0A%1B.csv"), ("%2e", "/in/%252e"),
    ],
)  # fmt: skip
def test_names_go_as_they_are(plain: Rig, name: str, path: str) -> None:
    plain.send(plain.destination(), plain.result(name))
    assert plain.receiver.log()[0].path == path


@pytest.mark.parametrize("name", ["../a", "a/../../b", "/etc/x", "", ".", ".."])
def test_no_name_leads_elsewhere(plain: Rig, name: str) -> None:
    refusal(Unfit, lambda: plain.send(plain.destination(), plain.result(name)), "no path below")
    assert plain.receiver.log() == []


def test_post_by_id_with_headers_of_ours(plain: Rig) -> None:
    url = f"{plain.receiver.url}/in?id={{id}}"
    chosen = plain.destination(url=url, method="POST", headers={"X-Tenant": "t1", "accept": "text/plain"}, auth=None)
    plain.send(chosen, plain.result())
    (sent,) = plain.receiver.log()
    assert (sent.method, sent.path, sent.headers["X-Tenant"], sent.headers["Accept"]) == (
        "POST", f"/in?id={ID}", "t1", "text/plain",
    )  # fmt: skip


def test_memory_is_flat(plain: Rig) -> None:
    with open(plain.folder / "result", "wb") as stream:
        stream.truncate(256 << 20)

    def take(taking: Taking) -> None:
        left = int(taking.headers["Content-Length"])
        while left:
            left -= len(taking.rfile.read1(min(left, 65536)))
        taking.answer(201)

    plain.receiver.take = take
    item = plain.result()._replace(size=256 << 20)
    os.truncate(item.path, 256 << 20)
    tracemalloc.start()
    try:
        plain.send(plain.destination(), item)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_the_environment_is_not_asked(plain: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    plain.send(plain.destination(), plain.result())
    assert len(plain.receiver.log()) == 1


# What answers mean


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_any_2xx_is_a_yes(plain: Rig, status: int) -> None:
    plain.receiver.take = accept(status)
    assert plain.send(plain.destination(), plain.result()).known is False


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, Unfit), (402, Unfit), (406, Unfit), (409, Unfit), (411, Unfit), (412, Unfit), (413, Unfit), (414, Unfit),
     (415, Unfit), (418, Unfit), (422, Unfit), (431, Unfit), (451, Unfit),
     (301, Refused), (302, Refused), (304, Refused), (307, Refused), (308, Refused),
     (401, Refused), (403, Refused), (404, Refused), (405, Refused), (407, Refused), (410, Refused),
     (408, Away), (425, Away), (429, Away), (500, Away), (501, Away), (503, Away), (507, Away), (599, Away)],
)  # fmt: skip
def test_whose_fault_it_is(plain: Rig, status: int, kind: Any) -> None:
    plain.receiver.take = accept(status, CANARY.encode(), Location="http://127.0.0.1:1/", Retry_After="7")
    failure = refusal(kind, lambda: plain.send(plain.destination(), plain.result()), str(status), CANARY)
    assert failure.after == (7.0 if kind is Away else None)
    assert len(plain.receiver.log()) == 1, "nothing is sent twice at one try, and nowhere else"


def test_what_is_known_is_a_yes(plain: Rig) -> None:
    plain.receiver.take = accept(409, b"have it")
    assert plain.send(plain.destination(known=[409, 412]), plain.result()).known is True
    refusal(Unfit, lambda: plain.send(plain.destination(known=[412]), plain.result()), "409")


def test_what_is_known_may_be_said_early(rig: Rig) -> None:
    rig.receiver.take = refuse(409, 1 << 20, hang_up=False)
    destination, item = rig.destination(known=[409]), rig.result("a.bin", _BIG)
    assert rig.send(destination, item).known is True
    rig.receiver.take = accept()
    assert rig.send(destination, item).known is False
    assert rig.receiver.taken()[-1] == _BIG, "what was broken off does not meet the next request"


def test_a_lost_answer_is_asked_for_again_under_the_same_key(rig: Rig) -> None:
    rig.receiver.take = lose_the_answer
    destination, item = rig.destination(known=[409]), rig.result()
    refusal(Away, lambda: rig.send(destination, item), ".", CANARY)
    assert len(rig.receiver.log()) == 1, "the daemon tries again, and counts"
    rig.receiver.take = accept(409)
    assert rig.send(destination, item._replace(attempt=2)).known is True
    first, second = rig.receiver.log()
    assert (first.headers["Idempotency-Key"], first.body) == (second.headers["Idempotency-Key"], second.body)


@pytest.mark.parametrize(
    "head", ["HTTP/1.1 201 Cre", "HTTP/1.1 201 Created\r\n", "HTTP/1.1 409 x\r\nContent-Length: 0\r\n"]
)
def test_an_answer_whose_head_is_cut_off_is_none(rig: Rig, head: str) -> None:
    def take(taking: Taking) -> None:
        taking.note(taking.read())
        taking.wfile.write(head.encode())
        taking.close_connection = True

    rig.receiver.take = take
    destination = rig.destination(known=[409])
    refusal(Away, lambda: rig.send(destination, rig.result()), "it hung up in the middle of its answer", CANARY)
    assert len(rig.receiver.log()) == 1, "the daemon tries again, and counts"


@pytest.mark.parametrize(
    "line", [{"Content_Length": "5x"}, {"Content_Length": "5, 6"}, {"Transfer_Encoding": "gzip, chunked"}]
)
def test_a_yes_whose_body_nobody_can_read_is_one(plain: Rig, line: dict[str, str]) -> None:
    plain.receiver.take = lambda taking: (taking.note(taking.read()), taking.answer(201, b"hello", **line))
    destination = plain.destination()
    for _ in range(2):
        plain.send(destination, plain.result())
    assert len({sent.port for sent in plain.receiver.log()}) == 2, "nothing of it is taken for the next answer"


def test_a_long_answer_is_not_read(plain: Rig) -> None:
    def take(taking: Taking) -> None:
        taking.note(taking.read())
        taking.wfile.write(b"HTTP/1.1 201 x\r\nContent-Length: 99999999999\r\n\r\n")
        while not taking.receiver.ending.is_set():
            taking.wfile.write(b"x" * 65536)

    plain.receiver.take = take
    destination, began = plain.destination(), time.monotonic()
    for _ in range(2):
        plain.send(destination, plain.result())
    assert time.monotonic() - began < 2


# A server that says no before it has everything


@pytest.mark.parametrize("hang_up", [True, False])
@pytest.mark.parametrize("after", [0, 1 << 20])
@pytest.mark.parametrize(("status", "kind"), [(401, Refused), (413, Unfit), (503, Away)])
def test_an_early_no_is_heard(rig: Rig, status: int, kind: Any, after: int, hang_up: bool) -> None:
    rig.receiver.take = refuse(status, after, hang_up=hang_up)
    destination, item, began = rig.destination(), rig.result("a.bin", _BIG), time.monotonic()
    refusal(kind, lambda: rig.send(destination, item), str(status), CANARY)
    assert time.monotonic() - began < 3
    rig.receiver.take = accept()
    assert rig.send(destination, item).bytes == len(_BIG)
    assert rig.receiver.taken()[-1] == _BIG, "what was broken off does not meet the next request"


def test_an_early_yes_is_believed_when_all_is_sent(rig: Rig) -> None:
    def take(taking: Taking) -> None:
        taking.answer(201)
        taking.note(taking.read())

    rig.receiver.take = take
    rig.send(rig.destination(), rig.result("a.bin", _BIG))
    wait_until(lambda: rig.receiver.taken() == [_BIG], "what was sent")


def test_an_early_yes_without_the_rest_is_none(rig: Rig) -> None:
    rig.receiver.take = refuse(201, 1 << 20)
    refusal(Away, lambda: rig.send(rig.destination(), rig.result("a.bin", _BIG)), "before it had all", CANARY)


# How long it may take


@pytest.mark.parametrize("after", [0, 2 << 20])
def test_a_stall_ends_at_idle(rig: Rig, after: int) -> None:
    rig.receiver.take = stall(after)
    item, began = rig.result("a.bin", _BIG), time.monotonic()
    refusal(Away, lambda: rig.send(rig.destination(idle=0.6), item), r"timeout\.idle", CANARY)
    assert 0.5 < time.monotonic() - began < 4


def test_silence_after_all_of_it_ends_at_idle(rig: Rig) -> None:
    rig.receiver.take = stall(1 << 30)
    began = time.monotonic()
    refusal(Away, lambda: rig.send(rig.destination(idle=0.6), rig.result()), r"timeout\.idle", CANARY)
    assert 0.5 < time.monotonic() - began < 4


def test_dawdling_ends_at_total(rig: Rig) -> None:
    rig.receiver.take = dawdle
    item, began = rig.result("a.bin", _BIG), time.monotonic()
    refusal(Away, lambda: rig.send(rig.destination(total=1.5), item, total=1.5), r"timeout\.total", CANARY)
    assert 1.0 < time.monotonic() - began < 4


@pytest.mark.parametrize("after", [0, 1 << 20])
def test_a_reset_is_away(rig: Rig, after: int) -> None:
    rig.receiver.take = break_off(after)
    refusal(Away, lambda: rig.send(rig.destination(), rig.result("a.bin", _BIG)), ".", CANARY)


def test_nobody_there_is_away(plain: Rig) -> None:
    destination = plain.destination(url="http://127.0.0.1:1/{id}")
    refusal(Away, lambda: plain.send(destination, plain.result()), "no connection to 127", CANARY)
    refusal(Away, destination.look, "no connection to 127", CANARY)


def test_who_is_not_who_it_should_be_is_refused(rig: Rig, tmp_path: Path) -> None:
    if rig.receiver.url.startswith("https"):
        other = Authority(tmp_path, "other")
        destination = rig.destination(authority=str(other.file))
        for attempt in (lambda: rig.send(destination, rig.result()), destination.look):
            refusal(Refused, attempt, "not who it should be", CANARY)
        assert rig.receiver.log() == []


# Our own side


def test_a_result_that_is_not_what_was_recorded_is_not_sent(plain: Rig, tmp_path: Path) -> None:
    destination, item = plain.destination(), plain.result()
    (tmp_path / "link").symlink_to(item.path)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name, words in (("missing", "any more"), ("link", "regular"), ("folder", "regular"), ("pipe", "regular")):
        hostile = item._replace(path=str(tmp_path / name), size=None)
        refusal(Gone, lambda hostile=hostile: plain.send(destination, hostile), words)
    refusal(Unfit, lambda: plain.send(destination, item._replace(size=99)), "99 were recorded")
    assert plain.receiver.log() == []


def test_a_result_that_changes_on_its_way_is_never_completed(plain: Rig) -> None:
    item = plain.result("a.bin", _BIG)

    class Meddled(Outgoing):
        def sha256(self) -> str:
            found = super().sha256()
            os.pwrite(os.open(item.path, os.O_WRONLY), b"other", 0)
            return found

    with closing(Meddled(item.path, item.size, 20.0)) as result:
        refusal(Unfit, lambda: plain.destination().send(item, result), "changed")
    assert all(len(body) < len(_BIG) for body in plain.receiver.taken())


def test_a_failing_disk_is_not_the_servers_fault(plain: Rig) -> None:
    item = plain.result("a.bin", _BIG)
    with closing(Broken(item.path, item.size, 20.0)) as result:
        refusal(
            Unreadable,
            lambda: plain.destination().send(item, result),
            r"result can't be read: Input/output error; look after the disk",
        )


def test_a_result_that_cant_be_read_is_charged(plain: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that a destination could help; but what the whole process lacks is not this result's fault."""
    for code, words in ((errno.EACCES, "let the user of inboxd read it"), (errno.ESTALE, "look after the disk")):
        monkeypatch.setattr("inboxd.fetch.outgoing.os.open", _fails(code))
        refusal(
            Unreadable, lambda: plain.send(plain.destination(), plain.result()), f"result can't be read: .*; {words}"
        )
    monkeypatch.setattr("inboxd.fetch.outgoing.os.open", _fails(errno.EMFILE))
    with pytest.raises(OSError, match="Too many open files"):
        plain.send(plain.destination(), plain.result())


def _fails(code: int) -> Any:
    def fail(*_: Any) -> int:
        raise OSError(code, os.strerror(code))

    return fail


# To look


@pytest.mark.parametrize("status", [200, 401, 403, 404, 405, 501])
def test_a_look_sends_nothing(rig: Rig, status: int) -> None:
    rig.receiver.take = accept(status)
    found = rig.destination().look()
    assert f"127.0.0.1:{rig.receiver.port} answers ({status}); nothing was sent" in found
    assert ("may refuse them likewise; check `auth`" in found) == (status in (401, 403))
    (sent,) = rig.receiver.log()
    assert (sent.method, sent.path, sent.body) == ("HEAD", "/", b"")


def test_a_look_at_a_server_in_trouble(plain: Rig) -> None:
    plain.receiver.take = accept(503)
    refusal(Away, plain.destination().look, "503", CANARY)


# In a process of its own


def test_a_fetcher_sends_and_looks(plain: Rig) -> None:
    def slowly(taking: Taking) -> None:
        taking.read(1 << 20)
        time.sleep(1.2)  # what is left does not fit into the sockets, and longer than a second is told of
        taking.read(15 << 20)
        taking.answer(201)

    with fetcher(plain.spec()) as one:
        item = plain.result("a.csv")
        (report,), _ = one.ask("send", item)
        digest = hashlib.sha256(b"a,b\n1,2\n").hexdigest()
        assert (report.file_id, report.ending) == (ID, Ending.DONE)
        assert report.result == {"bytes": 8, "sha256": digest, "known": False}
        (report,), _ = one.ask("look", item)
        assert "answers (201)" in (report.result or {})["found"]
        (report,), _ = one.ask("send", item._replace(path="/nowhere"))
        assert report[:2] == (ID, Ending.REJECTED), "gone from work/"
        (report,), _ = one.ask("send", item._replace(path="/sys/bus/platform/uevent", size=None))
        assert (report.ending, report.error_class) == (Ending.FAILED, "Unreadable"), "which not even root may read"
        assert "/sys/bus/platform/uevent can't be read: Permission denied" in report.message
        plain.receiver.take = accept(401)
        reports, _ = one.ask("send", item, item._replace(id="2" * 32))
        assert [report.ending for report in reports] == [Ending.BROKEN, Ending.RELEASED]
        plain.receiver.take = slowly
        (report,), notes = one.ask("send", plain.result("a.bin", _BIG))
        assert report.ending is Ending.DONE
        assert notes and all(note.event == "sending" and note.fields["id"] == ID for note in notes)
