"""FTP against a real server, with TLS and without, through a tunnel that can stall and break."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import time
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from inboxd.fetch.errors import Away, Gone, Refused, TooLarge, Unfit
from inboxd.fetch.ftp import FtpSource
from inboxd.fetch.ftp_session import Session
from inboxd.fetch.part import Bounds, Part
from inboxd.model import Ending, Report
from inboxd.wire import OrderedItem, SourceSpec
from support.faults import fault
from support.ftpd import Authority, Ftpd
from support.sending import Fetcher, fetcher
from support.tunnel import Tunnel
from support.words import chain

CANARY = "canary-9d2e"
OLD = ("MLSD", "MLST", "FEAT")  # what servers of the last century have not


class Rig:
    """A server of one folder, and sources of it."""

    def __init__(self, tmp_path: Path, stack: ExitStack) -> None:
        self.tmp_path, self._stack = tmp_path, stack
        self.out = tmp_path / "home" / "out"
        self.out.mkdir(parents=True)
        self.authority = Authority(tmp_path)
        self.port = 0

    def serve(self, tls: bool = False, certified: str = "127.0.0.1", without: tuple[str, ...] = ()) -> Ftpd:
        certificate = self.authority.issue(certified) if tls else None
        made = self._stack.enter_context(closing(Ftpd(self.out.parent, CANARY, certificate, without)))
        self.port = made.port
        return made

    def data_tunnels(self, server: Ftpd, **faults: Any) -> list[Tunnel]:
        """One for each transfer from now on, with these faults."""
        made: list[Tunnel] = []

        def through(port: int) -> int:
            one = self._stack.enter_context(closing(Tunnel(port)))
            for name, value in faults.items():
                setattr(one, name, value)
            made.append(one)
            return one.port

        server.route_data(through)
        return made

    def tunnel(self) -> Tunnel:
        made = self._stack.enter_context(closing(Tunnel(self.port)))
        self.port = made.port
        return made

    def spec(self, **changes: Any) -> SourceSpec:
        spans = {name: changes.pop(name) for name in ("connect", "idle", "total", "max_items") if name in changes}
        place = {
            "host": "127.0.0.1", "port": self.port, "user": Ftpd.user, "password": CANARY, "tls": "none",
            "authority": str(self.authority.file), "cleartext": False, "path": "/out", "after": "leave", "when": "held",
        }  # fmt: skip
        return SourceSpec("ftp", {**place, **changes}, **{"connect": 10.0, "idle": 20.0, "total": 60.0, **spans})

    def source(self, **changes: Any) -> FtpSource:
        return self._stack.enter_context(closing(FtpSource(self.spec(**changes))))

    def part(self, **bounds: Any) -> Part:
        made = Part(str(self.tmp_path / "one.part"), Bounds(**{"max_size": 1 << 30, "total": 60.0, **bounds}))
        return self._stack.enter_context(closing(made))


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with ExitStack() as stack:
        yield Rig(tmp_path, stack)


def only(source: FtpSource) -> OrderedItem:
    (found,) = source.list()
    return OrderedItem("0" * 24 + "1f0c97b2", item=found.item, size=found.size, version=found.version)


KINDS = pytest.mark.parametrize(
    ("tls", "without"), [(True, ()), (False, ()), (False, OLD), (False, (*OLD, "MDTM"))], ids=["tls", "plain", "old", "older"]
)  # fmt: skip


@KINDS
def test_files_are_listed_and_come_whole(rig: Rig, tls: bool, without: tuple[str, ...]) -> None:
    content = os.urandom(3_000_001)
    (rig.out / "a b.bin").write_bytes(content)
    (rig.out / "folder").mkdir()
    rig.serve(tls, without=without)
    source, part = rig.source(tls="explicit" if tls else "none"), rig.part()
    item = only(source)
    assert (item.item, item.size) == ("a b.bin", len(content))
    source.fetch(item, part)
    assert part.finish(item.size, "")["sha256"] == hashlib.sha256(content).hexdigest()
    assert only(source) == item


def test_a_server_that_tells_no_sizes_is_refused_and_not_taken_for_an_empty_one(rig: Rig) -> None:
    (rig.out / "a.csv").write_bytes(b"0")
    rig.serve(without=(*OLD, "SIZE"))
    with pytest.raises(Refused, match="neither MLSD nor SIZE"):
        list(rig.source().list())


@KINDS
def test_leave_delete_and_move(rig: Rig, tls: bool, without: tuple[str, ...]) -> None:
    rig.serve(tls, without=without)
    mode = "explicit" if tls else "none"
    (rig.out / "a.csv").write_bytes(b"0")
    leaver = rig.source(tls=mode)
    leaver.ack(only(leaver))
    assert (rig.out / "a.csv").exists()
    remover = rig.source(tls=mode, after="delete")
    item = only(remover)
    remover.ack(item)
    assert list(rig.out.iterdir()) == []
    with pytest.raises(Gone, match=r"a\.csv"):
        remover.ack(item)
    mover = rig.source(tls=mode, after={"move": "done/of us"})
    for content in (b"1", b"22", b"333"):
        (rig.out / "a.csv").write_bytes(content)
        mover.ack(only(mover))
    assert {path.name: path.read_bytes() for path in (rig.out / "done" / "of us").iterdir()} == {
        "a.csv": b"1", "a.1.csv": b"22", "a.2.csv": b"333",
    }  # fmt: skip
    with pytest.raises(Gone):
        mover.ack(item)


def _says(server: Ftpd, command: str, answer: str) -> Callable[[], None]:
    """Have it answer a command so, until what is returned is called."""
    name = f"ftp_{command}"
    true = getattr(server.handler, name)
    setattr(server.handler, name, lambda self, *_: self.respond(answer))
    return lambda: setattr(server.handler, name, true)


@fault(
    "Sources and destinations",
    "an FTP server that lets a file be neither deleted nor moved",
    how="550 in words for any failure",
    shows="not taken for gone: told again until it is done",
)
@pytest.mark.parametrize("without", [(), OLD], ids=["facts", "old"])
@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("DELE", "550 Delete operation failed."), ("DELE", "550 Read-only file system."),
        ("RNFR", "550 RNFR command failed."), ("RNTO", "550 Rename failed."),
    ],
)  # fmt: skip
def test_what_is_still_there_is_not_gone(rig: Rig, command: str, answer: str, without: tuple[str, ...]) -> None:
    server = rig.serve(without=without)
    (rig.out / "a.csv").write_bytes(b"1")
    source = rig.source(after="delete" if command == "DELE" else {"move": "done"})
    item = only(source)
    give_way = _says(server, command, answer)
    for _ in range(2):
        with pytest.raises(Unfit, match=rf"a\.csv: it is still there .*{answer}"):
            source.ack(item)
    assert (rig.out / "a.csv").exists()
    give_way()
    source.close()
    source.ack(item)
    assert not (rig.out / "a.csv").exists()


def test_what_goes_at_the_last_moment_is_gone(rig: Rig) -> None:
    server = rig.serve()
    (rig.out / "a.csv").write_bytes(b"1")
    source = rig.source(after="delete")
    item = only(source)

    def dele(self: Any, path: str) -> None:
        os.unlink(path)
        self.respond("550 Delete operation failed.")

    server.handler.ftp_DELE = dele  # type: ignore[attr-defined]
    with pytest.raises(Gone, match=r"a\.csv"):
        source.ack(item)


def test_a_file_that_can_t_be_read_now_is_not_gone(rig: Rig) -> None:
    server = rig.serve()
    (rig.out / "a.csv").write_bytes(b"1")
    source = rig.source()
    item = only(source)
    give_way = _says(server, "RETR", "550 The process cannot access the file: another one uses it.")
    with pytest.raises(Unfit, match=r"a\.csv: it is still there .*another one uses it"):
        source.fetch(item, rig.part())
    give_way()
    source.close()
    part = rig.part()
    source.fetch(item, part)
    assert part.size == 1


@KINDS
def test_an_item_that_changed_is_not_taken(rig: Rig, tls: bool, without: tuple[str, ...]) -> None:
    rig.serve(tls, without=without)
    (rig.out / "a.csv").write_bytes(b"first")
    source = rig.source(tls="explicit" if tls else "none", after="delete")
    item = only(source)
    (rig.out / "a.csv").write_bytes(b"second, and longer")
    for attempt in (lambda: source.fetch(item, rig.part()), lambda: source.ack(item)):
        with pytest.raises(Unfit, match=r"a\.csv: it has changed"):
            attempt()
    assert (rig.out / "a.csv").exists()


@pytest.mark.parametrize("without", [(), OLD], ids=["facts", "old"])
def test_an_empty_folder_is_no_failure_and_a_missing_one_is_refused(rig: Rig, without: tuple[str, ...]) -> None:
    rig.serve(without=without)
    assert list(rig.source().list()) == []
    with pytest.raises(Refused, match="check `path`"):
        list(rig.source(path="/missing").list())


def test_who_calls_an_empty_folder_missing_is_believed(rig: Rig) -> None:
    _says(rig.serve(without=OLD), "NLST", "550 No files found.")
    assert list(rig.source().list()) == []


@pytest.mark.parametrize("answer", ["550 Permission denied.", "553 Not allowed.", "502 Command not implemented."])
def test_a_folder_that_may_not_be_listed_is_not_called_empty(rig: Rig, answer: str) -> None:
    server = rig.serve(without=OLD)
    (rig.out / "a.csv").touch()
    give_way = _says(server, "NLST", answer)
    source = rig.source()
    with pytest.raises(Refused, match=rf"/out .* can't be listed: .*{answer}.* check `path`"):
        list(source.list())
    give_way()
    source.close()
    assert only(source).item == "a.csv"


def test_names_that_end_with_a_failure_are_not_taken_for_all(rig: Rig) -> None:
    """And not for none."""
    server = rig.serve(without=OLD)
    (rig.out / "a.csv").touch()
    true = server.handler.respond

    def respond(self: Any, answer: str, *more: Any, **about: Any) -> None:
        true(self, "550 Input/output error." if answer.startswith("226") else answer, *more, **about)

    server.handler.respond = respond
    with pytest.raises(Refused, match=r"can't be listed: .*Input/output error"):
        list(rig.source().list())


def test_a_name_that_is_not_utf8(rig: Rig) -> None:
    rig.serve().handler.encoding = "latin-1"
    (rig.out / "é.csv").write_bytes(b"four")
    source, part = rig.source(after="delete"), rig.part()
    item = only(source)
    source.fetch(item, part)
    source.ack(item)
    assert (part.size, list(rig.out.iterdir())) == (4, [])


@pytest.mark.parametrize("item", ["../secret", "/etc/passwd", "", "a\r\nDELE b", "a\nb"])
def test_no_item_leads_out_of_the_folder_or_to_another_command(rig: Rig, item: str) -> None:
    rig.serve()
    source = rig.source(after="delete")
    hostile = OrderedItem("id", item=item, version="1-1")
    for attempt in (lambda: source.fetch(hostile, rig.part()), lambda: source.ack(hostile)):
        with pytest.raises(Unfit):
            attempt()


@pytest.mark.parametrize("tls", [True, False])
def test_a_cut_transfer_is_away_and_the_next_try_goes_on(rig: Rig, tls: bool) -> None:
    content = os.urandom(3_000_000)
    (rig.out / "a.bin").write_bytes(content)
    rig.serve(tls)
    source = rig.source(tls="explicit" if tls else "none")
    item = only(source)

    class Breaking(Part):
        def write(self, data: bytes) -> None:
            super().write(data)
            if self.size > 1_000_000:
                raise Away("the connection broke")

    part = Breaking(str(rig.tmp_path / "one.part"), Bounds(max_size=1 << 30, total=60.0))
    with closing(part), pytest.raises(Away):
        source.fetch(item, part)
    again = rig.part()
    source.fetch(item, again)
    result = again.finish(item.size, "")
    assert result["sha256"] == hashlib.sha256(content).hexdigest()
    assert result["resumed"] > 1_000_000


TLS = pytest.mark.parametrize("tls", [True, False], ids=["tls", "plain"])


def _kept(rig: Rig, tls: bool) -> tuple[Ftpd, FtpSource, OrderedItem, bytes]:
    """One file of 6 MB, listed by a source that does not wait long."""
    content = os.urandom(6_000_000)
    (rig.out / "a.bin").write_bytes(content)
    server = rig.serve(tls)
    source = rig.source(tls="explicit" if tls else "none", idle=0.5)
    return server, source, only(source), content


def _goes_on(rig: Rig, source: FtpSource, item: OrderedItem, content: bytes) -> None:
    """A later try brings the rest."""
    part = rig.part()
    assert 1_000_000 < part.size < 6_000_000
    source.fetch(item, part)
    result = part.finish(item.size, "")
    assert result["sha256"] == hashlib.sha256(content).hexdigest()
    assert result["resumed"] > 1_000_000


@TLS
@pytest.mark.parametrize(("fault", "words"), [("stall_after", r"timeout\.idle"), ("cut_after", "broke off|ended it")])
def test_data_that_stall_or_break_off_are_away_and_the_next_try_goes_on(
    rig: Rig, tls: bool, fault: str, words: str
) -> None:
    server, source, item, content = _kept(rig, tls)
    faults = {fault: 3_000_000}
    tunnels = rig.data_tunnels(server, **faults)
    began = time.monotonic()
    with pytest.raises(Away, match=words), closing(rig.part()) as part:
        source.fetch(item, part)
    assert time.monotonic() - began < 10
    assert len(tunnels) == 1
    rig.data_tunnels(server)
    _goes_on(rig, source, item, content)


@TLS
def test_data_that_dawdle_run_into_the_total(rig: Rig, tls: bool) -> None:
    server, source, item, content = _kept(rig, tls)
    rig.data_tunnels(server, delay=0.002)
    began = time.monotonic()
    with pytest.raises(Away, match=r"timeout\.total"), closing(rig.part(total=0.5)) as part:
        source.fetch(item, part)
    assert time.monotonic() - began < 5
    server.route_data(lambda port: port)
    part = rig.part()
    source.fetch(item, part)
    assert part.finish(item.size, "")["sha256"] == hashlib.sha256(content).hexdigest()


@fault(
    "Sources and destinations",
    "a slow listing",
    how="most of it under way at the deadline",
    shows="not taken for a whole one",
)
@TLS
def test_a_listing_that_runs_into_the_total_is_not_taken_for_a_whole_one(rig: Rig, tls: bool) -> None:
    """The server has said that all of it was sent, and we have hung up before it has arrived."""
    for number in range(3000):
        (rig.out / f"{number:0100d}.csv").touch()
    server = rig.serve(tls)
    rig.data_tunnels(server, delay=0.05)
    source = rig.source(tls="explicit" if tls else "none", total=0.6)
    with pytest.raises(Away, match=r"timeout\.total"):
        deque(source.list())
    server.route_data(lambda port: port)
    whole = rig.source(tls="explicit" if tls else "none")
    assert len(list(whole.list())) == 3000


def _other_size(change: int) -> Callable[[Iterator[bytes]], Iterator[bytes]]:
    """Sizes are off by so many bytes."""

    def lines(true: Iterator[bytes]) -> Iterator[bytes]:
        for line in true:
            yield re.sub(rb"size=(\d+)", lambda found: b"size=%d" % (int(found[1]) + change), line)

    return lines


@pytest.mark.parametrize(("change", "words"), [(-4, "more came than"), (4, "gives no more than 10")])
def test_a_server_that_lies_about_a_size_does_so_at_the_items_cost(rig: Rig, change: int, words: str) -> None:
    """The second time at the latest: the source, and what else it has, goes on."""
    (rig.out / "a.bin").write_bytes(b"0123456789")
    server = rig.serve()
    server.list_as(_other_size(change))
    source = rig.source()
    item = only(source)
    assert item.size == 10 + change
    try:
        with closing(rig.part()) as part:
            source.fetch(item, part)
    except (Away, Unfit):
        pass
    with pytest.raises(Unfit, match=words), closing(rig.part()) as part:
        source.fetch(item, part)
    assert only(source) == item


@pytest.fixture
def fetch(rig: Rig) -> Iterator[Callable[[OrderedItem], Report]]:
    """By a fetcher process, once the server is there; each call is the next try."""
    with ExitStack() as stack:
        made: list[Fetcher] = []

        def fetch(item: OrderedItem) -> Report:
            if not made:
                made.append(stack.enter_context(fetcher(rig.spec())))
            (report,), _ = made[0].ask("fetch", item._replace(path=str(rig.tmp_path / "one.part")))
            return report

        yield fetch


def _begun(rig: Rig, here: bytes) -> OrderedItem:
    """The only item, of which an earlier try has brought this."""
    item = only(rig.source())
    with closing(rig.part()) as part:
        part.restart(item.version)
        part.write(here)
    return item


def _sha256_of(report: Report) -> Any:
    assert report.ending is Ending.DONE, report
    assert report.result is not None
    return report.result["sha256"]


@fault(
    "Sources and destinations",
    "an FTP server that can't begin in the middle",
    how="a yes to REST, and all of the file",
    shows="what came is thrown away; the next try brings it whole",
)
@pytest.mark.parametrize("here", [500, 500_000])
def test_a_server_that_says_yes_to_rest_and_sends_all_of_it(rig: Rig, fetch: Any, here: int) -> None:
    content = os.urandom(2 * here)
    (rig.out / "a.bin").write_bytes(content)
    rig.serve().handler.ftp_REST = lambda self, _line: self.respond("350 Restarting")  # type: ignore[attr-defined]
    item = _begun(rig, content[:here])
    report = fetch(item)
    assert (report.ending, "more came than" in report.message) == (Ending.FAILED, True)
    assert _sha256_of(fetch(item)) == hashlib.sha256(content).hexdigest()


def test_a_passing_no_does_not_cost_what_is_here_already(rig: Rig, fetch: Any) -> None:
    content, here = os.urandom(1_000_000), 900_000
    (rig.out / "a.bin").write_bytes(content)
    handler = rig.serve().handler
    true = handler.ftp_RETR
    handler.ftp_RETR = lambda self, _file: self.respond("550 It is being used by another process.")
    item = _begun(rig, content[:here])
    report = fetch(item)
    assert (report.ending, "being used" in report.message) == (Ending.FAILED, True)
    handler.ftp_RETR = true
    report = fetch(item)
    assert _sha256_of(report) == hashlib.sha256(content).hexdigest()
    assert report.result is not None and report.result["resumed"] == here


@pytest.mark.parametrize("change", [-(5 << 16), 100_000], ids=["longer", "shorter"])
def test_a_file_of_another_length_than_its_server_says_is_never_taken(rig: Rig, fetch: Any, change: int) -> None:
    (rig.out / "a.bin").write_bytes(os.urandom(10 << 16))
    rig.serve().list_as(_other_size(change))
    item = only(rig.source())
    endings = [fetch(item).ending for _ in range(4)]
    assert Ending.FAILED in endings[:2]
    assert Ending.DONE not in endings


def test_what_came_of_a_file_that_was_changed_and_changed_back_is_thrown_away(rig: Rig, fetch: Any) -> None:
    """The version that the bytes were asked for is there again, though it is not the one that they are of."""
    path, times = rig.out / "a.bin", (1_700_000_000, 1_700_000_000)
    server = rig.serve()

    def write(content: bytes) -> None:
        path.write_bytes(content)
        os.utime(path, times)

    write(b"first" * 100_000)
    item = only(rig.source())
    write(b"other" * 100_000)
    true = server.handler.ftp_RETR

    def retr(self: Any, file: str) -> Any:
        os.utime(path, (1, 1))
        return true(self, file)

    server.handler.ftp_RETR = retr
    report = fetch(item)
    assert (report.ending, "it has changed" in report.message) == (Ending.FAILED, True)
    server.handler.ftp_RETR = true
    write(b"first" * 100_000)
    assert _sha256_of(fetch(item)) == hashlib.sha256(b"first" * 100_000).hexdigest()


def _lines_without_end(kind: bytes) -> Callable[[Iterator[bytes]], Iterator[bytes]]:
    def lines(_true: Iterator[bytes]) -> Iterator[bytes]:
        for number in itertools.count():
            yield b"type=%s;size=1;modify=20261127101500; %d.csv\r\n" % (kind, number)

    return lines


def test_a_listing_without_end_is_read_as_far_as_it_is_wanted(rig: Rig) -> None:
    server = rig.serve()
    server.list_as(_lines_without_end(b"file"))
    source = rig.source()
    found = source.list()
    assert [one.item for one in itertools.islice(found, 5000)] == [f"{number}.csv" for number in range(5000)]
    found.close()  # type: ignore[attr-defined]
    assert next(source.list()).item == "0.csv"


@pytest.mark.parametrize("without", [(), OLD], ids=["facts", "old"])
@pytest.mark.parametrize("most", [7, 8, 9])
def test_more_names_than_are_wanted_are_cut_off(rig: Rig, without: tuple[str, ...], most: int) -> None:
    """And the connection is as good as before, or made anew."""
    for number in range(8):
        (rig.out / f"{number}.csv").touch()
    rig.serve(without=without)
    poll = OrderedItem("0" * 32, path=str(rig.tmp_path / "one.listing"))
    with fetcher(rig.spec(max_items=most)) as one:
        for _ in range(2):
            (report,), _ = one.ask("poll", poll)
            assert (report.ending, report.result) == (
                Ending.DONE, {"items": min(most, 8), "skipped": 0, "cut": most < 8},
            )  # fmt: skip


def test_names_without_end_meet_the_total(rig: Rig) -> None:
    rig.serve(without=OLD).name_as(b"%d.csv\r\n" % number for number in itertools.count())
    began = time.monotonic()
    with pytest.raises(Away, match=r"timeout\.total"):
        list(rig.source(total=1.0, max_items=100).list())
    assert time.monotonic() - began < 6


def test_a_session_that_is_closed_is_away(rig: Rig) -> None:
    rig.serve()
    session = Session(rig.spec())
    session.close()
    for attempt in (
        lambda: session.look("/out/a"), lambda: list(session.entries()), lambda: list(session.blocks("/out/a", 0)),
        lambda: session.erase("/out/a"), lambda: session.shift("/out/a", "/out/b"), lambda: session.is_folder("/out"),
    ):  # fmt: skip
        with pytest.raises(Away, match="was hung up on"):
            attempt()
    assert not session.answers()


@pytest.mark.parametrize("kind", [b"dir", b"file"])
def test_a_listing_without_end_meets_the_total(rig: Rig, kind: bytes) -> None:
    """Though it has no items, or all of them are wanted; and nothing of it is kept."""
    server = rig.serve()
    server.list_as(_lines_without_end(kind))
    source = rig.source(total=1.5)
    tracemalloc.start()
    began = time.monotonic()
    try:
        with pytest.raises(Away, match=r"timeout\.total"):
            deque(source.list(), maxlen=0)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
    assert time.monotonic() - began < 6


def test_a_name_without_end_is_away(rig: Rig) -> None:
    server = rig.serve()
    server.list_as(lambda _true: itertools.repeat(b"x" * 1000))
    with pytest.raises(Away, match="a name of more than"):
        list(rig.source().list())


def test_a_server_without_rest_begins_again(rig: Rig) -> None:
    (rig.out / "a.bin").write_bytes(b"0123456789")
    rig.serve(without=("REST",))
    source, part = rig.source(), rig.part()
    item = only(source)
    part.restart(item.version)
    part.write(b"01234")
    source.fetch(item, part)
    assert part.finish(10, "")["sha256"] == hashlib.sha256(b"0123456789").hexdigest()


def test_an_item_that_is_too_large_is_not_taken_and_the_source_goes_on(rig: Rig) -> None:
    (rig.out / "a.bin").write_bytes(os.urandom(2_000_000))
    rig.serve()
    source = rig.source()
    item = only(source)
    with pytest.raises(TooLarge):
        source.fetch(item, rig.part(max_size=1_000_000))
    part = rig.part()
    source.fetch(item, part)
    assert part.size == 2_000_000


def test_a_silent_server_is_away(rig: Rig) -> None:
    rig.serve()
    tunnel = rig.tunnel()
    tunnel.stall_after = 0
    began = time.monotonic()
    with pytest.raises(Away, match=r"timeout\.connect"):
        list(rig.source(connect=0.5).list())
    tunnel.stall_after = None
    source = rig.source(idle=0.5)
    assert list(source.list()) == []
    tunnel.stall_after = tunnel.passed + 10  # in the answer to the next command but one
    with pytest.raises(Away, match=r"timeout\.idle"):
        list(source.list())
    assert time.monotonic() - began < 10


def test_a_connection_that_was_closed_meanwhile_is_made_anew(rig: Rig) -> None:
    rig.serve()
    tunnel = rig.tunnel()
    source = rig.source()
    assert list(source.list()) == []
    tunnel.cut()
    assert list(source.list()) == []
    tunnel.close()
    with pytest.raises(Away, match="broke off"):
        list(source.list())


@pytest.mark.parametrize(("certified", "words"), [("other.example", "IP address mismatch"), ("127.0.0.1", "issuer")])
def test_a_certificate_that_is_not_theirs_is_refused(rig: Rig, certified: str, words: str, tmp_path: Path) -> None:
    rig.serve(tls=True, certified=certified)
    stranger = Authority(tmp_path, "Stranger")
    authority = rig.authority if certified == "other.example" else stranger
    with pytest.raises(Refused, match=f"not to be trusted.*{words}") as caught:
        list(rig.source(tls="explicit", authority=str(authority.file)).list())
    assert CANARY not in chain(caught.value)


def test_the_systems_authorities_are_asked_when_none_is_given(rig: Rig) -> None:
    rig.serve(tls=True)
    with pytest.raises(Refused, match="not to be trusted"):
        list(rig.source(tls="explicit", authority=None).list())


def test_a_server_without_tls_is_refused_before_the_password(rig: Rig) -> None:
    server = rig.serve()
    heard: list[str] = []
    server.handler.pre_process_command = lambda self, line, cmd, arg: (  # type: ignore[method-assign]
        heard.append(cmd),
        super(server.handler, self).pre_process_command(line, cmd, arg),
    )
    with pytest.raises(Refused, match="offers no TLS"):
        list(rig.source(tls="explicit").list())
    assert heard == ["AUTH"]


def test_clear_text_leaves_this_machine_only_when_allowed(rig: Rig) -> None:
    for host in ("ftp.invalid", "192.0.2.1", "localhost.example"):
        with pytest.raises(Refused, match="clear text"):
            list(rig.source(host=host).list())
    with pytest.raises(Away):
        list(rig.source(host="ftp.invalid", cleartext=True).list())


def test_a_wrong_password_is_refused_without_a_secret_in_the_words(rig: Rig) -> None:
    rig.serve(tls=True)
    for password in (f"{CANARY}-wrong", None, f"{CANARY}\r\nQUIT"):
        with pytest.raises(Refused, match="user") as caught:
            list(rig.source(tls="explicit", password=password).list())
        assert CANARY not in chain(caught.value)


def test_an_authority_that_can_t_be_read_is_refused(rig: Rig, tmp_path: Path) -> None:
    rig.serve(tls=True)
    (tmp_path / "junk.pem").write_text("junk")
    for path in (tmp_path / "missing.pem", tmp_path / "junk.pem"):
        with pytest.raises(Refused, match=f"authority {path}"):
            list(rig.source(tls="explicit", authority=str(path)).list())


def test_many_names(rig: Rig) -> None:
    for number in range(2000):
        (rig.out / f"{number:0100d}.csv").touch()
    rig.serve()
    source: Callable[[], Iterator[Any]] = rig.source().list
    assert len({listed.item for listed in source()}) == 2000
    next(source())
    assert len(list(source())) == 2000
