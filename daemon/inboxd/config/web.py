"""Sources behind HTTP in config.yaml."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from inboxd.config import addresses, expressions
from inboxd.config.fields import Text
from inboxd.config.remote import (
    Body,
    Expression,
    HeaderName,
    Items,
    Line,
    Origins,
    PemFile,
    Status,
    Template,
    Token,
    Url,
    UserName,
    When,
)
from inboxd.config.section import Section, kind_by

_HARMLESS = frozenset({"accept", "accept-language", "content-type", "user-agent"})  # headers that let nobody in


class Login(Section):
    """A user and a password."""

    user: UserName
    """The user's name."""
    password: Line
    """The password."""


class HeaderField(Section):
    """A header that lets us in."""

    name: HeaderName
    """Its name, such as `X-Api-Key`."""
    value: Line
    """Its value."""


class Basic(Section):
    """User and password in each request."""

    basic: Login


class Bearer(Section):
    """A token in each request."""

    bearer: Token
    """The token."""


class Header(Section):
    """A header of the server's own in each request."""

    header: HeaderField


Auth = Annotated[
    Annotated[Basic, Tag("<basic>")] | Annotated[Bearer, Tag("<bearer>")] | Annotated[Header, Tag("<header>")],
    Discriminator(
        kind_by("basic", "bearer", "header"),
        custom_error_type="auth",
        custom_error_message="write one of {basic: {user: …, password: …}}, {bearer: …} "
        "or {header: {name: …, value: …}}",
    ),
]


class Certificate(Section):
    """A client certificate."""

    file: PemFile
    """The certificate, with those between it and the authority, in PEM format."""
    key: PemFile
    """Its private key, in PEM format and without a passphrase."""


class Link(Section):
    """The listing names its next page."""

    link: Expression
    """JMESPath of the URL of the next page, of the same origin; there is none after the last one."""


class Page(Section):
    """The listing's pages are counted."""

    page: Text
    """The query parameter that takes the number."""
    first: Annotated[int, Field(ge=0)] = 1
    """The number of the first page; the one without items is the last."""


class Cursor(Section):
    """The listing tells what to ask for next."""

    cursor: Expression
    """JMESPath of what to ask for; there is nothing after the last page."""
    parameter: Text
    """The query parameter that takes it."""


Next = Annotated[
    Annotated[Link, Tag("<link>")] | Annotated[Page, Tag("<page>")] | Annotated[Cursor, Tag("<cursor>")],
    Discriminator(
        kind_by("link", "page", "cursor"),
        custom_error_type="next",
        custom_error_message='write one of {link: "next"}, {page: page} or {cursor: "next", parameter: after}',
    ),
]


class Ack(Section):
    """How the source is told that an item is safe with us. Said at least once, and again until it has worked."""

    method: Literal["POST", "PUT", "PATCH", "DELETE", "GET"] = "POST"
    """The method of the request."""
    url: Template
    """Where to; `{id} {name} {version}` are filled in, percent-encoded. Its origin is that of `list`."""
    body: Body | None = None
    """What to send; `{id} {name} {version}` are filled in."""
    when: When = "held"
    """`held`: as soon as the file is accepted and safe. `processed`: when its handler has succeeded."""
    gone: list[Status] = [410]
    """Status codes that mean: acknowledged before. 404 means so by itself only after a call whose answer was lost: at
    the first call the URL may be wrong. Add it for a partner who says it of what he has cleared away himself."""

    @model_validator(mode="after")
    def _names_the_item(self) -> Ack:
        body = self.body.get_secret_value() if self.body else ""
        if not addresses.names_item(self.url.get_secret_value() + body):
            known = ", ".join(addresses.PLACEHOLDERS)
            raise ValueError(f"this tells of no item; write one of {known} into 'url' or 'body'")
        return self


