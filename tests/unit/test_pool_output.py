"""Foreign output: bounded lines, bounded rate, bounded tail."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from inboxd.pool.output import LONGEST, TAIL, Output


def test_lines_come_whole_however_they_are_cut():
    output = Output()
    assert output.feed(b"on", 0.0) == []
    assert output.feed(b"e\ntwo\nthr", 0.0) == ["one", "two"]
    assert output.close(0.0) == ["thr"]


def test_a_long_line_is_cut_and_counted():
    output = Output()
    for _ in range(100):
        assert output.feed(b"x" * 1000, 0.0) == []
    (line,) = output.feed(b"\n", 0.0)
    assert line == "x" * LONGEST + f" … ({100_000 - LONGEST} bytes more)"


def test_too_many_lines_are_left_out_and_counted():
    output = Output(rate=3)
    assert len(output.feed(b"line\n" * 10, 5.0)) == 3
    assert output.feed(b"next\n", 6.0) == [7, "next"]
    assert output.feed(b"line\n" * 4, 6.5) == ["line", "line"]
    assert output.close(6.6) == [2]


def test_the_tail_is_the_end():
    output = Output(rate=0)
    output.feed(b"a" * TAIL + b"end", 0.0)
    assert output.tail().endswith("aend")
    assert len(output.tail()) == TAIL
    output.turn(0.0)
    assert output.tail() == ""


def test_an_unfinished_line_ends_with_its_file():
    output = Output()
    assert output.feed(b"one\ntw", 0.0) == ["one"]
    assert output.turn(0.0) == ["tw"]
    assert output.feed(b"three\n", 0.0) == ["three"]
    assert output.turn(0.0) == []


@given(st.lists(st.binary(max_size=200)))
def test_any_bytes_make_text(parts):
    output = Output(rate=10**6)
    lines = [line for part in parts for line in output.feed(part, 0.0)] + output.close(0.0)
    whole = b"".join(parts).split(b"\n")
    assert lines == [line.decode("utf-8", "replace") for line in (whole if whole[-1] else whole[:-1])]
