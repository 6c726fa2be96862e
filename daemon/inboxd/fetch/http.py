"""Sources that speak HTTP: a JSON listing, a directory index, or one file that is watched."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import cached_property

from inboxd.fetch import places
from inboxd.fetch.answer import Answer
from inboxd.fetch.errors import Refused, RemoteError, Unclosed, Unfit
from inboxd.fetch.filling import fill_body, fill_url
from inboxd.fetch.index import Index
from inboxd.fetch.listing import Listing, last_part
from inboxd.fetch.origin import host_of
from inboxd.fetch.part import Part
from inboxd.fetch.web import Call, Web
from inboxd.wire import Listed, OrderedItem, SourceSpec

_LARGEST_PAGE = 64 << 20  # bytes of one page of a listing
_COMPRESSED = (".gz", ".tgz", ".svgz")
_PAGES = (".htm", ".html", ".xhtml", ".shtml")


class HttpSource:
    """One `http:` section. Raises Refused from its first use on when the section can't work."""

    def __init__(self, spec: SourceSpec) -> None:
        self._spec = spec
        self._place = spec.place

    @cached_property
    def _web(self) -> Web:
        return Web(self._spec)

    @cached_property
    def _listing(self) -> Listing:
        return Listing(self._place)

    def close(self) -> None:
        """Hang up."""
        if web := self.__dict__.get("_web"):
            web.close()

    def _soon(self) -> float:
        return time.monotonic() + self._spec.total

    # The listing

    def list(self) -> Iterator[Listed]:
        """What is offered, page by page; ends one above max_items, so that the cut can be seen."""
        form = self._place["form"]
        if form == "auto":
            form = "json" if self._place["items"] else "index"
        ways = {"json": self._pages, "index": self._index, "file": self._watched}
        for count, item in enumerate(ways[form]()):
            yield item
            if count >= self._spec.max_items:
                return

    def _pages(self) -> Iterator[Listed]:
        url: str | None = self._listing.first()
        deadline = self._soon()
        while url is not None:
            self._web.origins.check_home(url, "the next page of the listing")
            with self._web.ask(Call("GET", url, deadline, Refused)) as answer:
                answer.judge(Refused)
                if answer.status == 204:
                    return
                body = answer.body(_LARGEST_PAGE, Refused)
            items, url = self._listing.read(body, answer.url)
            yield from items

    def _index(self) -> Iterator[Listed]:
        url = self._place["list"]
        with self._web.ask(Call("GET", url, self._soon(), Refused)) as answer:
            if answer.redirects_to(url + "/"):
                raise Refused("`list` is a folder, and its server wants it written with a slash at the end")
            answer.judge(Refused)
            if not answer.is_html:
                raise Refused("the listing is no HTML page; check `list` and `form`")
            index = Index(answer.url)
            size = 0
            for block in answer.blocks():
                size += len(block)
                if size > _LARGEST_PAGE:
                    raise Refused(f"the listing is larger than {_LARGEST_PAGE} bytes; tidy up the folder")
                index.feed(block.decode("utf-8", "replace"))
                if len(index.items) > self._spec.max_items:
                    break
        index.close()
        yield from index.items

    def _watched(self) -> Iterator[Listed]:
        """One file, or none while it is not there."""
        found = self._look("HEAD") or self._look("GET")
        if found and found.item:
            yield found

    def _look(self, method: str) -> Listed | None:
        """None if it has to be asked for by a GET that is cut short: not all servers like HEAD."""
        url = self._place["list"]
        with self._web.ask(Call(method, url, self._soon(), Refused)) as answer:
            if answer.status in (404, 410):
                return Listed("", "")
            if answer.status == 200:
                return _one_file(answer, url)
            if method == "HEAD":
                return None
            answer.judge(Refused)
            raise Refused(f"the file can't be watched: its server answered {answer.status}")

    # One item

    def fetch(self, item: OrderedItem, part: Part) -> None:
        """Write its bytes. Goes on from part.size if the server vouches that they are of the same version."""
        self._web.origins.check_item(item.url)
        for _ in range(2):
            headers = {}
            if part.size and part.validator:
                headers = {"Range": f"bytes={part.size}-", "If-Range": part.validator}
            with self._web.ask(Call("GET", item.url, part.deadline, Unfit, headers)) as answer:
                if not (headers and _is_elsewhere(answer, part)):
                    self._judge(answer, item)
                    self._receive(answer, item, part)
                    return
            part.restart("")
        raise Unfit("the server does not send it whole")

    def _judge(self, answer: Answer, item: OrderedItem) -> None:
        if answer.status == 403 and not self._is_shut_out(item.url):
            raise Unfit(f"the server forbids this item (403), though not the listing{answer.why()}")
        if answer.status in (401, 403) and not self._web.origins.is_home(item.url):
            raise Unfit(f"another origin answered {answer.status}; it gets no credentials of ours")
        answer.judge(Unfit)
        if answer.status not in (200, 206):
            raise Unfit(f"the server answered {answer.status}, which brings no file")

    def _is_shut_out(self, url: str) -> bool:
        """Whether a 403 is about us, or only about this one item: then the listing is open."""
        if not self._web.origins.is_home(url) or url == self._place["list"]:
            return True
        with self._web.ask(Call("GET", self._place["list"], self._soon(), Refused)) as answer:
            return answer.status in (401, 403)

    def _receive(self, answer: Answer, item: OrderedItem, part: Part) -> None:
        if self._has_versions(item) and answer.is_other_than(item.version):
            raise Unfit("it has changed since it was listed")
        if answer.is_html and item.size is None and not item.digest and not item.name.lower().endswith(_PAGES):
            raise Unfit("an HTML page came in its place, perhaps one that tells of an error")
        decode = not item.name.lower().endswith(_COMPRESSED)  # some servers call the kind of such a file its encoding
        whole = _begin(answer, part)
        answer.check_size(part.size, self._spec.max_size)
        for digest in answer.digests():
            part.announce(digest)
        try:
            _write(answer.blocks(decode=decode), part, whole)
        except Unclosed as error:
            is_compared = whole is not None or item.digest or any(answer.digests())
            if not is_compared and part.size != item.size:
                raise _charged(error, item) from None
        if whole is not None:
            places.check_whole(part, whole, host_of(answer.url))

    def _has_versions(self, item: OrderedItem) -> bool:
        """Its version is one of HTTP, and not just any word of a listing."""
        return self._place["form"] == "file" or item.version.startswith(('"', 'W/"'))

    # Said to the source

    def ack(self, item: OrderedItem) -> None:
        """Make the call of `ack`. Any 2xx and the codes of `gone` are a yes.

        So are 404 and 410, when an earlier call may have been heard; else it may be the URL that is wrong.
        """
        ack = self._place["ack"]
        if not ack:
            return
        values = {"id": item.item, "name": item.name, "version": item.version}
        url = fill_url(ack["url"], values)
        self._web.origins.check_home(url, "`ack.url`")
        headers: dict[str, str] = {}
        body = None
        if ack["body"] is not None:
            said = {name.lower(): value for name, value in self._place["headers"].items()}.get("content-type", "")
            body, headers["Content-Type"] = fill_body(ack["body"], values, said)
        with self._web.ask(Call(ack["method"], url, self._soon(), Unfit, headers, body)) as answer:
            known = (*ack["gone"], *((404, 410) if item.attempt else ()))
            if answer.status not in known:
                if answer.status in (404, 410):
                    known_not = f"the server knows nothing of it ({answer.status}{answer.why()})"
                    raise Unfit(f"{known_not}; check `ack.url`, and see `ack.gone`")
                answer.judge(Unfit)
            answer.drain()


