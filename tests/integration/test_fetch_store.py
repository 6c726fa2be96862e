"""Object stores: S3 against moto's server, and fsspec's other file systems against the disk."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.spec import AbstractFileSystem
from moto.server import ThreadedMotoServer

from inboxd.fetch.errors import Away, Gone, Refused, TooLarge, Unfit
from inboxd.fetch.part import Bounds, Part
from inboxd.fetch.store import StoreSource
from inboxd.wire import OrderedItem, SourceSpec
from support.tunnel import Tunnel

CANARY = "canary-3b7a"
KEY, SECRET = "AKIAEXAMPLEEXAMPLE", f"{CANARY}-secret"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server.get_host_and_port()[1]
    server.stop()


class Rig:
    """A bucket of its own, and sources of it."""

    def __init__(self, port: int, tmp_path: Path, stack: ExitStack) -> None:
        self.port, self._tmp_path, self._stack = port, tmp_path, stack
        self.bucket = f"b-{uuid.uuid4().hex[:12]}"
        self.client = boto3.client(
            "s3", endpoint_url=f"http://127.0.0.1:{port}", aws_access_key_id="a", aws_secret_access_key="b",
            region_name="us-east-1",
        )  # fmt: skip
        self._stack.callback(self.client.close)
        self.client.create_bucket(Bucket=self.bucket)

    def put(self, key: str, content: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=key, Body=content)

    def keys(self) -> dict[str, bytes]:
        found = self.client.list_objects_v2(Bucket=self.bucket).get("Contents", [])
        return {one["Key"]: self.client.get_object(Bucket=self.bucket, Key=one["Key"])["Body"].read() for one in found}

    def source(self, **changes: Any) -> StoreSource:
        spans = {name: changes.pop(name) for name in ("connect", "idle", "total") if name in changes}
        options = {"key": KEY, "secret": SECRET, "client_kwargs": {"endpoint_url": f"http://127.0.0.1:{self.port}"}}
        place = {"url": f"s3://{self.bucket}/out", "options": options, "after": "leave", "when": "held", **changes}
        spec = SourceSpec("store", place, **{"connect": 10.0, "idle": 20.0, "total": 60.0, **spans})
        return self._stack.enter_context(closing(StoreSource(spec)))

    def part(self, max_size: int = 1 << 30) -> Part:
        made = Part(str(self._tmp_path / "one.part"), Bounds(max_size=max_size, total=60.0))
        return self._stack.enter_context(closing(made))


@pytest.fixture
def rig(port: int, tmp_path: Path) -> Iterator[Rig]:
    with ExitStack() as stack:
        yield Rig(port, tmp_path, stack)


def only(source: StoreSource) -> OrderedItem:
    (found,) = source.list()
    return named(source, found.item)


def named(source: StoreSource, item: str) -> OrderedItem:
    (found,) = (one for one in source.list() if one.item == item)
    return OrderedItem("0" * 24 + "1f0c97b2", item=found.item, size=found.size, version=found.version)


def test_objects_below_the_prefix_are_listed(rig: Rig) -> None:
    for key in ("out/a.csv", "out/deep/b.csv", "outside/c.csv", "d.csv", "out/empty/"):
        rig.put(key, b"12345")
    found = sorted(rig.source().list())
    assert [(one.item, one.name, one.size) for one in found] == [("a.csv", "a.csv", 5), ("deep/b.csv", "b.csv", 5)]
    assert found[0].version == hashlib.md5(b"12345").hexdigest()


def test_a_listing_is_never_remembered(rig: Rig) -> None:
    source = rig.source()
    assert list(source.list()) == []
    rig.put("out/a.csv", b"1")
    assert len(list(source.list())) == 1
    rig.put("out/b.csv", b"1")
    assert len(list(source.list())) == 2


@pytest.mark.parametrize("size", [0, 1, 9_000_001])
def test_bytes_come_whole(rig: Rig, size: int) -> None:
    content = os.urandom(size)
    rig.put("out/a.bin", content)
    source, part = rig.source(), rig.part()
    item = only(source)
    source.fetch(item, part)
    assert part.finish(item.size, "")["sha256"] == hashlib.sha256(content).hexdigest()


def test_a_later_try_goes_on(rig: Rig) -> None:
    rig.put("out/a.bin", b"0123456789")
    source, part = rig.source(), rig.part()
    item = only(source)
    part.restart(item.version)
    part.write(b"01234")
    part.close()
    again = rig.part()
    source.fetch(item, again)
    result = again.finish(10, "")
    assert (result["sha256"], result["resumed"]) == (hashlib.sha256(b"0123456789").hexdigest(), 5)


def test_an_item_that_changed_is_not_taken(rig: Rig) -> None:
    rig.put("out/a.csv", b"first")
    source = rig.source(after="delete")
    item = only(source)
    rig.put("out/a.csv", b"other")
    for attempt in (lambda: source.fetch(item, rig.part()), lambda: source.ack(item)):
        with pytest.raises(Unfit, match=r"a\.csv: it has changed"):
            attempt()
    assert rig.keys() == {"out/a.csv": b"other"}


def test_an_item_that_changes_while_it_is_read_is_not_taken(rig: Rig, tmp_path: Path) -> None:
    rig.put("out/a.csv", b"x" * 9_000_000)
    source = rig.source()
    item = only(source)

    class Meddling(Part):
        def write(self, data: bytes) -> None:
            super().write(data)
            rig.put("out/a.csv", b"y" * 9_000_000)

    part = Meddling(str(tmp_path / "m.part"), Bounds(max_size=1 << 30, total=60))
    with closing(part), pytest.raises(Unfit, match="it has changed"):
        source.fetch(item, part)


def test_an_item_that_is_too_large(rig: Rig) -> None:
    rig.put("out/a.csv", b"x" * 100)
    source = rig.source()
    with pytest.raises(TooLarge):
        source.fetch(only(source), rig.part(max_size=99))


def test_leave_delete_and_gone(rig: Rig) -> None:
    rig.put("out/a.csv", b"1")
    source, remover = rig.source(), rig.source(after="delete")
    item = only(source)
    source.ack(item)
    assert rig.keys() == {"out/a.csv": b"1"}
    remover.ack(item)
    assert rig.keys() == {}
    for attempt in (lambda: remover.ack(item), lambda: source.fetch(item, rig.part())):
        with pytest.raises(Gone, match=r"a\.csv"):
            attempt()


@pytest.mark.parametrize(("folder", "prefix"), [("done", "out/done"), ("/done/of us", "done/of us")])
def test_move_overwrites_nothing(rig: Rig, folder: str, prefix: str) -> None:
    source = rig.source(after={"move": folder})
    for content in (b"1", b"22", b"333"):
        rig.put("out/a.csv", content)
        source.ack(only(source))
    assert rig.keys() == {f"{prefix}/a.csv": b"1", f"{prefix}/a.1.csv": b"22", f"{prefix}/a.2.csv": b"333"}
    assert list(source.list()) == []


_BESIDE = {"a.csv": b"1", "report1.csv": b"1", "deep/a.csv": b"1"}


@pytest.mark.parametrize("after", ["delete", {"move": "done"}], ids=["delete", "move"])
@pytest.mark.parametrize("name", ["*.csv", "report[1].csv", "?.csv", "**", "[!a].csv"])
def test_a_name_that_is_a_pattern_too_stands_for_itself_alone(rig: Rig, name: str, after: Any) -> None:
    """What else the pattern fits, and may not be fetched yet, stays; what is there once it has been moved does, too."""
    source, moved = rig.source(after=after), dict[str, bytes]()
    stem, dot, ending = name.rpartition(".")
    for content, target in ((b"22", name), (b"333", f"{stem}.1.{ending}" if dot else f"{name}.1")):
        for beside, one in {**_BESIDE, name: content}.items():
            rig.put(f"out/{beside}", one)
        item = named(source, name)
        with closing(rig.part()) as part:
            source.fetch(item, part)
            assert part.finish(item.size, "")["sha256"] == hashlib.sha256(content).hexdigest()
        source.ack(item)
        moved |= {} if after == "delete" else {f"done/{target}": content}
        assert rig.keys() == {f"out/{one}": there for one, there in {**_BESIDE, **moved}.items()}


def test_a_driver_without_renaming_moves_one_alone(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalFileSystem, "mv", AbstractFileSystem.mv)
    out = tmp_path / "out"
    out.mkdir()
    for one in ("*.csv", "a.csv"):
        (out / one).write_bytes(one.encode())
    source = rig.source(url=f"file://{out}", options={}, after={"move": "done"})
    source.ack(named(source, "*.csv"))
    assert {str(one.relative_to(out)) for one in out.rglob("*.csv")} == {"a.csv", "done/*.csv"}


def test_a_name_that_means_another_object_to_the_driver_is_not_taken(rig: Rig) -> None:
    for key in ("out/a.csv", "out/a.csv?versionId=1"):
        rig.put(key, b"the same")
    source = rig.source(after="delete")
    item = named(source, "a.csv?versionId=1")
    for attempt in (source.ack, lambda one: source.fetch(one, rig.part())):
        with pytest.raises(Unfit, match="takes its name for another"):
            attempt(item)
    assert len(rig.keys()) == 2


@pytest.mark.parametrize("item", ["../secret", "/x", "", "a//b"])
def test_no_item_leads_out_of_the_prefix(rig: Rig, item: str) -> None:
    source = rig.source(after="delete")
    for attempt in (source.ack, lambda hostile: source.fetch(hostile, rig.part())):
        with pytest.raises(Unfit, match="no path below"):
            attempt(OrderedItem("id", item=item, version="1"))


def test_a_bucket_that_is_missing_is_refused(rig: Rig) -> None:
    with pytest.raises(Refused, match="check `url`"):
        list(rig.source(url="s3://no-such-bucket/out").list())


def test_a_store_that_is_away_says_no_secret(rig: Rig) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        rig.port = server.getsockname()[1]
    with pytest.raises(Away, match="can't be reached") as caught:
        list(rig.source().list())
    assert CANARY not in f"{caught.value!r} {caught.value.__cause__!r}"
    assert caught.value.__suppress_context__


def test_a_store_that_is_silent_is_away(rig: Rig) -> None:
    with closing(Tunnel(rig.port)) as tunnel:
        tunnel.stall_after = 0
        rig.port = tunnel.port
        with pytest.raises(Away):
            list(rig.source(idle=0.5).list())


@pytest.mark.parametrize("fault", ["stall_after", "cut_after"])
def test_bytes_that_stall_or_break_off_are_away_and_the_next_try_goes_on(rig: Rig, fault: str) -> None:
    content = os.urandom(12_000_000)
    rig.put("out/a.bin", content)
    with closing(Tunnel(rig.port)) as tunnel:
        rig.port = tunnel.port
        source = rig.source(idle=1.0)
        item = only(source)
        setattr(tunnel, fault, tunnel.passed + 6_000_000)
        began = time.monotonic()
        with pytest.raises(Away, match="can't be reached"), closing(rig.part()) as part:
            source.fetch(item, part)
        assert time.monotonic() - began < 15
        setattr(tunnel, fault, None)
        again = rig.part()
        assert 1_000_000 < again.size < 12_000_000
        with closing(rig.source()) as afresh:  # as a fetcher does after a failure
            afresh.fetch(item, again)
        result = again.finish(item.size, "")
    assert result["sha256"] == hashlib.sha256(content).hexdigest()
    assert result["resumed"] > 1_000_000


class _Endless(BaseHTTPRequestHandler):
    """A bucket whose listing has always one page more, of so many objects."""

    each = 1000

    def do_GET(self) -> None:
        """Whatever is asked."""
        number = int(re.search(r"continuation-token=(\d+)|$", self.path)[1] or 0)  # type: ignore[index]
        one = "<Contents><Key>out/{}-{}</Key><Size>1</Size><ETag>x</ETag></Contents>"
        body = (
            f"<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>{number + 1}</NextContinuationToken>"
            + "".join(one.format(number, each) for each in range(self.each))
            + "</ListBucketResult>"
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_about: object) -> None:
        """Nothing."""


@pytest.fixture
def endless(rig: Rig) -> Iterator[type[_Endless]]:
    handler = type("Handler", (_Endless,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        rig.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield handler
        server.shutdown()
        thread.join()


def test_a_listing_without_end_is_read_as_far_as_it_is_wanted(rig: Rig, endless: type[_Endless]) -> None:
    found = [one.item for one in itertools.islice(rig.source().list(), 5000)]
    assert len(set(found)) == 5000
    assert found[-1] == "4-999"


@pytest.mark.parametrize("each", [0, 10])
def test_a_listing_without_end_meets_the_total(rig: Rig, endless: type[_Endless], each: int) -> None:
    endless.each = each
    with pytest.raises(Away, match=r"timeout\.total"):
        deque(rig.source(total=1.0).list(), maxlen=0)


@pytest.mark.parametrize("size", [6, 14])
def test_a_store_that_lies_about_a_size_does_so_at_the_items_cost(
    rig: Rig, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second time at the latest: the source, and what else it has, goes on."""
    folder = tmp_path / "store"
    folder.mkdir()
    (folder / "a.csv").write_bytes(b"0123456789")
    true = LocalFileSystem.info
    monkeypatch.setattr(
        LocalFileSystem, "info", lambda self, *about, **more: true(self, *about, **more) | {"size": size}
    )
    source = rig.source(url=f"file://{folder}", options=None)
    item = only(source)
    assert item.size == size
    with pytest.raises(Unfit):
        for _ in range(2):
            with closing(rig.part()) as part, contextlib.suppress(Away):
                source.fetch(item, part)
                part.finish(item.size, "")
    assert only(source) == item


