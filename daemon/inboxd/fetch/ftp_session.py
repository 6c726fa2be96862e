"""An FTP connection that is verified or refused. ftplib, since fsspec's FTP can't be told whom to trust.

Paths travel as bytes: ftplib speaks latin-1 here, which maps each byte to one character and back.
"""

from __future__ import annotations

import contextlib
import ftplib
import ipaddress
import itertools
import posixpath
import socket
import ssl
from collections import deque
from collections.abc import Generator, Iterator

from inboxd.fetch.deadline import cut_after
from inboxd.fetch.errors import Away, Gone, Refused, RemoteError, Unfit
from inboxd.fetch.places import Seen, size_of, version_of
from inboxd.wire import SourceSpec

_BLOCK = 64 * 1024  # bytes
_LONGEST = 8192  # bytes of a line
_NO_COMMAND = ("500", "502")
_NOT_KNOWN = ("500", "501", "502", "503", "504")  # RFC 959: the command, or its parameter, is not


class _FtpTls(ftplib.FTP_TLS):
    def ntransfercmd(self, cmd: str, rest: int | str | None = None) -> tuple[socket.socket, int | None]:
        """Data in the same TLS session as the commands: servers ask for it, to know that it is still us."""
        link, size = ftplib.FTP.ntransfercmd(self, cmd, rest)
        try:
            assert isinstance(self.sock, ssl.SSLSocket)
            return self.context.wrap_socket(link, server_hostname=self.host, session=self.sock.session), size
        except BaseException:
            link.close()
            raise


