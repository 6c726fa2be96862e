"""What a checksum file says."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inboxd.intake.digests import digest_of, read_lines, why_wrong

_SHA = hashlib.sha256(b"x").hexdigest()
_MD5 = hashlib.md5(b"x").hexdigest()
_OTHER = "0" * 64


def found(text: str, kind: str = "sha256", name: str = "x.csv") -> str | None:
    return digest_of(name, read_lines(text, kind))


@pytest.mark.parametrize(
    "text",
    [_SHA, f"{_SHA}\n", f"  {_SHA.upper()}  \n", f"{_SHA}  x.csv\n", f"{_SHA} *x.csv\n", f"{_SHA}  ./x.csv\n",
     f"{_OTHER}  other.csv\n{_SHA}  x.csv\n", f"# made by hand\n{_SHA}  x.csv\r\n",
     f"{_SHA}  /srv/partner/out/x.csv\n", f"{_SHA} *sub/x.csv\n", f"\ufeff{_SHA}  x.csv\r\n", f"\ufeff{_SHA}",
     f"SHA256 (x.csv) = {_SHA}\n", f"SHA256 (sub/x.csv) = {_SHA.upper()}\n",
     f"SHA256(x.csv)= {_SHA}\n", f"SHA2-256(/srv/x.csv)= {_SHA}\n",
     f"{_OTHER}  old/x.csv\n{_SHA}  x.csv\n", f"{_OTHER}  sub/\n{_SHA}  x.csv\n"],
)  # fmt: skip
def test_a_digest_is_found(text: str) -> None:
    assert found(text) == _SHA


@pytest.mark.parametrize(
    "text",
    ["", "\n", "nonsense", _SHA[:-1], _SHA + "0", f"{_SHA}  y.csv", "g" * 64, _MD5, f"x.csv  {_SHA}", f"{_SHA}  x.csv/",
     f"{_SHA}  the x.csv", f"{_SHA}x.csv", f"SHA256 (y.csv) = {_SHA}", f"MD5 (x.csv) = {_MD5}",
     f"SHA512 (x.csv) = {_SHA}"],
)  # fmt: skip
def test_no_digest_is_found(text: str) -> None:
    assert found(text) is None


@pytest.mark.parametrize("text", [f"{_MD5}  x.csv\n", f"MD5 (x.csv) = {_MD5}", f"MD5(x.csv)= {_MD5}"])
def test_the_other_kind(text: str) -> None:
    assert found(text, "md5") == _MD5


_PRINTED = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters="/*"), min_size=1)
_FORMS = ["{digest}  {name}", "{digest} *{name}", "{kind} ({name}) = {digest}", "{kind}({name})= {digest}"]


@given(_PRINTED, st.lists(_PRINTED, max_size=3), st.sampled_from(["sha256", "md5"]), st.sampled_from(_FORMS))
def test_a_name_of_any_folder_and_form_is_found(name: str, folders: list[str], kind: str, form: str) -> None:
    digest = hashlib.new(kind, b"x").hexdigest()
    text = form.format(digest=digest, name="/".join([*folders, name]), kind=kind.upper())
    assert found(text, kind, name) == digest
    assert found(text, kind, name + "x") is None


@given(st.text(max_size=300), st.sampled_from(["sha256", "md5"]))
def test_any_text_is_read(text: str, kind: str) -> None:
    digest = found(text, kind, "x")
    assert digest is None or len(digest) in (32, 64)


def test_what_is_wrong_is_told() -> None:
    def told(text: str) -> str:
        return why_wrong("k", "k.sha256", read_lines(text, "sha256"), "sha256")

    assert told(f"{_SHA}  k").startswith("its content does not match k.sha256;")
    assert told(f"{_SHA}  a\n{_OTHER}  sub/b").startswith("k.sha256 has no line for k, only for a, sub/b;")
    many = told("".join(f"{_SHA}  {name}\n" for name in "abacde"))
    assert many.startswith("k.sha256 has no line for k, only for a, b, c, …;")
    assert told(_MD5).startswith("k.sha256 has no sha256 digest;")
