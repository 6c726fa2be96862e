"""Results that are sent to object stores: S3 against moto's server, and fsspec's other file systems against the disk."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from fsspec.implementations.local import LocalFileSystem
from fsspec.spec import AbstractFileSystem
from moto.server import ThreadedMotoServer
from s3fs.core import S3FileSystem
from s3fs.errors import translate_boto_error

from inboxd.fetch.errors import Away, Refused, Unfit, Unreadable
from inboxd.fetch.outgoing import Outgoing
from inboxd.model import Ending
from support.sending import Sender, fetcher, refusal
from support.tunnel import Tunnel

CANARY = "canary-3b7a"
KEY, SECRET = "AKIAEXAMPLEEXAMPLE", f"{CANARY}-secret"
_BIG = os.urandom(1 << 20) * 16


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server.get_host_and_port()[1]
    server.stop()


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
    """A bucket of its own, and destinations in it."""

    def __init__(self, port: int, folder: Path) -> None:
        self.port = port
        self.bucket = f"b-{uuid.uuid4().hex[:12]}"
        self.client = boto3.client(
            "s3", endpoint_url=f"http://127.0.0.1:{port}", aws_access_key_id="a", aws_secret_access_key="b",
            region_name="us-east-1",
        )  # fmt: skip
        self.client.create_bucket(Bucket=self.bucket)
        super().__init__("store", {"url": f"s3://{self.bucket}/in", "replace": False, **self.options(port)}, folder)

    @staticmethod
    def options(port: int) -> dict[str, Any]:
        """By which the server at this port is reached."""
        return {
            "options": {"key": KEY, "secret": SECRET, "client_kwargs": {"endpoint_url": f"http://127.0.0.1:{port}"}}
        }

    def put(self, key: str, content: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=key, Body=content)

    def keys(self) -> dict[str, bytes]:
        found = self.client.list_objects_v2(Bucket=self.bucket).get("Contents", [])
        return {one["Key"]: self.client.get_object(Bucket=self.bucket, Key=one["Key"])["Body"].read() for one in found}

    def begun(self) -> list[Any]:
        """Uploads in parts that are neither completed nor given up."""
        return list(self.client.list_multipart_uploads(Bucket=self.bucket).get("Uploads", []))

    def close(self) -> None:
        super().close()
        self.client.close()


@pytest.fixture
def rig(port: int, tmp_path: Path) -> Iterator[Rig]:
    made = Rig(port, tmp_path)
    yield made
    made.close()


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """A folder of the disk, as a store."""
    made = tmp_path / "there"
    made.mkdir()
    return made


@pytest.fixture
def disk(there: Path, tmp_path: Path) -> Iterator[Sender]:
    made = Sender("store", {"url": f"file://{there}", "options": {}, "replace": False}, tmp_path)
    yield made
    made.close()


def _files(folder: Path) -> dict[str, bytes]:
    return {str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*") if one.is_file()}


@pytest.mark.parametrize("data", [b"", b"1", _BIG[: 5 << 20], _BIG])
def test_a_result_appears_whole(rig: Rig, data: bytes) -> None:
    said = rig.send(rig.destination(), rig.result("sub/a.csv", data))
    assert said == (False, len(data), hashlib.sha256(data).hexdigest())
    assert rig.keys() == {"in/sub/a.csv": data}
    assert rig.begun() == []


@pytest.mark.parametrize("data", [b"", b"1", _BIG])
def test_a_result_appears_whole_on_disk(disk: Sender, there: Path, data: bytes) -> None:
    said = disk.send(disk.destination(), disk.result("sub/a.csv", data))
    assert said == (False, len(data), hashlib.sha256(data).hexdigest())
    assert _files(there) == {"sub/a.csv": data}


@pytest.mark.parametrize("name", [".hidden", "a b;'\"$(x)+%20.csv", "ü.csv", "a?b=c&d", "#~", "*.csv", "b[1].csv", "?"])
def test_names_go_as_they_are(rig: Rig, disk: Sender, there: Path, name: str) -> None:
    rig.send(rig.destination(), rig.result(name))
    assert set(rig.keys()) == {f"in/{name}"}
    disk.send(disk.destination(), disk.result(name))
    assert set(_files(there)) == {name}


@pytest.mark.parametrize("name", ["*.csv", "b[1].csv", "?.csv", "[!a].csv", "**"])
def test_a_pattern_goes_as_it_is_where_the_driver_has_no_renaming(
    disk: Sender, there: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalFileSystem, "mv", AbstractFileSystem.mv)
    beside = {"a.csv": b"other", "b.csv": b"other", "b1.csv": b"other"}
    for one, content in beside.items():
        (there / one).write_bytes(content)
    assert disk.send(disk.destination(), disk.result(name)).known is False
    assert disk.send(disk.destination(), disk.result(name)).known is True
    assert _files(there) == {**beside, name: b"a,b\n1,2\n"}


def test_a_name_that_the_place_does_not_take(rig: Rig, disk: Sender, there: Path) -> None:
    refusal(Unfit, lambda: rig.send(rig.destination(), rig.result("\udce9.csv")), "does not take it", CANARY)
    refusal(
        Unfit, lambda: rig.send(rig.destination(), rig.result("a?versionId=1")), "takes its name for another", CANARY
    )
    assert rig.keys() == {}
    disk.send(disk.destination(), disk.result("\udce9.csv"))
    assert set(_files(there)) == {"\udce9.csv"}
    refusal(Unfit, lambda: disk.send(disk.destination(), disk.result("x" * 256)), "does not take it")
    refusal(Unfit, lambda: disk.send(disk.destination(), disk.result("\udce9.csv/b")), "does not take it")
    assert set(_files(there)) == {"\udce9.csv"}


@pytest.mark.parametrize("name", ["../a", "a/../../b", "/etc/x", "", ".", "a//b"])
def test_no_name_leads_elsewhere(rig: Rig, name: str) -> None:
    refusal(Unfit, lambda: rig.send(rig.destination(), rig.result(name)), "no path below", CANARY)
    assert rig.keys() == {}


def test_memory_is_flat(rig: Rig, disk: Sender) -> None:
    """A part of S3 is 5 MiB, which its driver copies a few times."""
    for sender, most in ((rig, 48 << 20), (disk, 8 << 20)):
        with fetcher(sender.spec(total=60.0)) as one:
            (report,), _ = one.ask("send", sender.result("small"))
            assert report.ending is Ending.DONE, report
            before = one.most_memory()
            item = sender.result("big")._replace(size=128 << 20)
            os.truncate(item.path, 128 << 20)
            (report,), _ = one.ask("send", item)
            assert report.ending is Ending.DONE, report
            assert one.most_memory() - before < most


# What is there already


def test_a_lost_answer_is_recognised(rig: Rig, disk: Sender, there: Path) -> None:
    for sender in (rig, disk):
        destination, item = sender.destination(), sender.result("a.bin", _BIG)
        assert sender.send(destination, item).known is False
        assert sender.send(destination, item._replace(attempt=2)).known is True
    assert rig.keys() == {"in/a.bin": _BIG}
    assert _files(there) == {"a.bin": _BIG}


@pytest.mark.parametrize("other", [b"other!!!", b"of another length"])
def test_another_object_of_that_name_is_left_alone(rig: Rig, disk: Sender, there: Path, other: bytes) -> None:
    rig.put("in/a.csv", other)
    (there / "a.csv").write_bytes(other)
    for sender in (rig, disk):
        words = r"a\.csv: another one .*`replace: true`"
        refusal(Unfit, lambda one=sender: one.send(one.destination(), one.result()), words, CANARY)
    assert (rig.keys(), _files(there)) == ({"in/a.csv": other}, {"a.csv": other})


def test_a_name_that_is_taken_meanwhile(disk: Sender, there: Path) -> None:
    class Slow(Outgoing):
        def blocks(self, most: int = 1 << 20) -> Any:
            yield from super().blocks(most)
            (there / "a.csv").write_bytes(b"other")

    item = disk.result()
    with closing(Slow(item.path, item.size, 20.0)) as result:
        refusal(Unfit, lambda: disk.destination().send(item, result), "another one")
    assert _files(there) == {"a.csv": b"other"}


@pytest.mark.parametrize("spans", [{"idle": 0.5}, {"total": 0.5}])
def test_no_answer_to_the_first_question_is_no_answer(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, spans: dict[str, float]
) -> None:
    """fsspec makes None of a cancelled question, which is not to be read as: nothing is there."""
    rig.put("in/a.csv", b"other!!!")

    async def hang(*_: Any, **__: Any) -> None:
        await asyncio.sleep(30)

    monkeypatch.setattr(S3FileSystem, "_info", hang)
    destination = rig.destination(**spans)
    refusal(Away, lambda: rig.send(destination, rig.result(), spans.get("total", 20.0)), "timeout", CANARY)
    assert rig.keys() == {"in/a.csv": b"other!!!"}


def test_what_goes_while_it_is_looked_at_is_an_outage(
    rig: Rig, disk: Sender, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other side collects it between two questions: nothing of the place is missing."""
    for kind, sender in ((S3FileSystem, rig), (LocalFileSystem, disk)):
        destination, item = sender.destination(), sender.result()
        sender.send(destination, item)

        def gone(*_: Any, **__: Any) -> Any:
            rig.client.delete_object(Bucket=rig.bucket, Key="in/a.csv")
            (there / "a.csv").unlink(missing_ok=True)
            raise FileNotFoundError(2, "No such file or directory")

        with monkeypatch.context() as patch:
            patch.setattr(kind, "open", gone)
            refusal(Away, lambda: sender.send(destination, item), "went away while it was read", CANARY)  # noqa: B023
        assert sender.send(destination, item._replace(attempt=2)).known is False


