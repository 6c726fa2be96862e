"""What a server answered: whose fault that is, and what its headers promise about the body."""

from __future__ import annotations

import base64
import binascii
import contextlib
import email.utils
import re
import time
from collections.abc import Iterator
from http import HTTPStatus

import requests
import urllib3

from inboxd.escape import escape
from inboxd.fetch.decoding import ENCODINGS, Malformed, decoded
from inboxd.fetch.errors import Away, Gone, Refused, RemoteError, TooLarge, Unclosed, Unfit
from inboxd.fetch.framing import framing
from inboxd.fetch.origin import absolute
from inboxd.fetch.patience import Unannounced, hurried
from inboxd.fetch.secrets import Secrets

_BLOCK = 256 * 1024  # bytes read at once
_LONGEST_PAUSE = 86_400.0  # seconds that we let a server keep us off
_BUSY = (408, 425, 429)
_SMALL = 64 * 1024  # bytes; a body that is cheaper to read than a new connection
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_SHA256 = re.compile(r"sha-256=:([A-Za-z0-9+/=]+):")  # RFC 9530
_HEX = re.compile(r"[0-9a-fA-F]{64}")
_HTML = ("text/html", "application/xhtml+xml")
_JSON = ("application/json", "application/problem+json")
_MOST_READ = 4096  # bytes of a body that says why
_MOST_SAID = 200  # characters of it in a message
_LISTENING = 5.0  # seconds: the no itself is heard already


