"""Destinations in config.yaml: where results of handlers are sent, and within which bounds."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, Secret, model_validator

from inboxd.config import addresses
from inboxd.config.fields import Pattern
from inboxd.config.kinds import address_of, check_kind
from inboxd.config.limits import Attempts, Timeout
from inboxd.config.places import SshServer
from inboxd.config.remote import HeaderName, Line, MediaType, PemFile, Processes, ResultTemplate, Status, StoreUrl
from inboxd.config.section import Section
from inboxd.config.web import Auth, Certificate, in_clear_text

Kind = Literal["http", "sftp", "store"]
KINDS: tuple[Kind, ...] = ("http", "sftp", "store")
_OURS = {
    "content-type": "write 'content_type' instead",
    "content-length": "inboxd sends it itself",
    "transfer-encoding": "the length of a result is known",
    "idempotency-key": "inboxd sends it itself",
    "repr-digest": "inboxd sends it itself",
    "expect": "not every server can answer it",
}  # headers that are no choice
_NOT_KNOWN = {
    401: "we are not let in", 403: "we may not do that", 407: "a proxy does not let us in", 408: "it took too long",
    425: "it is too early", 429: "it has too much to do",
}  # fmt: skip


class HttpTo(Section):
    """A server that takes each result in one request. Any 2xx is a yes; redirects are not followed. With each go
    `Idempotency-Key`, the same at every try, and `Repr-Digest`, the SHA-256 of its bytes (RFC 9530)."""

    url: ResultTemplate
    """Where to; `{name} {id}` are filled in, percent-encoded; http or https, without user and password."""
    method: Literal["PUT", "POST"] = "PUT"
    """The method of the request."""
    content_type: MediaType = "application/octet-stream"
    """What the results are, such as `text/csv`."""
    headers: dict[HeaderName, Line] = {}
    """Sent with each request."""
    auth: Auth | None = None
    """What lets us in: `{basic: {user: …, password: …}}`, `{bearer: …}` or `{header: {name: …,
    value: …}}`."""
    certificate: Certificate | None = None
    authority: PemFile | None = None
    """Authorities that the server's certificate may come from, in PEM format; the system's if not given."""
    known: list[Status] = []
    """Status codes by which the server says that it has this result already, such as 409; they are a yes."""
    cleartext: bool = False
    """`true`: credentials may go over http:// to another host, for everybody on the way to read."""

    @model_validator(mode="after")
    def _fits_together(self) -> HttpTo:
        home = addresses.origin(self.url.get_secret_value())
        for problem in (self._name(), self._headers(), self._codes(), in_clear_text(home, self, "url")):
            if problem:
                raise ValueError(problem)
        if self.certificate and home.scheme != "https":
            raise ValueError("'certificate' needs an https:// URL in 'url'")
        return self

    def _name(self) -> str:
        if self.method == "POST" or addresses.names_item(self.url.get_secret_value()):
            return ""
        return "every result would be PUT to the same 'url'; write {name} or {id} into it, or 'method: POST'"

    def _headers(self) -> str:
        ours = next((name for name in self.headers if name.lower() in _OURS), None)
        return f"'headers' can't set {ours}: {_OURS[ours.lower()]}; remove it there" if ours else ""

    def _codes(self) -> str:
        code = next((code for code in self.known if code in _NOT_KNOWN), None)
        return f"{code} in 'known' would lose results: it says that {_NOT_KNOWN[code]}; remove it" if code else ""


class SftpTo(SshServer):
    """A folder on an SSH server, where each result appears whole. `pip install 'inboxd[sftp]'`."""

    replace: bool = False
    """`true`: a file of the same name there is overwritten. Else it is left alone, and the result given up, unless its
    bytes are the same."""


class StoreTo(Section):
    """A folder of any file system that fsspec knows. `pip install 'inboxd[store]'`, and its driver, such as `s3fs`.

    The Debian package can't have them: install inboxd with pip.
    """

    url: StoreUrl
    """Protocol and folder, such as `s3://bucket/prefix`."""
    options: dict[str, Secret[Any]] = {}
    """What the file system takes, such as `{key: …, secret: {credential: lake}}`; nothing of it is shown."""
    replace: bool = False
    """`true`: an object of the same name there is overwritten. Else it is left alone, and the result given up, unless
    its bytes are the same."""


class Destination(Section):
    """A place that results are sent to: exactly one of `http`, `sftp` and `store`. Each arrives at least once."""

    http: HttpTo | None = None
    sftp: SftpTo | None = None
    store: StoreTo | None = None
    match: Annotated[list[Pattern], Field(min_length=1)] = ["*"]
    """Shell patterns of the names of results that go there."""
    timeout: Timeout = Timeout()
    retry: Attempts = Attempts()
    parallel: Processes = 2
    """At most so many results are sent at once, each by a process of its own."""

    @property
    def kind(self) -> Kind:
        """Which of the three it is."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def address(self) -> str:
        """Where it is, for people: a URL without secrets."""
        return address_of(self.kind, getattr(self, self.kind))

    @model_validator(mode="after")
    def _one_of(self) -> Destination:
        check_kind(self, KINDS)
        return self
