"""No name from outside forges a log line or moves a terminal's cursor."""

from __future__ import annotations

import os
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inboxd.escape import escape


@pytest.mark.parametrize(
    ("text", "harmless"),
    [
        ("", ""), ("a b.csv", "a b.csv"), ("ä€😀 {x}", "ä€😀 {x}"), ("a\nb", "a\\x0ab"), ("\r\t\x00", "\\x0d\\x09\\x00"),
        ("\x1b[31m", "\\x1b[31m"), ("\x7f\x85\x9b", "\\x7f\\x85\\x9b"), ("\u2028\u2029", "\\u2028\\u2029"),
        ("\u202egpj.exe\u2066", "\\u202egpj.exe\\u2066"), (os.fsdecode(b"\xff\x80"), "\\xff\\x80"), ("\ud800", "\\ud800"),
    ],
)  # fmt: skip
def test_escape(text: str, harmless: str) -> None:
    assert escape(text) == harmless


@given(st.text(st.characters()))
def test_one_line_that_any_stream_takes(text: str) -> None:
    harmless = escape(text)
    assert len(harmless.splitlines()) <= 1
    assert not any(unicodedata.category(one) in ("Cc", "Cs", "Zl", "Zp") for one in harmless)
    assert escape(harmless) == harmless


@given(st.binary(max_size=255))
def test_any_bytes_of_a_name(raw: bytes) -> None:
    assert escape(os.fsdecode(raw)).isprintable() or not raw.isascii()


@pytest.mark.parametrize("mark", [chr(code) for code in range(0x110000) if unicodedata.bidirectional(chr(code)) in (
    "LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI",
)])  # fmt: skip
def test_no_mark_turns_the_direction(mark: str) -> None:
    assert escape(mark).isascii()
