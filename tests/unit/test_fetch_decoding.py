"""Encoded bodies: whole ones come out as they went in, however they are cut into blocks; all others are found out."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inboxd.fetch.decoding import Malformed, decoded

_PIECE = 256 * 1024
_MIB = 1 << 20


def _raw(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def _stored(data: bytes) -> bytes:
    packer = zlib.compressobj(0, wbits=-15)
    return packer.compress(data) + packer.flush()


def _zlib(data: bytes) -> bytes:
    return zlib.compress(data)


_FORMS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress), ("x-gzip", gzip.compress), ("deflate", _zlib), ("deflate", _raw), ("deflate", _stored),
]  # fmt: skip
_forms = st.sampled_from(_FORMS)
_contents = st.one_of(st.binary(max_size=300), st.builds(bytes.__mul__, st.binary(max_size=9), st.integers(0, 90_000)))
_cuts = st.lists(st.floats(0, 1), max_size=8)


def _blocks(data: bytes, cuts: list[float]) -> list[bytes]:
    places = [0, *sorted(round(cut * len(data)) for cut in cuts), len(data)]
    return [data[first:last] for first, last in pairwise(places)]


def _taken(blocks: list[bytes], encoding: str) -> tuple[bytes, str]:
    """What came out, and what was wrong then."""
    found = bytearray()
    try:
        for piece in decoded(blocks, encoding):
            assert 0 < len(piece) <= _PIECE
            found += piece
    except Malformed as error:
        return bytes(found), str(error)
    return bytes(found), ""


@given(content=_contents, form=_forms, cuts=_cuts)
def test_whole_ones_come_out_as_they_went_in(content: bytes, form: tuple[str, Callable], cuts: list[float]) -> None:
    encoding, encode = form
    assert _taken(_blocks(encode(content), cuts), encoding) == (content, "")


@given(contents=st.lists(_contents, min_size=1, max_size=4), cuts=_cuts, padding=st.integers(0, 600))
def test_members_follow_each_other_and_zeros_the_last(contents: list[bytes], cuts: list[float], padding: int) -> None:
    sent = b"".join(map(gzip.compress, contents)) + bytes(padding)
    assert _taken(_blocks(sent, cuts), "gzip") == (b"".join(contents), "")


@given(content=_contents, form=_forms, cuts=_cuts, end=st.sampled_from([b"\n", b"\r\n", b"\n\n", b"\0\n", b" "]))
def test_the_line_break_of_a_script_may_follow(
    content: bytes, form: tuple[str, Callable], cuts: list[float], end: bytes
) -> None:
    encoding, encode = form
    assert _taken(_blocks(encode(content) + end, cuts), encoding) == (content, "")


@given(content=_contents, form=_forms, cuts=_cuts, cut=st.floats(0, 1, exclude_max=True))
def test_none_that_is_cut_off_is_whole(
    content: bytes, form: tuple[str, Callable], cuts: list[float], cut: float
) -> None:
    encoding, encode = form
    sent = encode(content)
    found, wrong = _taken(_blocks(sent[: int(cut * len(sent))], cuts), encoding)
    assert content.startswith(found)
    assert wrong == f"ends before its {encoding} does"


@given(content=_contents, cuts=_cuts, cut=st.floats(0, 1, exclude_min=True, exclude_max=True))
def test_nor_one_whose_last_member_is(content: bytes, cuts: list[float], cut: float) -> None:
    last = gzip.compress(b"the end")
    left = max(1, int(cut * len(last)))
    found, wrong = _taken(_blocks(gzip.compress(content) + last[:left], cuts), "gzip")
    assert (content + b"the end").startswith(found)
    assert wrong == "ends before its gzip does"


@given(content=_contents, place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), cuts=_cuts)
@pytest.mark.parametrize(("encoding", "encode"), [("gzip", gzip.compress), ("deflate", _zlib)])
def test_one_with_a_bit_turned_is_found_out_unless_that_bit_says_nothing(
    encoding: str, encode: Callable, content: bytes, place: float, bit: int, cuts: list[float]
) -> None:
    sent = bytearray(encode(content))
    sent[int(place * len(sent))] ^= 1 << bit
    found, wrong = _taken(_blocks(bytes(sent), cuts), encoding)
    assert wrong or found == content


@pytest.mark.parametrize(("encoding", "encode"), _FORMS)
@pytest.mark.parametrize("more", [b"x", b"\0x", b"\0" * 600 + b"\x1f\x8b", b"</html>\n"])
def test_nothing_else_may_follow(encoding: str, encode: Callable, more: bytes) -> None:
    for blocks in ([encode(b"hello") + more], [encode(b"hello"), *(bytes([byte]) for byte in more)]):
        found, wrong = _taken(blocks, encoding)
        assert found == b"hello"
        assert wrong


def test_a_second_deflate_is_none() -> None:
    assert _taken([_zlib(b"a") + _zlib(b"b")], "deflate") == (b"a", "goes on after its deflate has ended")


@pytest.mark.parametrize("size", [_PIECE - 1, _PIECE, _PIECE + 1, _PIECE + 25, 2 * _PIECE, 40 * _PIECE])
@pytest.mark.parametrize(("encoding", "encode"), _FORMS)
def test_what_fills_pieces_to_the_last_byte(encoding: str, encode: Callable, size: int) -> None:
    sent = encode(bytes(size))
    assert _taken([sent], encoding) == (bytes(size), "")
    assert _taken([sent[:-1], sent[-1:]], encoding) == (bytes(size), "")


def test_no_more_of_it_is_unpacked_than_is_asked_for() -> None:
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join([*(packer.compress(bytes(_MIB)) for _ in range(300)), packer.flush()])
    pieces: Iterator[bytes] = decoded([bomb], "gzip")
    tracemalloc.start()
    try:
        assert sum(len(piece) for piece, _ in zip(pieces, range(400), strict=False)) == 400 * _PIECE
        assert tracemalloc.get_traced_memory()[1] < 2 * _MIB
    finally:
        tracemalloc.stop()
