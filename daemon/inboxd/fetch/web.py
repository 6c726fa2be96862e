"""One HTTP client for one source: patient to a point, deaf to the environment, silent about what it must not say."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
import urllib3
from requests.adapters import BaseAdapter
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_random_exponential

import inboxd
from inboxd.fetch.answer import Answer
from inboxd.fetch.errors import Away, Refused, RemoteError
from inboxd.fetch.origin import Origins, absolute, host_of, is_same
from inboxd.fetch.patience import CutOff, PatientAdapter, Undecided, is_unannounced, patient
from inboxd.fetch.secrets import Secrets, of_http
from inboxd.wire import SourceSpec

_MOST_HOPS = 5
_HOPS = (301, 302, 303, 307, 308)
_SAFE = ("GET", "HEAD")  # asked again when the connection breaks, and sent on by a redirect
_TRIES = 3
_PAUSE = (0.1, 2.0)  # seconds between tries: at first, at most
_USUAL = {"User-Agent": f"inboxd/{inboxd.__version__} (+drop-folder daemon)", "Accept": "*/*"}
_ALWAYS = {"Accept-Encoding": "identity"}  # a digest is of these bytes, and nothing can swell on its way


class _Dropped(Away):
    """The connection was not made, or broke before an answer came."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request. `deadline`: monotonic seconds; `blame`: what is raised when the answer is no good."""

    method: str
    url: str
    deadline: float
    blame: type[RemoteError]
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Iterable[bytes] | None = None


class _Session(requests.Session):
    """`known` connects to the origin of `list`, and alone shows our client certificate."""

    def __init__(self, origins: Origins, known: PatientAdapter, stranger: PatientAdapter) -> None:
        super().__init__()
        self._origins = origins
        self._known = known
        self.trust_env = False
        self.headers.clear()
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self.mount("http://", stranger)
        self.mount("https://", stranger)

    def get_adapter(self, url: str | bytes) -> BaseAdapter:
        """Called by requests."""
        text = url if isinstance(url, str) else url.decode()
        return self._known if self._origins.is_home(text) else super().get_adapter(text)

    def get_redirect_target(self, resp: Any) -> None:
        """None: requests would read the whole body of a redirect, however long, and keep custom headers."""