def _is_elsewhere(answer: Answer, part: Part) -> bool:
    """The answer to a Range is not what comes after the part: it has to be asked for from its beginning."""
    if answer.status == 416:
        return True
    if answer.status != 206:
        return False
    found = answer.range()
    return not found or found[0] != part.size or answer.validator() not in ("", part.validator)


def _begin(answer: Answer, part: Part) -> int | None:
    """How many bytes the whole has, where a range says so: its body may have no length of its own. Raises Unfit."""
    if answer.status == 200:
        part.restart(answer.validator())
        return None
    found = answer.range()
    if not found or not part.size:
        raise Unfit("the server sent a range that nobody asked for")
    return found[1]


def _write(blocks: Iterator[bytes], part: Part, whole: int | None) -> None:
    for block in blocks:
        if whole is not None and part.size + len(block) > whole:
            part.restart("")
            raise Unfit(f"more came than the {whole} bytes that it has")
        part.write(block)


def _charged(error: Unclosed, item: OrderedItem) -> RemoteError:
    """The next try may get more. From then on it is the item's fault: a server that never says where a body ends would
    rest for ever, with all its other items."""
    return Unfit(str(error)) if item.attempt > 1 else error


def _one_file(answer: Answer, url: str) -> Listed:
    name, version = last_part(url) or "file", answer.version()
    if not version:
        raise Refused("the file can't be watched: its server sends neither ETag nor Last-Modified")
    return Listed(name, name, url, None if answer.encoding else answer.length, "", version)