class Session:
    """One connection. All that fails is Away, Refused, Gone (no such file) or Unfit (not allowed, not done)."""

    def __init__(self, spec: SourceSpec) -> None:
        """Connect and log in. Raises Away, Refused."""
        place = spec.place
        self._spec = spec
        self.where = f"{place['host']}:{place['port']}"
        self._data: socket.socket | None = None
        self._is_closed = False
        self._idle = spec.connect
        self._ftp = self._made()
        slow = f"{self.where} did not answer within {spec.connect:g} s (timeout.connect)"
        try:
            with cut_after(spec.connect, self._cut, slow):
                self._enter()
        except BaseException:
            self.close()
            raise

    def _made(self) -> ftplib.FTP:
        place = self._spec.place
        if place["tls"] == "none":
            if not (place["cleartext"] or _is_loopback(place["host"])):
                raise Refused(
                    f"{self.where}: tls is none, and the password would cross the network in clear text: "
                    "use `tls: explicit`, or set `cleartext: true` if that network is yours alone"
                )
            return ftplib.FTP(encoding="latin-1")
        try:
            context = ssl.create_default_context(cafile=place["authority"])
        except OSError as error:
            raise Refused(f"authority {place['authority']}: {error.strerror or error}") from error
        return _FtpTls(context=context, encoding="latin-1")

    def _enter(self) -> None:
        place, ftp = self._spec.place, self._ftp
        with self._asking(self._idle, "timeout.connect"):
            ftp.connect(place["host"], place["port"], timeout=self._spec.connect)
            if isinstance(ftp, ftplib.FTP_TLS):
                self._secure(ftp)
            self._log_in()
            self._knows_facts = self._features()
            self.path = posixpath.join(_text(ftp.pwd()), place["path"]).rstrip("/") or "/"
            ftp.voidcmd("TYPE I")

    def _secure(self, ftp: ftplib.FTP_TLS) -> None:
        try:
            ftp.auth()
        except ftplib.error_perm as error:
            raise Refused(f"{self.where} offers no TLS ({error}): ask its operator for it") from error
        except ssl.SSLCertVerificationError as error:
            raise Refused(
                f"{self.where} shows a certificate that is not to be trusted: {error.verify_message}; "
                "check `host`, and `authority` if its issuer is a private one"
            ) from error

    def _log_in(self) -> None:
        ftp, place = self._ftp, self._spec.place
        user, password = place["user"], place["password"] or ""
        try:
            answer = ftp.sendcmd(f"USER {_raw(user)}")
            if answer.startswith("3"):
                answer = ftp.sendcmd(f"PASS {_raw(password)}")
            if not answer.startswith("2"):
                raise Refused(f"{self.where} wants more than user and password, which inboxd has not")
            if isinstance(ftp, ftplib.FTP_TLS):
                ftp.prot_p()
        except ftplib.error_perm as error:
            code = str(error)[:3]  # the rest may repeat what we said
            raise Refused(f"{self.where} does not let user {user} in ({code}): check user and password") from None
        except ValueError:
            raise Refused("user and password must be one line each") from None

    def _features(self) -> bool:
        """Whether it tells facts of files (RFC 3659), and not only names."""
        try:
            known = self._ftp.sendcmd("FEAT").upper()
        except ftplib.error_perm:
            return False
        return any(line.strip().startswith("MLST") for line in known.splitlines())

    def begin(self, idle: float) -> None:
        """An operation begins, in which no answer may take longer than `idle` seconds."""
        self._idle = idle
        self._ftp.timeout = idle
        if self._ftp.sock is not None:
            self._ftp.sock.settimeout(idle)

    @contextlib.contextmanager
    def within(self, seconds: float) -> Iterator[Session]:
        """An operation that may take so long."""
        self.begin(min(self._spec.idle, max(seconds, 0.001)))
        with cut_after(seconds, self._cut, f"{self.where} took longer than {seconds:.0f} s (timeout.total)"):
            yield self

    @contextlib.contextmanager
    def _asking(self, idle: float, setting: str = "timeout.idle") -> Iterator[None]:
        if self._is_closed:
            raise Away(f"{self.where} was hung up on")
        try:
            yield
        except ftplib.error_perm as error:
            raise _not_done(str(error)) from error
        except TimeoutError as error:
            raise Away(f"{self.where} gave no answer for {idle:g} s ({setting})") from error
        except (ftplib.Error, EOFError, OSError) as error:
            raise Away(f"{self.where} broke off: {error or type(error).__name__}") from error

    def look(self, path: str) -> Seen:
        """What is there now. Raises Gone."""
        with self._asking(self._idle):
            if not self._knows_facts:
                return self._measure(path)
            lines = self._ftp.sendcmd(f"MLST {_raw(path)}").splitlines()
        if len(lines) < 2:
            raise Away(f"{self.where} said nothing about it")
        return _seen(_text(lines[1].strip()))

    def _measure(self, path: str) -> Seen:
        try:
            size = self._ftp.sendcmd(f"SIZE {_raw(path)}")[4:].strip()
        except ftplib.error_perm as error:
            if str(error).startswith(_NO_COMMAND):  # else each of its files is passed over, and the folder looks empty
                raise Refused(f"{self.where} tells no sizes: it knows neither MLSD nor SIZE") from error
            raise
        try:
            changed = self._ftp.sendcmd(f"MDTM {_raw(path)}")[4:].strip()
        except ftplib.error_perm:
            changed = "unknown"
        if not size.isdecimal():
            raise Unfit("it has no size")
        return Seen(posixpath.basename(path), True, False, size_of(size), version_of(size, changed))

    def entries(self) -> Generator[Seen, None, None]:
        """All names in the source's folder."""
        with self._asking(self._idle):
            self._ftp.cwd(_raw(self.path))
        if self._knows_facts:
            with contextlib.closing(self._lines("MLSD")) as lines:
                yield from map(_seen, lines)
            return
        for name in self._names():
            with contextlib.suppress(Gone, Unfit):  # a folder has no size
                yield self.look(posixpath.join(self.path, name))

    def _names(self) -> list[str]:
        names: list[str] = []
        try:
            with contextlib.closing(self._lines("NLST")) as lines:
                for line in itertools.islice(lines, self._spec.max_items + 1):
                    names.append(posixpath.basename(line))
                deque(lines, maxlen=0)  # to the end: who leaves before hangs up, and each name is still to be asked for
        except Gone:
            if names:
                raise  # else the folder is empty: some servers say so of one that we have just gone to
        return names

    def _lines(self, command: str) -> Generator[str, None, None]:
        rest = b""
        with contextlib.closing(self._stream(command, 0)) as blocks:
            for block in blocks:
                *lines, rest = (rest + block).split(b"\n")
                if len(rest) > _LONGEST:
                    raise Away(f"{self.where} listed a name of more than {_LONGEST} bytes")
                for line in lines:
                    yield line.rstrip(b"\r").decode("utf-8", "surrogateescape")
        if rest:
            yield rest.decode("utf-8", "surrogateescape")

    def blocks(self, path: str, begin: int) -> Generator[bytes, None, None]:
        """The bytes from `begin` on. Raises Unresumable when it can't begin there. Closed early, it hangs up."""
        return self._stream(f"RETR {_raw(path)}", begin)

    def _stream(self, command: str, begin: int) -> Generator[bytes, None, None]:
        with self._asking(self._idle):
            try:
                self._data = link = self._ftp.transfercmd(command, begin or None)
            except ftplib.error_perm as error:
                if begin and str(error).startswith(_NOT_KNOWN):
                    raise Unresumable(f"{self.where} can't go on in the middle of a file") from error
                raise
        whole = False
        try:
            while block := self._received(link):
                yield block
            whole = True
        finally:
            self._data = None
            if whole:
                self._finish(link)
            else:
                link.close()
                self.close()  # in mid-stream there is no way back to commands

    def _received(self, link: socket.socket) -> bytes:
        with self._asking(self._idle):
            return link.recv(_BLOCK)

    def _finish(self, link: socket.socket) -> None:
        with link, contextlib.suppress(OSError, ValueError):
            if isinstance(link, ssl.SSLSocket):
                link.unwrap()
        with self._asking(self._idle):
            self._ftp.voidresp()

    def erase(self, path: str) -> None:
        """Remove a file."""
        with self._asking(self._idle):
            self._ftp.delete(_raw(path))

    def shift(self, path: str, target: str) -> None:
        """Rename. FTP has no word for "only if nothing is there": look before."""
        with self._asking(self._idle):
            self._ftp.rename(_raw(path), _raw(target))

    def make_folder(self, path: str) -> None:
        """One folder, whose parent is there."""
        with self._asking(self._idle):
            self._ftp.voidcmd(f"MKD {_raw(path)}")

    def is_folder(self, path: str) -> bool:
        """Whether we can go there."""
        try:
            with self._asking(self._idle):
                self._ftp.cwd(_raw(path))
        except (Gone, Unfit):
            return False
        return True

    def answers(self) -> bool:
        """Whether the server is still there: most hang up after some minutes of silence."""
        try:
            self.begin(self._spec.connect)
            with cut_after(self._spec.connect, self._cut, ""), self._asking(self._idle):
                self._ftp.voidcmd("NOOP")
        except RemoteError:
            return False
        return True

    def close(self) -> None:
        """Hang up. Never raises."""
        self._is_closed = True
        with contextlib.suppress(Exception):
            self._cut()
        with contextlib.suppress(Exception):
            self._ftp.close()

    def _cut(self) -> None:
        for link in (self._data, self._ftp.sock):
            if link is not None:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(link, socket.SHUT_RDWR)  # not SSLSocket's, which another thread is in


class Unresumable(Away):
    """The server has no REST."""


def _not_done(reply: str) -> RemoteError:
    """550 is all there is for "not there", "not allowed" and "not now": who wants to be sure looks again."""
    said = reply.lower()
    is_forbidden = any(word in said for word in ("permission", "denied", "not allowed", "privilege"))
    kind = Gone if reply.startswith("550") and not is_forbidden else Unfit
    return kind(f"the server says: {_text(reply)}")


def _seen(line: str) -> Seen:
    """A line of MLSD: facts with their values, a space, the name."""
    stated, _, name = line.partition(" ")
    facts = {key.lower(): value for key, _, value in (fact.partition("=") for fact in stated.split(";"))}
    size = facts.get("size", "")
    kind = facts.get("type", "").lower()
    is_file = kind == "file" and size.isdecimal()
    version = version_of(size, facts.get("modify", "unknown"))
    return Seen(name, is_file, kind == "dir", size_of(size) if is_file else 0, version)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _raw(path: str) -> str:
    return path.encode("utf-8", "surrogateescape").decode("latin-1")


def _text(reply: str) -> str:
    return reply.encode("latin-1").decode("utf-8", "surrogateescape")
