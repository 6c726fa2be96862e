"""Ids, and the only name a file has in work/."""

from __future__ import annotations

import os
import re
import time
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inboxd.model import InboxFile, Sighting, new_id


def named(name: str) -> InboxFile:
    return InboxFile("0" * 32, "main", "", name, 1, 2, 3, 4)


@given(st.floats(0, 4e9))
def test_an_id_is_a_uuid_of_version_7(now: float) -> None:
    text = new_id(now)
    made = uuid.UUID(text)
    assert made.hex == text
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert made.int >> 80 == int(now * 1000)


@given(st.lists(st.integers(0, 1 << 47), unique=True))
def test_ids_are_in_the_order_of_time(milliseconds: list[int]) -> None:
    seconds = [(one + 0.5) / 1000 for one in sorted(milliseconds)]
    ids = [new_id(one) for one in seconds]
    assert ids == sorted(ids)


def test_ids_of_one_moment_are_unique() -> None:
    assert len({new_id(1.0) for _ in range(10_000)}) == 10_000


def test_an_id_is_made_now() -> None:
    before = int(time.time() * 1000)
    assert before <= int(new_id()[:12], 16) <= int(time.time() * 1000)


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("a.csv", ".csv"), ("A.CSV", ".csv"), ("a.tar.gz", ".gz"), (".csv", ".csv"), ("a", ""), ("a.", ""),
        ("a.c sv", ""), ("a.csv\n", ""), ("a.ü", ""), ("a." + "x" * 16, "." + "x" * 16), ("a." + "x" * 17, ""),
        ("a.\udcff", ""), ("a.$(id)", ""), ("..", ""),
    ],
)  # fmt: skip
def test_the_extension_is_kept_where_it_is_harmless(name: str, ending: str) -> None:
    assert named(name).work_name == "0" * 32 + ending


@given(st.binary(min_size=1, max_size=255))
def test_a_work_name_is_plain_whatever_was_uploaded(raw: bytes) -> None:
    assert re.fullmatch(r"0{32}(\.[a-z0-9]{1,16})?", named(os.fsdecode(raw)).work_name)


def test_results_never_stand_where_the_file_stands() -> None:
    assert named("a.results").results_name == "results/" + "0" * 32


@pytest.mark.parametrize("change", [{"dev": 9}, {"ino": 9}, {"size": 9}, {"mtime_ns": 9}])
def test_what_lstat_shows_tells_content_apart(change: dict[str, int]) -> None:
    values = {"inbox": "main", "folder": "", "name": "a", "dev": 1, "ino": 2, "size": 3, "mtime_ns": 4}
    seen = Sighting(**values)  # type: ignore[arg-type]
    assert seen.same_content(Sighting(**values, links=2))  # type: ignore[arg-type]
    assert not seen.same_content(Sighting(**{**values, **change}))  # type: ignore[arg-type]