class Web:
    """Keeps connections. No proxy, no .netrc, no cookies; credentials for the origin of `list` alone."""

    def __init__(self, spec: SourceSpec) -> None:
        """Raises Refused."""
        self._spec = spec
        self.origins = Origins(spec.place)
        self._secrets = Secrets(of_http(spec.place))
        self._follows = spec.place["redirects"] == "same-origin"
        authority, certificate = spec.place["authority"], spec.place["certificate"]
        stranger = PatientAdapter(_context(authority, None))
        self._known = PatientAdapter(_context(authority, certificate)) if certificate else stranger
        self._session = _Session(self.origins, self._known, stranger)

    def close(self) -> None:
        """Hang up."""
        self._session.close()
        self._known.close()

    @contextlib.contextmanager
    def ask(self, call: Call) -> Iterator[Answer]:
        """The answer, whatever its status; its body can be read until the block ends.

        Raises Away, Refused, and `call.blame` when a redirect leads astray.
        """
        with patient(self._spec.idle, call.deadline):
            response = self._follow(call)
            try:
                yield Answer(response, host_of(call.url), self._secrets)
            finally:
                response.close()

    def _follow(self, call: Call) -> requests.Response:
        for _ in range(_MOST_HOPS + 1):
            response = self._reach(call)
            target = response.headers.get("Location")
            if not (target and self._follows and response.status_code in _HOPS and call.method in _SAFE):
                return response
            response.close()
            call = replace(call, url=self._next(call, target))
        raise call.blame(f"{host_of(call.url)} redirected more than {_MOST_HOPS} times; that may be a circle")

    def _next(self, call: Call, target: str) -> str:
        url = absolute(call.url, target)
        if not is_same(url, call.url):
            raise call.blame(f"{host_of(call.url)} redirects to another origin; that is never followed")
        return url

    def _reach(self, call: Call) -> requests.Response:
        if call.method not in _SAFE:
            return self._once(call)

        def enough(state: RetryCallState) -> bool:
            return state.attempt_number >= _TRIES or time.monotonic() >= call.deadline

        again = Retrying(
            retry=retry_if_exception_type(_Dropped),
            stop=enough,
            wait=wait_random_exponential(multiplier=_PAUSE[0], max=_PAUSE[1]),
            reraise=True,
        )
        return again(self._once, call)

    def _once(self, call: Call) -> requests.Response:
        left = call.deadline - time.monotonic()
        if left <= 0:
            raise Away(f"{host_of(call.url)} took longer than {self._spec.total:g} s (timeout.total)")
        timeout = (min(self._spec.connect, left), min(self._spec.idle, left))
        headers = {**_USUAL, **call.headers, **self.origins.credentials(call.url), **_ALWAYS}
        try:
            request = requests.Request(call.method, call.url, headers=headers, data=call.body)
            prepared = self._session.prepare_request(request)
            return self._session.send(prepared, stream=True, timeout=timeout, allow_redirects=False)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise self._failure(error, call) from None

    def _failure(self, error: Exception, call: Call) -> RemoteError:
        """Our own words: a library's may hold the URL, or a header."""
        host = host_of(call.url)
        causes = list(_causes(error))
        if isinstance(error, requests.exceptions.ConnectTimeout):
            return Away(f"no connection to {host} within {self._spec.connect:g} s (timeout.connect)")
        if isinstance(error, requests.exceptions.Timeout) or any(isinstance(one, TimeoutError) for one in causes):
            return Away(f"{host} did not answer in time (timeout.idle {self._spec.idle:g} s, timeout.total)")
        if secure := next((one for one in causes if isinstance(one, ssl.SSLError)), None):
            return _insecure(secure, host)
        if undecided := next((one for one in causes if isinstance(one, Undecided)), None):
            return Away(f"{host} {undecided}")
        if any(isinstance(one, socket.gaierror) for one in causes):
            return _Dropped(f"the name {host} can't be resolved")
        if isinstance(error, requests.ConnectionError):
            return _Dropped(f"no connection to {host}: {_system_words(causes)}")
        return call.blame(f"the request to {host} can't be made ({type(error).__name__}); check url, headers and auth")


def _context(authority: str | None, certificate: dict[str, str] | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=authority)
    except (OSError, ValueError) as error:
        raise Refused(
            f"authority {authority} can't be used ({_named(error)}); it must be certificates in PEM form"
        ) from None
    if certificate:
        try:
            context.load_cert_chain(certificate["file"], certificate["key"], password=lambda: "")
        except (OSError, ValueError) as error:
            files = f"{certificate['file']} and {certificate['key']}"
            raise Refused(f"the client certificate {files} can't be used ({_named(error)}); a key needs to be "
                          "that certificate's, and without a passphrase") from None  # fmt: skip
    return context


def _named(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    """It, and what the libraries have packed into it."""
    found: list[BaseException] = [error]
    for one in found:
        yield one
        packed = (*one.args, getattr(one, "reason", None), one.__cause__, one.__context__)
        found += [each for each in packed if isinstance(each, BaseException) and each not in found]


def _insecure(error: ssl.SSLError, host: str) -> RemoteError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return Refused(f"{host} is not who it should be: {error.verify_message}; check the host and `authority`")
    if is_unannounced(error) or isinstance(error, ssl.SSLZeroReturnError | ssl.SSLSyscallError):
        return _Dropped(f"no connection to {host}: it hung up while TLS was agreed on")
    return Refused(f"no TLS with {host}: {error.reason or type(error).__name__}")


def _system_words(causes: list[BaseException]) -> str:
    if any(isinstance(one, CutOff) for one in causes):
        return "it hung up in the middle of its answer"
    words = [one.strerror for one in causes if isinstance(one, OSError) and isinstance(one.strerror, str)]
    return words[-1].lower() if words else "it was closed without an answer"
