"""Names that we make of hostile ones: never longer than a file system takes, never another place."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inboxd.custody.disk import fit, with_tag

_PLAIN = bytes.maketrans(b"\0/", b"0\\")
_NAMES = (
    st.binary(min_size=1, max_size=255).map(lambda raw: os.fsdecode(raw.translate(_PLAIN)))
    | st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=63)
).filter(lambda name: name not in (".", ".."))
_TAGS = st.text("0123456789abcdef", min_size=1, max_size=32)


def _is_name(name: str) -> bool:
    raw = os.fsencode(name)
    return 0 < len(raw) <= 255 and not {0, 0x2F} & set(raw) and name not in (".", "..")


@given(_NAMES, _TAGS)
def test_a_tagged_name_is_a_name(name: str, tag: str) -> None:
    tagged = with_tag(name, tag)
    assert _is_name(tagged)
    assert f".{tag}" in tagged
    assert tagged != name


@given(_NAMES, st.lists(st.integers(0, (1 << 32) - 1).map("{:08x}".format), min_size=2, max_size=2, unique=True))
def test_other_tags_make_other_names(name: str, tags: list[str]) -> None:
    assert with_tag(name, tags[0]) != with_tag(name, tags[1])


@given(_NAMES, st.sampled_from([".error.json", ".0123abcd.error.json"]))
def test_a_fitted_name_is_a_name(name: str, ending: str) -> None:
    fitted = fit(name, ending)
    assert _is_name(fitted)
    assert fitted.endswith(ending)
    kept = fitted.removesuffix(ending)
    assert name.startswith(kept)
    assert kept == name or len(os.fsencode(kept)) >= 255 - len(ending) - 4  # no more is cut than must be


@given(st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=80, max_size=255), _TAGS)
def test_no_character_is_cut_in_two(name: str, tag: str) -> None:
    with_tag(name, tag).encode()  # raises for half a character


@pytest.mark.parametrize(
    ("name", "tagged"),
    [
        ("report.csv", "report.1a2b.csv"), ("a.tar.gz", "a.tar.1a2b.gz"), ("README", "README.1a2b"),
        (".hidden", ".hidden.1a2b"), ("a.", "a.1a2b."), ("..x", "..1a2b.x"), ("a.\udcff", "a.1a2b.\udcff"),
        ("a." + "x" * 33, "a." + "x" * 33 + ".1a2b"), ("x" * 255, "x" * 250 + ".1a2b"),
        ("x" * 251 + ".csv", "x" * 246 + ".1a2b.csv"), ("€" * 85, "€" * 83 + ".1a2b"),
    ],
)  # fmt: skip
def test_with_tag(name: str, tagged: str) -> None:
    assert with_tag(name, "1a2b") == tagged


def test_what_fits_is_not_cut() -> None:
    assert fit("x" * 244, ".error.json") == "x" * 244 + ".error.json"
    assert fit("x" * 245, ".error.json") == "x" * 244 + ".error.json"