class Http(Section):
    """Items behind HTTP: a JSON listing, a directory listing in HTML, or one file that changes."""

    list: Url
    """The URL of the listing, or of the file; http or https, without user and password."""
    form: Literal["auto", "json", "index", "file"] = "auto"
    """`json`: see `items`. `index`: a directory listing as nginx and Apache write them. `file`: one file, fetched when
    its ETag or Last-Modified is a new one. `auto`: `json` if there are `items`, else `index`."""
    items: Items | None = None
    """JMESPath of the items in a JSON listing: objects with `id` (required), `name`, `url`, `size`, `sha256`, `md5` and
    `version`. A new version of an id is a new item."""
    next: Next | None = None
    """How a JSON listing goes on: `{link: "links.next"}`, `{page: page, first: 1}` or
    `{cursor: "next_cursor", parameter: after}`."""
    url: Template | None = None
    """Where an item is whose listing has no `url`; `{id} {name} {version}` are filled in, percent-encoded."""
    headers: dict[HeaderName, Line] = {}
    """Sent with each request to the origin of `list`."""
    auth: Auth | None = None
    """What lets us in: `{basic: {user: …, password: …}}`, `{bearer: …}` or `{header: {name: …,
    value: …}}`."""
    certificate: Certificate | None = None
    authority: PemFile | None = None
    """Authorities that the server's certificate may come from, in PEM format; the system's if not given."""
    ack: Ack | None = None
    redirects: Literal["none", "same-origin"] = "none"
    """Which redirects are followed."""
    origins: Origins = []
    """Further origins that URLs of items may have, such as `https://cdn.example`. They never get our
    credentials."""
    cleartext: bool = False
    """`true`: credentials may go over http:// to another host, for everybody on the way to read."""

    @property
    def is_json(self) -> bool:
        """The listing is JSON."""
        return self.form == "json" or (self.form == "auto" and self.items is not None)

    @model_validator(mode="after")
    def _fits_together(self) -> Http:
        for problem in (self._form(), self._origins(), self._clear_text()):
            if problem:
                raise ValueError(problem)
        return self

    def _form(self) -> str:
        if not self.is_json:
            useless = [key for key in ("items", "next", "url") if getattr(self, key) is not None]
            words = "is for JSON listings; remove it, or write 'form: json' and 'items'"
            return f"{useless[0]!r} {words}" if useless else ""
        if self.items is None:
            return "'form: json' needs 'items', the JMESPath of the items in the listing"
        keys = expressions.item_keys(self.items)
        if self.url is None and keys is not None and "url" not in keys:
            return "nothing tells where an item is; add a 'url' to the objects of 'items', or the template 'url'"
        if self.url is not None and not addresses.names_item(self.url.get_secret_value()):
            return f"the template 'url' is the same for all; write one of {', '.join(addresses.PLACEHOLDERS)} into it"
        return ""

    def _origins(self) -> str:
        home = addresses.origin(self.list.get_secret_value())
        if self.ack and addresses.origin(self.ack.url.get_secret_value()) != home:
            return "the origin (scheme, host and port) of 'ack.url' must be that of 'list'; correct one of them"
        known = {home, *map(addresses.origin, self.origins)}
        if self.url and addresses.origin(self.url.get_secret_value()) not in known:
            return "the origin (scheme, host, port) of 'url' is neither that of 'list' nor in 'origins'; add it there"
        if self.certificate and home.scheme != "https":
            return "'certificate' needs an https:// URL in 'list'"
        return ""

    def _clear_text(self) -> str:
        return in_clear_text(addresses.origin(self.list.get_secret_value()), self, "list")


def in_clear_text(home: addresses.Origin, section: Any, key: str) -> str:
    """What is wrong when credentials of the section would go to `home`, the origin of `key`, for all to read; or ""."""
    secret = section.auth is not None or any(name.lower() not in _HARMLESS for name in section.headers)
    if home.scheme == "https" or not secret or section.cleartext or addresses.is_loopback(home.host):
        return ""
    return (
        f"credentials ('auth', 'headers') would go to {home.host} in clear text; write https:// in {key!r}, "
        "or 'cleartext: true' if everybody on the way may read them"
    )
