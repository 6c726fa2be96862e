"""Bytes on their way in: bounded, verified, gone on from only where that is safe."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from inboxd.fetch.errors import Away, TooLarge, Unfit
from inboxd.fetch.names import harmless_name
from inboxd.fetch.part import Bounds, Part

_BOUNDS = Bounds(max_size=1000, total=60.0)


@pytest.fixture
def open_part() -> Iterator[Callable[..., Part]]:
    """Parts that are closed at the end."""
    with ExitStack() as stack:
        yield lambda path, bounds=_BOUNDS: stack.enter_context(closing(Part(str(path), bounds)))


def test_bytes_come_in_and_are_verified(open_part: Callable[..., Part], tmp_path: Path) -> None:
    part = open_part(tmp_path / "a.part")
    part.restart("v1")
    part.write(b"hello ")
    part.write(b"world")
    digest = hashlib.sha256(b"hello world").hexdigest()
    assert part.finish(11, f"sha256:{digest.upper()}") == {"size": 11, "sha256": digest, "resumed": 0}
    assert [path.name for path in tmp_path.iterdir()] == ["a.part"]
    assert (tmp_path / "a.part").read_bytes() == b"hello world"
    assert (tmp_path / "a.part").stat().st_mode & 0o777 == 0o600


def test_a_later_try_goes_on(open_part: Callable[..., Part], tmp_path: Path) -> None:
    first = open_part(tmp_path / "a.part")
    first.restart("v1")
    first.write(b"hello ")
    first.close()
    second = open_part(tmp_path / "a.part")
    assert (second.size, second.validator) == (6, "v1")
    second.write(b"world")
    assert second.finish(11, "md5:" + hashlib.md5(b"hello world").hexdigest())["resumed"] == 6


@pytest.mark.parametrize("origin", [None, "", "not json", '{"validator": "v1", "boot": "another"}', "[]"])
def test_bytes_of_another_boot_or_of_unknown_origin_are_forgotten(
    open_part: Callable[..., Part], tmp_path: Path, origin: str | None
) -> None:
    (tmp_path / "a.part").write_bytes(b"perhaps never written")
    if origin is not None:
        (tmp_path / "a.part.from").write_text(origin)
    part = open_part(tmp_path / "a.part")
    assert (part.size, part.validator) == (0, "")
    assert (tmp_path / "a.part").read_bytes() == b""
    part.close()


def test_what_is_not_as_announced_is_forgotten(open_part: Callable[..., Part], tmp_path: Path) -> None:
    for size, digest in ((5, ""), (None, "sha256:" + "0" * 64), (None, "md5:" + "0" * 32)):
        part = open_part(tmp_path / "a.part")
        part.restart("v1")
        part.write(b"four")
        with pytest.raises(Unfit):
            part.finish(size, digest)
        part.close()
        assert open_part(tmp_path / "a.part").size == 0


def test_what_the_source_says_beside_the_bytes_is_verified_too(open_part: Callable[..., Part], tmp_path: Path) -> None:
    sha256, md5 = hashlib.sha256(b"four").hexdigest(), hashlib.md5(b"four").hexdigest()
    for said, fits in ((f"sha256:{sha256}", True), (f"md5:{md5}", True), ("md5:" + "0" * 32, False)):
        part = open_part(tmp_path / "a.part")
        part.announce("md5:of an earlier version")
        part.restart("v1")
        part.write(b"four")
        part.announce(said)
        if fits:
            assert part.finish(4, f"sha256:{sha256}")["size"] == 4
        else:
            with pytest.raises(Unfit, match="its md5 is"):
                part.finish(4, f"sha256:{sha256}")


def test_no_item_is_larger_than_allowed(open_part: Callable[..., Part], tmp_path: Path) -> None:
    part = open_part(tmp_path / "a.part")
    part.write(b"x" * 1000)
    with pytest.raises(TooLarge):
        part.write(b"x")


def test_no_item_takes_longer_than_allowed(open_part: Callable[..., Part], tmp_path: Path) -> None:
    part = open_part(tmp_path / "a.part", Bounds(max_size=1000, total=0.01))
    time.sleep(0.02)  # the span itself is what is tested
    with pytest.raises(Away, match=r"timeout\.total"):
        part.write(b"x")


def test_a_link_in_its_place_is_not_followed(open_part: Callable[..., Part], tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "a.part").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="symbolic links"):
        open_part(tmp_path / "a.part")


@pytest.mark.parametrize(
    ("said", "used"),
    [
        ("a.csv", "a.csv"), ("../../etc/passwd", "passwd"), ("/abs/x.csv", "x.csv"), ("..", "unnamed"), ("", "unnamed"),
        ("a\0b\n.csv", "a_b_.csv"), ("dir/", "dir"), ("x" * 300 + ".csv", "x" * 251 + ".csv"), ("\udcff", "?"),
        ("é" * 200, "é" * 127),
    ],
)  # fmt: skip
def test_names_are_harmless(said: str, used: str) -> None:
    assert harmless_name(said) == used