class Answer:
    """Status and headers are here; the body is read when asked for, as often as it has blocks."""

    def __init__(self, response: requests.Response, host: str, secrets: Secrets) -> None:
        self._response = response
        self._host = host
        self._secrets = secrets
        self.url = response.url or ""
        self.status = response.status_code
        self.headers = response.headers
        self.encoding = self.headers.get("Content-Encoding", "").strip().lower().replace("identity", "")
        self._framing = framing(self.headers)
        self.length = self._framing.length

    @property
    def is_html(self) -> bool:
        """It says that its body is a page for people."""
        return self._kind in _HTML

    @property
    def _kind(self) -> str:
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    def redirects_to(self, url: str) -> bool:
        """It sends us there."""
        return 300 <= self.status < 400 and absolute(self.url, self.headers.get("Location", "")) == url

    @property
    def words(self) -> str:
        """Who answered what."""
        return f"{self._host} answered {self.status} {_phrase(self.status)}".rstrip()

    def why(self) -> str:
        """What a text or JSON for a no says, without our secrets, to be put after a message; "" where it says nothing.

        To be asked once, and instead of the body. Never raises.
        """
        is_text = self._kind in _JSON or (self._kind.startswith("text/") and not self.is_html)
        if self.encoding or not is_text:
            return ""
        text = self._begin().decode("utf-8", "replace")
        lines = [" ".join(text.split())] if self._kind in _JSON else text.splitlines()
        line = self._secrets.without(next(filter(None, map(str.strip, lines)), ""))
        more = "…" if len(line) > _MOST_SAID else ""
        return f": {escape(line[:_MOST_SAID])}{more}" if line else ""

    def _begin(self) -> bytes:
        found = b""
        with contextlib.suppress(RemoteError), hurried(_LISTENING):
            while len(found) < _MOST_READ and (block := self._read(_MOST_READ - len(found))):
                found += block
        return found

    def judge(self, blame: type[RemoteError]) -> None:
        """Raise what the status means; nothing for 2xx. `blame`: Unfit for an item, Refused for all else."""
        if 200 <= self.status < 300:
            return
        words = self.words
        if self.status in _BUSY or self.status >= 500:
            raise Away(words, after=_pause(self.headers.get("Retry-After", "")))
        if self.status in (401, 403):
            raise Refused(f"{words}; check `auth`, and what we may do there")
        if self.status in (404, 410) and blame is Unfit:
            raise Gone(words)
        if 300 <= self.status < 400:
            raise blame(
                f"{words}: redirects are not followed unless `redirects: same-origin`, nor for what changes things"
            )
        raise blame(words + (self.why() if blame is Unfit else ""))

    # What the headers promise

    def range(self) -> tuple[int, int] | None:
        """Of a 206: where its bytes begin, and how many the whole has; None unless they are all that is left of it."""
        found = _RANGE.fullmatch(self.headers.get("Content-Range", "").strip())
        if self.status != 206 or self.encoding or not found:
            return None
        first, last, whole = map(int, found.groups())
        return (first, whole) if first <= last == whole - 1 and self.length in (None, whole - first) else None

    def validator(self) -> str:
        """What If-Range can name: a strong ETag, or a Last-Modified that is old enough (RFC 9110, 8.8.2.2); or ""."""
        tag = self.headers.get("ETag", "")
        if self.encoding:
            return ""
        if tag:
            return tag if tag.startswith('"') else ""
        changed, now = _moment(self.headers.get("Last-Modified", "")), _moment(self.headers.get("Date", ""))
        return self.headers["Last-Modified"] if changed and now and now - changed >= 1 else ""

    def version(self) -> str:
        """What tells this body from an earlier one at the same URL; "" if nothing does."""
        return self.headers.get("ETag", "") or self.headers.get("Last-Modified", "")

    def is_other_than(self, version: str) -> bool:
        """`version` is an ETag or a time, and not this body's."""
        tag = self.headers.get("ETag", "")
        if version.startswith(('"', 'W/"')):
            return bool(tag) and tag.removeprefix("W/") != version.removeprefix("W/")
        then, now = _moment(version), _moment(self.headers.get("Last-Modified", ""))
        return bool(then and now) and then != now

    def digests(self) -> Iterator[str]:
        """Of the whole, as `sha256:…` and `md5:…`; none of an encoded body, for they are of what is on the wire."""
        if self.encoding:
            return
        whole = self.status == 200
        for name in ("Content-Digest", "Repr-Digest") if whole else ("Repr-Digest",):
            if found := _SHA256.search(self.headers.get(name, "")):
                yield from _decoded("sha256", found[1], 32)
        if whole:
            yield from _decoded("md5", self.headers.get("Content-MD5", ""), 16)
        checksum = self.headers.get("X-Checksum-Sha256", "").strip()
        if _HEX.fullmatch(checksum):
            yield f"sha256:{checksum.lower()}"

    # The body

    def blocks(self, *, decode: bool = True) -> Iterator[bytes]:
        """The body, as it comes.

        Raises Away when it breaks off, Unclosed where that can't be told from its end, and Unfit when nobody knows
        where it ends, or it can't be decoded, or not to its end.
        """
        if not (decode and self.encoding):
            yield from self._sent()
            return
        if self.encoding not in ENCODINGS:
            raise Unfit(f"{self._host} sent it in the encoding {self.encoding[:20]!r}, which nobody asked for")
        try:
            yield from decoded(self._sent(), self.encoding)
        except Malformed as error:
            raise Unfit(f"what {self._host} sent {error}") from None

    def _sent(self) -> Iterator[bytes]:
        while block := self._read():
            yield block
        if self.length is not None and self._response.raw.tell() < self.length:
            raise self._broken()

    def _read(self, most: int = _BLOCK) -> bytes:
        if self._framing.flaw:
            raise Unfit(f"{self._host} sent it {self._framing.flaw}")
        try:
            return self._response.raw.read1(most, decode_content=False) or b""
        except (urllib3.exceptions.ReadTimeoutError, TimeoutError):
            raise Away(f"{self._host} stopped sending, or was too slow (timeout.idle, timeout.total)") from None
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            ends_with_connection = self.length is None and not self._framing.is_chunked
            if ends_with_connection and isinstance(error.__cause__, Unannounced):
                raise self._unclosed() from None
            raise self._broken() from None

    def _unclosed(self) -> Unclosed:
        count = self._response.raw.tell()
        return Unclosed(f"{self._host} hung up after {count} bytes without TLS's closing alert, perhaps in the middle")

    def _broken(self) -> Away:
        of = "" if self.length is None else f" of {self.length}"
        return Away(f"{self._host} broke off after {self._response.raw.tell()}{of} bytes")

    def body(self, most: int, blame: type[RemoteError]) -> bytes:
        """All of it. Raises `blame` when that is more than `most` bytes."""
        found = bytearray()
        for block in self.blocks():
            found += block
            if len(found) > most:
                raise blame(f"{self._host} sent more than {most} bytes at once")
        return bytes(found)

    def drain(self) -> None:
        """Read what little is left, so that the connection can be used again. Never raises."""
        if self.length is not None and self.length <= _SMALL:
            try:
                for _ in self.blocks(decode=False):
                    pass
            except RemoteError:
                pass

    def check_size(self, size: int, most: int) -> None:
        """Raises TooLarge when `size` bytes and those to come are more than `most`."""
        if not self.encoding and self.length is not None and size + self.length > most:
            raise TooLarge(f"it is {size + self.length} bytes, more than max_size ({most})")


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _pause(text: str) -> float | None:
    """Seconds, of a Retry-After (RFC 9110, 10.2.3); None if there is none."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:12]), _LONGEST_PAUSE)
    moment = _moment(text)
    return min(max(0.0, moment - time.time()), _LONGEST_PAUSE) if moment else None


def _moment(text: str) -> float:
    """Seconds since 1970 of an HTTP date; 0.0 for anything else."""
    try:
        return email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return 0.0


def _decoded(kind: str, text: str, size: int) -> Iterator[str]:
    try:
        digest = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        return
    if len(digest) == size:
        yield f"{kind}:{digest.hex()}"