@pytest.mark.parametrize("options", [{}, {"key": KEY}, {"anon": False}, None])
def test_credentials_come_from_the_options_alone(
    rig: Rig, options: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    with pytest.raises(Refused, match="`key` and `secret`"):
        list(rig.source(options=options).list())


def test_the_environment_and_the_home_folder_change_nothing(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.put("out/a.csv", b"1")
    (tmp_path / "config").write_text("[broken")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    assert only(rig.source()).item == "a.csv"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sftp://h/x", "sections of their own"), ("http://h/x", "sections of their own"),
        ("simplecache::s3://b/x", "sections of their own"), ("nosuch://b/x", r"pip install 'inboxd\[store\]'"),
    ],
)  # fmt: skip
def test_what_is_no_store_is_refused(rig: Rig, url: str, words: str) -> None:
    with pytest.raises(Refused, match=words):
        list(rig.source(url=url).list())


def test_a_missing_driver_is_refused_with_the_command_that_helps() -> None:
    program = (
        "import sys; sys.modules['s3fs'] = None\n"
        "from inboxd.fetch.store import StoreSource; from inboxd.wire import SourceSpec\n"
        "place = {'url': 's3://b/x', 'options': {'anon': True}, 'after': 'leave', 'when': 'held'}\n"
        "list(StoreSource(SourceSpec('store', place, 1.0, 1.0, 1.0)).list())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert "Refused" in done.stderr
    assert "pip install 'inboxd[store]'" in done.stderr


def test_any_file_system_of_fsspec_is_a_store(rig: Rig, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.csv").write_bytes(b"local")
    source, part = rig.source(url=f"file://{out}", options={}, after={"move": "done"}), rig.part()
    item = only(source)
    source.fetch(item, part)
    assert part.finish(5, "")["sha256"] == hashlib.sha256(b"local").hexdigest()
    source.ack(item)
    assert (out / "done" / "a.csv").read_bytes() == b"local"
    assert list(source.list()) == []
    with pytest.raises(Refused, match="check `url`"):
        list(rig.source(url=f"file://{tmp_path}/missing", options={}).list())
