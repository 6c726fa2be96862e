"""Whose output it is, however late it is read."""

from __future__ import annotations

import pytest

from inboxd import events
from inboxd.pool.assignment import Assignment
from inboxd.pool.transcript import Transcript
from inboxd.wire import Mark, Order, OrderedFile
from inboxd.work.seams import pieces, seam


class FakeChild:
    pid = 7

    def __init__(self):
        self.place: Mark | None = None
        self.printed = b""

    def mark(self):
        return self.place

    def read_output(self):
        printed, self.printed = self.printed, b""
        return printed

    read_all_output = read_output


@pytest.fixture
def child():
    return FakeChild()


@pytest.fixture
def transcript(child):
    return Transcript("worker 3", child)


@pytest.fixture
def told():
    lines: list[tuple[str, str]] = []
    events.send_to(lambda event, fields: lines.append((fields.get("file") or fields["child"], fields["line"])))
    yield lines
    events.send_to(lambda event, fields: None)


def assignment(batch: str, whole: bool = False, names: str = "abc") -> Assignment:
    files = tuple(OrderedFile(f"{batch}{name}", f"/{name}", f"{batch}-{name}", 1, 1) for name in names)
    return Assignment(Order(batch, "main", files), whole, 0.0)


def at(batch: str, index: int) -> Mark:
    return Mark(batch, index, 1.0)


def test_pieces():
    data = b"x" + seam(at("b1", 0), at("b1", 1)) + b"y\ny" + seam(at("b1", 1), at("b2", 0))
    assert [(mark and (mark.batch, mark.at), text) for mark, text in pieces(data, at("b2", 0))] == [
        (("b1", 0), b"x"), (("b1", 1), b"y\ny"), (("b2", 0), b""),
    ]  # fmt: skip
    for foreign in (b"", b"\0", b"\0a 1 b\n", b"\0a 1 b 99999999999\n", b"\0a b 1 2\n"):
        assert list(pieces(foreign, None)) == [(None, foreign)]


def test_lines_read_late_are_of_the_file_that_printed_them(child, transcript, told):
    child.place = at("b1", 3)
    child.printed = b"".join(
        [b"of a\n", seam(at("b1", 0), at("b1", 1)), b"of b, unfinished", seam(at("b1", 1), at("b1", 2)), b"of c\n"]
    )
    transcript.read(assignment("b1"), 0.0)
    assert told == [("b1-a", "of a"), ("b1-b", "of b, unfinished"), ("b1-c", "of c")]
    assert transcript.tail() == "of c\n"


def test_lines_without_a_seam_are_of_the_marked_file(child, transcript, told):
    child.place, child.printed = at("b1", 1), b"of b\nof b, unfin"
    transcript.read(assignment("b1"), 0.0)
    child.printed = b"ished\n"
    transcript.read(assignment("b1"), 0.0)
    child.place, child.printed = at("b1", 2), b"of c\n"
    assert transcript.finish(assignment("b1"), 0.0) == "of c\n"
    assert told == [("b1-b", "of b"), ("b1-b", "of b, unfinished"), ("b1-c", "of c")]


def test_lines_that_are_read_after_the_last_report(child, transcript, told):
    child.place, child.printed = at("b1", 0), b"of a\n"
    transcript.read(assignment("b1"), 0.0)
    child.place, child.printed = at("b1", 3), b"more\n" + seam(at("b1", 0), at("b1", 3)) + b"of nobody\n"
    transcript.read(None, 0.0)
    assert told == [("b1-a", "of a"), ("b1-a", "more"), ("worker 3", "of nobody")]


def test_one_call_for_a_batch(child, transcript, told):
    child.place, child.printed = at("b1", 0), b"line\n"
    transcript.read(assignment("b1", whole=True), 0.0)
    child.place, child.printed = at("b2", 0), b"line\n"
    transcript.read(assignment("b2", whole=True, names="a"), 0.0)
    assert told == [("(a batch of 3 files)", "line"), ("b2-a", "line")]


def test_a_dead_child_without_output_has_no_tail_of_an_earlier_file(child, transcript, told):
    child.place, child.printed = at("b1", 0), b"of a\n"
    transcript.read(assignment("b1"), 0.0)
    child.place = at("b1", 1)
    assert transcript.finish(assignment("b1"), 0.0) == ""


def test_lines_left_out_are_of_the_file_that_printed_them(child, transcript, told):
    """Told a second later, when another file prints; of several files they are nobody's."""
    child.place, child.printed = at("b1", 0), b"of a\n" * 101
    transcript.read(assignment("b1"), 10.0)
    child.place, child.printed = at("b1", 1), b"of b\n"
    transcript.read(assignment("b1"), 11.0)
    assert told[100:] == [("b1-a", "(1 line left out)"), ("b1-b", "of b")]
    child.printed = b"of b\n" * 102
    transcript.read(assignment("b1"), 11.5)
    child.place, child.printed = at("b1", 2), b"of c\n"
    transcript.read(assignment("b1"), 11.6)
    del told[:]
    transcript.finish(None, 12.0)
    assert told == [("worker 3", "(4 lines left out)")]


def test_lines_left_out_are_counted_in_a_field(child, transcript):
    fields: list[dict[str, object]] = []
    events.send_to(lambda event, told: fields.append(told))
    child.place, child.printed = at("b1", 0), b"line\n" * 103
    transcript.finish(assignment("b1"), 10.0)
    events.send_to(events.nowhere)
    assert [told["count"] for told in fields if "count" in told] == [3]
    assert fields[-1]["file_id"] == "b1a"
