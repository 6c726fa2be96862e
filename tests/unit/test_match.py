"""Which names an inbox takes, and why not, in words."""

from __future__ import annotations

import os
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inboxd.config.models import TEMPORARY_NAMES
from inboxd.intake.match import Matcher

_NAMES = st.binary(min_size=1, max_size=40).map(os.fsdecode)
_PATTERNS = st.lists(st.text("ab.*?[]!x", min_size=1, max_size=6), max_size=4)


@given(_NAMES, _PATTERNS, _PATTERNS, st.booleans())
def test_what_is_not_taken_has_a_reason(name: str, match: list[str], ignore: list[str], temporary: bool) -> None:
    matcher = Matcher(match, ignore, temporary)
    assert matcher.takes(name) is (matcher.why_not(name) is None)


@given(_NAMES, _PATTERNS, _PATTERNS)
def test_patterns_are_those_of_the_shell(name: str, match: list[str], ignore: list[str]) -> None:
    taken = any(fnmatchcase(name, pattern) for pattern in match)
    left = any(fnmatchcase(name, pattern) for pattern in ignore) or name.startswith(".inboxd-")
    assert Matcher(match, ignore, False).takes(name) is (taken and not left)


@pytest.mark.parametrize("name", [".hidden", "x.part", "x.tmp", "x.filepart", "~$x.docx", ".nfs01", "x~", "Thumbs.db"])
def test_temporary_names(name: str) -> None:
    assert not Matcher(["*"], [], True).takes(name)
    assert Matcher(["*"], [], False).takes(name)


def test_every_temporary_pattern_is_named() -> None:
    matcher = Matcher(["*"], [], True)
    for pattern in TEMPORARY_NAMES:
        assert "temporary names" in str(matcher.why_not(pattern.replace("*", "x")))


def test_our_own_names_are_never_taken() -> None:
    assert Matcher(["*"], [], False).why_not(".inboxd-probe-1") == "ignored: the name is one of inboxd's own"


@pytest.mark.parametrize("name", ["a\nb", "\udcff\udcfe", "x" * 255, "a\tb", " ", "-rf", "é", "[a]"])
def test_odd_names_are_names(name: str) -> None:
    assert Matcher(["*"], [], True).takes(name)


def test_case_counts() -> None:
    matcher = Matcher(["*.csv"], ["DRAFT*"], False)
    assert matcher.takes("a.csv")
    assert matcher.takes("draft.csv")
    assert not matcher.takes("a.CSV")


def test_the_reason_names_the_pattern() -> None:
    matcher = Matcher(["*.csv", "*.txt"], ["draft*"], True)
    assert matcher.why_not("draft.csv") == "ignored: its name matches 'draft*' (`ignore`)"
    assert matcher.why_not("x.part") == "ignored: its name matches '*.part' (temporary names)"
    assert matcher.why_not("x.bin") == "ignored: its name matches none of '*.csv', '*.txt' (`match`)"
    assert matcher.why_not("x.csv") is None
