"""Messages survive any cut of the stream, nothing a child sends gets further than here, and marks outlive orders."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inboxd.model import Ending, Report
from inboxd.wire import (
    LARGEST,
    LARGEST_FILES,
    BrokenFrame,
    DatabaseSpec,
    Frames,
    HandlerSpec,
    Mark,
    Message,
    Note,
    Order,
    OrderedFile,
    Ready,
    Reports,
    Setup,
    decode,
    encode,
    read_mark,
    read_marks,
    size_at_most,
    write_mark,
)

ID = "0193abcd" * 4
REPORT = Report(
    ID, Ending.RETRY, 1.5, {"rows": [1, None]}, 30.0, "Timeout", "l\u00e4ter \x00", "Traceback \udcff", output="\u2028"
)
MESSAGES: list[Message] = [
    Setup(
        {
            "main": HandlerSpec(python="m:f", batch=True, options={"a": [1]}),
            "other": HandlerSpec(command=("x", "{path}")),
        },
        {"db": DatabaseSpec("sqlite:///x", 5.0)},
        ("/etc/inboxd",),
    ),
    Setup({}, {}),
    Order(ID, "main", (OrderedFile(ID, "/work/\udcff", "\udcff\n", 1 << 40, 2, ino=(1 << 64) - 1),), hash="sha256"),
    Order(ID, "main", ()),
    Ready(7),
    Ready(7, {"main": "no module"}),
    Reports(ID, (REPORT, Report(ID, Ending.PROCESSED)), last=True, rss=1 << 30),
    Reports(ID, (), last=False),
    Note("database.opened", {"seconds": 0.25}),
]

_texts = st.text(st.characters(), max_size=20)  # lone surrogates too
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=8,
)
_spans = st.floats(0, 1e11)
_reports = st.builds(
    Report, _texts, st.sampled_from(Ending), _spans, st.none() | st.dictionaries(_texts, _values, max_size=3),
    st.none() | _spans, _texts, _texts, _texts, st.booleans(), _texts,
)  # fmt: skip


def framed(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


# Frames


@given(st.lists(st.sampled_from(MESSAGES), max_size=4), st.lists(st.integers(0, 4000), max_size=12))
def test_frames_may_be_cut_at_any_byte(messages: list[Message], cuts: list[int]) -> None:
    stream = b"".join(map(encode, messages))
    ends = [*sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    frames = Frames()
    parts = [stream[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
    assert [message for part in parts for message in frames.feed(part)] == messages


def test_frames_come_byte_by_byte() -> None:
    frames = Frames()
    stream = b"".join(map(encode, MESSAGES))
    given_out = [message for at in range(len(stream)) for message in frames.feed(stream[at : at + 1])]
    assert given_out == MESSAGES


@given(st.lists(_reports, max_size=3), _texts, st.booleans())
def test_reports_arrive_as_they_were_sent(reports: list[Report], batch: str, last: bool) -> None:
    sent = Reports(batch, tuple(reports), last)
    assert list(Frames().feed(encode(sent))) == [sent]


def test_a_frame_is_ascii_behind_its_length() -> None:
    frame = encode(MESSAGES[0])
    assert frame[:4] == struct.pack(">I", len(frame) - 4)
    assert frame[4:].isascii()


def test_a_frame_that_claims_too_much_is_broken_before_it_is_gathered() -> None:
    with pytest.raises(BrokenFrame, match="longer"):
        list(Frames().feed(struct.pack(">I", LARGEST + 1)))
    assert list(Frames().feed(struct.pack(">I", LARGEST))) == []


@pytest.mark.parametrize("character", ["\N{GRINNING FACE}", "\udcff", "\0", '"', "a"])
def test_an_order_of_the_longest_files_is_no_longer_than_a_child_takes(character: str) -> None:
    work, folder, name = f"/{character * 2000}", "/".join([character * 255] * 64), character * 255
    file_id, number = "f" * 32, (1 << 64) - 1
    longest = OrderedFile(
        id=file_id, path=f"{work}/{file_id}.{'e' * 16}", name=name, size=number, attempt=number, folder=folder,
        results=f"{work}/results/{file_id}", source="s" * 64, dev=number, ino=number, mtime_ns=-number,
    )  # fmt: skip
    size = size_at_most(2 * len(work) + len(folder) + len(name))
    frame = encode(Order("b" * 32, "i" * 64, (longest,) * (LARGEST_FILES // size), hash="sha256", copy=True))
    assert len(frame) - 4 <= LARGEST


def test_what_came_before_a_broken_frame_is_given() -> None:
    frames = Frames().feed(encode(Ready(1)) + framed(b"nonsense") + encode(Ready(2)))
    assert next(frames) == Ready(1)
    with pytest.raises(BrokenFrame):
        next(frames)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"\xff\xfe", b"null", b"[]", b'"ready"', b"7", b"{}", b'{"kind": null}', b'{"kind": []}',
        b'{"kind": "else"}', b'{"kind": "Ready"}', b'{"kind": "Ready", "pid": 1, "more": 2}',
        b'{"kind": "Setup", "handlers": 1, "databases": {}, "path": []}',
        b'{"kind": "Order", "batch": "b", "inbox": "i", "files": [1]}',
        b'{"kind": "Reports", "batch": "b", "reports": ["r"], "last": true}',
        b"[" * 100_000, b'{"kind":' * 100_000, b"9" * 100_000,
    ],
    ids=lambda body: body[:40].decode("ascii", "replace"),
)  # fmt: skip
def test_what_is_no_message_is_refused(body: bytes) -> None:
    with pytest.raises(BrokenFrame):
        decode(body)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("file_id", 7), ("file_id", None), ("ending", "fine"), ("ending", []), ("ending", None), ("seconds", "1"),
        ("seconds", -1.0), ("seconds", float("nan")), ("seconds", float("inf")), ("seconds", None), ("after", "soon"),
        ("after", float("inf")), ("after", -0.5), ("result", [1]), ("result", "text"), ("message", None), ("detail", 1),
        ("output", {}), ("error_class", []),
    ],
)  # fmt: skip
def test_a_report_of_wrong_types_is_refused(name: str, value: Any) -> None:
    report = list(Report(ID, Ending.FAILED)._replace(**{name: value}))
    with pytest.raises(BrokenFrame):
        decode(_with_reports(report))


@pytest.mark.parametrize("ending", [Ending.HASHED, Ending.DONE])
@pytest.mark.parametrize(
    "result",
    [{"sha256": 7}, {"sha256": "x"}, {"sha256": "AB" * 32}, {"sha256": []}, {"items": "7"}, {"items": -1},
     {"items": 1 << 63}, {"items": 1.5}, {"items": None}],
)  # fmt: skip
def test_an_answer_that_the_daemon_reads_has_its_types(ending: Ending, result: dict[str, Any]) -> None:
    """What a handler returns is its own business."""
    with pytest.raises(BrokenFrame):
        decode(_with_reports(list(Report(ID, ending, result=result))))
    decode(_with_reports(list(Report(ID, Ending.PROCESSED, result=result))))


@pytest.mark.parametrize(
    "report", [[], [ID], [*Report(ID, Ending.FAILED), 1], {"file_id": ID, "ending": "failed"}, "report", None, 7]
)
def test_a_report_of_wrong_shape_is_refused(report: Any) -> None:
    with pytest.raises(BrokenFrame):
        decode(_with_reports(report))


def _with_reports(*reports: Any) -> bytes:
    return json.dumps({"kind": "Reports", "batch": ID, "last": True, "reports": reports}).encode()


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("Ready", "pid", "1"), ("Ready", "broken", []), ("Ready", "broken", {"main": 1}), ("Note", "event", []),
        ("Note", "fields", []), ("Note", "fields", {"bytes": "7"}), ("Note", "fields", {"bytes": 1 << 63}), ("Reports", "batch", None), ("Reports", "rss", "1"), ("Reports", "last", "no"),
    ],
)  # fmt: skip
def test_what_a_child_says_has_its_types(kind: str, name: str, value: Any) -> None:
    sound = next(message for message in MESSAGES if type(message).__name__ == kind)
    fields = json.loads(encode(sound)[4:])
    with pytest.raises(BrokenFrame):
        decode(json.dumps({**fields, name: value}).encode())


@given(st.binary(max_size=200) | _values.map(lambda value: json.dumps(value).encode()))
def test_no_bytes_do_more_than_break_the_frame(body: bytes) -> None:
    try:
        decode(body)
    except BrokenFrame:
        pass


@given(st.sampled_from(MESSAGES), st.data())
def test_no_change_of_a_message_does_more_than_break_it(message: Message, data: st.DataObject) -> None:
    fields = json.loads(encode(message)[4:])
    name = data.draw(st.sampled_from(sorted(fields)))
    fields[name] = data.draw(_values)
    try:
        decode(json.dumps(fields).encode())
    except BrokenFrame:
        pass


# Marks


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    opened = os.open(tmp_path / "mark", os.O_RDWR | os.O_CREAT)
    yield opened
    os.close(opened)


def batch(number: int) -> str:
    return f"{number:032x}"


def test_a_worker_that_began_nothing_has_no_mark(fd: int) -> None:
    assert read_mark(fd) is None
    assert read_marks(fd) == []


def test_a_mark_reads_as_it_was_written(fd: int) -> None:
    mark = Mark(batch(1), 99_999_999, 1234567890.123456, ID)
    write_mark(fd, mark, 0)
    assert read_mark(fd) == mark
    assert os.fstat(fd).st_size < os.sysconf("SC_PAGESIZE")


def test_the_last_mark_of_each_batch_stays(fd: int) -> None:
    for order in range(3):
        for index in range(2):
            write_mark(fd, Mark(batch(order), index, order * 10.0 + index, ID), order)
    assert read_marks(fd) == [Mark(batch(order), 1, order * 10.0 + 1, ID) for order in range(3)]
    assert read_mark(fd) == Mark(batch(2), 1, 21.0, ID)


def test_old_marks_make_room_in_a_ring(fd: int) -> None:
    for order in range(200):
        write_mark(fd, Mark(batch(order), 0, float(order), ID), order)
    kept = read_marks(fd)
    assert {mark.batch for mark in kept} == {batch(order) for order in range(200 - len(kept), 200)}
    assert len(kept) == 64
    assert read_mark(fd) == Mark(batch(199), 0, 199.0, ID)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=400))
def test_a_damaged_mark_is_no_mark(fd: int, content: bytes) -> None:
    os.ftruncate(fd, 0)
    os.pwrite(fd, content, 0)
    whole = Mark(batch(5), 1, 1e9, ID)
    write_mark(fd, whole, 5)
    assert whole in read_marks(fd)


def test_a_mark_cut_short_hides_no_other(fd: int) -> None:
    for order in range(2):
        write_mark(fd, Mark(batch(order), 0, 1.0 + order, ID), order)
    os.ftruncate(fd, os.fstat(fd).st_size - 40)
    assert read_mark(fd) == Mark(batch(0), 0, 1.0, ID)