def test_replace(rig: Rig, disk: Sender, there: Path) -> None:
    for sender in (rig, disk):
        destination = sender.destination(replace=True)
        for data in (b"1", b"22", b""):
            assert sender.send(destination, sender.result("a.csv", data)).known is False
    assert (rig.keys(), _files(there)) == ({"in/a.csv": b""}, {"a.csv": b""})
    (there / "b.csv").mkdir()
    refusal(Unfit, lambda: disk.send(disk.destination(replace=True), disk.result("b.csv")), "a folder of that name")


# Whose fault it is, and what is left behind


def test_what_is_missing_is_refused(rig: Rig, disk: Sender, there: Path) -> None:
    for sender, url in ((rig, "s3://no-such-bucket/in"), (disk, f"file://{there}/missing")):
        destination = sender.destination(url=url)
        refusal(Refused, lambda s=sender, d=destination: s.send(d, s.result()), f"{url} is not there", CANARY)
        refusal(Refused, destination.look, "check `url`", CANARY)
    assert list(there.iterdir()) == []


@pytest.mark.parametrize("status", [403, 503])
def test_what_a_store_says(rig: Rig, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    code = {403: "AccessDenied", 503: "SlowDown"}[status]

    async def refuse(*_: Any, **__: Any) -> Any:
        raise translate_boto_error(ClientError({"Error": {"Code": code, "Message": f"no {SECRET}"}}, "PutObject"))

    monkeypatch.setattr(S3FileSystem, "_call_s3", refuse)
    kind, words = {403: (Refused, "does not let us write"), 503: (Away, "can't be reached")}[status]
    refusal(kind, lambda: rig.send(rig.destination(), rig.result()), words, CANARY)


def test_a_store_that_is_away(rig: Rig) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        nobody = server.getsockname()[1]
    destination = rig.destination(**rig.options(nobody))
    refusal(Away, lambda: rig.send(destination, rig.result()), "can't be reached", CANARY)
    refusal(Away, destination.look, "can't be reached", CANARY)


@pytest.mark.parametrize("size", [4 << 20, 16 << 20])
@pytest.mark.parametrize(("spans", "words"), [({"idle": 4.0}, r"timeout\.idle"), ({"total": 5.0}, r"timeout\.total")])
def test_a_stall_is_cut_off(rig: Rig, size: int, spans: dict[str, float], words: str) -> None:
    """In one request, and in parts."""
    with closing(Tunnel(rig.port, window=4096)) as tunnel:
        destination = rig.destination(**rig.options(tunnel.port), **spans)
        destination.look()
        tunnel.hold_after = tunnel.sent + 50_000
        item, began = rig.result("a.bin", _BIG[:size]), time.monotonic()
        refusal(Away, lambda: rig.send(destination, item, spans.get("total", 20.0)), words, CANARY)
        assert time.monotonic() - began < 20, "and not for timeout.idle, 30 s, or until a tidying up is answered"
        assert rig.keys() == {}
        destination.close()
        tunnel.hold_after = None
        assert rig.send(destination, item).known is False
    assert rig.keys() == {"in/a.bin": _BIG[:size]}


def test_a_cut_leaves_nothing_to_be_seen(rig: Rig) -> None:
    with closing(Tunnel(rig.port)) as tunnel:
        destination, item = rig.destination(**rig.options(tunnel.port)), rig.result("a.bin", _BIG)
        destination.look()
        tunnel.cut_after = tunnel.passed + 1200
        refusal(Away, lambda: rig.send(destination, item), ".", CANARY)
        assert rig.keys() == {}


def test_a_failing_disk_leaves_nothing_there(rig: Rig, disk: Sender, there: Path) -> None:
    for sender in (rig, disk):
        destination, item = sender.destination(), sender.result("a.bin", _BIG)
        with closing(Broken(item.path, item.size, 20.0)) as result:
            refusal(
                Unreadable,
                lambda d=destination, i=item, r=result: d.send(i, r),
                r"result can't be read: Input/output error; look after the disk",
            )
        destination.close()
    assert (rig.keys(), rig.begun(), list(there.iterdir())) == ({}, [], [])


# To look, and in a process of its own


def test_a_look_leaves_nothing(rig: Rig, disk: Sender, there: Path) -> None:
    for sender in (rig, disk):
        assert "can be listed; nothing was sent" in sender.destination().look()
    assert (rig.keys(), list(there.iterdir())) == ({}, [])


def test_a_fetcher_sends_and_looks(rig: Rig) -> None:
    with fetcher(rig.spec()) as one:
        item = rig.result("sub/a.csv")
        for known in (False, True):
            (report,), _ = one.ask("send", item)
            assert report.result == {
                "bytes": 8, "sha256": hashlib.sha256(b"a,b\n1,2\n").hexdigest(), "known": known,
            }  # fmt: skip
        (report,), _ = one.ask("look", item)
        assert report.ending is Ending.DONE
    assert rig.keys() == {"in/sub/a.csv": b"a,b\n1,2\n"}
