"""An SSH connection that is who it should be: host keys from one file only, credentials from the configuration only."""

from __future__ import annotations

import contextlib
import io
import logging
import socket
from collections.abc import Callable, Iterator
from typing import Any, Generic, NamedTuple, TypeVar

import paramiko
from paramiko.hostkeys import HostKeyEntry, InvalidHostKey

from inboxd.fetch.deadline import cut_after, cut_when_still
from inboxd.fetch.errors import Away, Refused
from inboxd.fetch.sftp_session import Session
from inboxd.wire import SourceSpec

_KEEP_ALIVE = 30  # seconds
_SSH_PORT = 22
_ALGORITHMS = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}  # RFC 8332: the key is of the old name, the signature not
_KEYS: tuple[type[paramiko.PKey], ...] = (paramiko.Ed25519Key, paramiko.RSAKey, paramiko.ECDSAKey)

logging.getLogger("paramiko").addHandler(logging.NullHandler())  # what it has to say comes as exceptions, too
logging.getLogger("paramiko").propagate = False


_Speaking = TypeVar("_Speaking", bound=Session)


class Connection(Generic[_Speaking]):
    """One connection, with one session on it, made when first asked for and made anew after it broke."""

    def __init__(self, spec: SourceSpec, kind: type[_Speaking]) -> None:
        self._spec = spec
        self._kind = kind
        self._place = spec.place
        self.where = f"{self._place['host']}:{self._place['port']}"
        self._transport: paramiko.Transport | None = None
        self._session: _Speaking | None = None

    @contextlib.contextmanager
    def within(self, seconds: float) -> Iterator[_Speaking]:
        """The session, for an operation that may take so long. Raises Away, Refused."""
        session = self._session if self._session and self._session.is_at_rest() else self._open()
        session.begin(min(self._spec.idle, max(seconds, 0.001)))
        try:
            with cut_after(seconds, self._hang_up, f"{self.where} took longer than {seconds:.0f} s (timeout.total)"):
                yield session
        except BaseException:
            if not session.is_at_rest():
                self.close()  # answers of this operation may still come: they must not meet the next one
            raise

    @contextlib.contextmanager
    def moving(self) -> Iterator[Callable[[], None]]:
        """While bytes go out: to be told of each step. A full window of TCP holds paramiko beyond any time-out."""
        words = f"{self.where} took nothing for {self._spec.idle:g} s (timeout.idle)"
        with cut_when_still(self._spec.idle, self._hang_up, words) as move:
            yield move

    def close(self) -> None:
        """Hang up. Never raises."""
        with contextlib.suppress(Exception):  # whatever state it is in
            self._hang_up()
        self._transport = self._session = None

    def _hang_up(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _open(self) -> _Speaking:
        self.close()
        known = _KnownHosts(self._place["known_hosts"], self._place["host"], self._place["port"])
        key = _private_key(self._place)
        try:
            with self._reaching():
                self._transport = self._handshake(known)
                with cut_after(self._spec.connect, self._hang_up, self._slow()):
                    self._session = self._enter(self._transport, known, key)
        except BaseException:
            self.close()
            raise
        return self._session

    def _slow(self) -> str:
        return f"{self.where} did not answer within {self._spec.connect:g} s (timeout.connect)"

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            raise Away(self._slow()) from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise Away(f"{self.where} can't be reached: {error or type(error).__name__}") from error

    def _handshake(self, known: _KnownHosts) -> paramiko.Transport:
        span = self._spec.connect
        link = socket.create_connection((self._place["host"], self._place["port"]), span)
        try:
            transport = paramiko.Transport(link)
        except BaseException:
            link.close()
            raise
        transport.daemon = True
        # Ours ends it before any of these, and names the key that says when.
        transport.banner_timeout = transport.handshake_timeout = span + 1
        transport.auth_timeout = transport.channel_timeout = span + 1
        options = transport.get_security_options()
        wanted = [name for name in known.algorithms() if name in options.key_types]
        options.key_types = (*wanted, *(name for name in options.key_types if name not in wanted))
        return transport

    def _enter(self, transport: paramiko.Transport, known: _KnownHosts, key: paramiko.PKey | None) -> _Speaking:
        transport.start_client()
        known.check(transport.get_remote_server_key())
        self._log_in(transport, key)
        transport.set_keepalive(_KEEP_ALIVE)
        channel = transport.open_session()
        channel.settimeout(self._spec.connect)
        try:
            channel.invoke_subsystem("sftp")
        except paramiko.SSHException as error:
            if transport.is_active():
                raise Refused(f"{self.where} has no SFTP for user {self._place['user']}: ask its operator") from error
            raise
        return self._kind(channel, self.where)

    def _log_in(self, transport: paramiko.Transport, key: paramiko.PKey | None) -> None:
        user, password = self._place["user"], self._place["password"]
        wanted = self._prove(transport, lambda: transport.auth_publickey(user, key)) if key else ["password"]
        if wanted and password:
            wanted = self._prove(transport, lambda: transport.auth_password(user, password))
        if wanted:
            asked = ", ".join(wanted)
            raise Refused(
                f"{self.where} does not let user {user} in with the credentials of this section (it wants: {asked}): "
                "check user, key and password, and whether the partner knows our public key"
            )

    def _prove(self, transport: paramiko.Transport, attempt: Any) -> list[str]:
        """What is still wanted: nothing when we are in."""
        try:
            return list(attempt())
        except paramiko.BadAuthenticationType as error:
            return list(error.allowed_types) or ["something else"]
        except paramiko.AuthenticationException as error:
            if transport.is_active():
                return ["another key or password"]
            user = self._place["user"]
            raise Away(f"{self.where} hung up while user {user} logged in: it is overloaded, or bans us") from error


class _Name(NamedTuple):
    line: HostKeyEntry
    revoked: bool


class _KnownHosts:
    """The keys that a host may have, from a file as ssh-keyscan(1) writes it; names plain or hashed, no patterns."""

    def __init__(self, path: str, host: str, port: int) -> None:
        """Raises Refused when the file can't be read."""
        self._path = path
        self._name = host.lower() if port == _SSH_PORT else f"[{host.lower()}]:{port}"
        self._scan = f"ssh-keyscan -p {port} {host}"
        try:
            with open(path, encoding="utf-8", errors="replace") as lines:
                self._lines = [found for line in lines if (found := self._line(line.strip()))]
        except OSError as error:
            raise Refused(f"known_hosts {path}: {error.strerror}") from error

    def _line(self, text: str) -> _Name | None:
        marker, _, rest = text.partition(" ") if text.startswith("@") else ("", "", text)
        if not rest or rest.startswith("#") or marker not in ("", "@revoked"):
            return None
        try:
            entry = HostKeyEntry.from_line(" ".join(rest.split()))
        except (InvalidHostKey, paramiko.SSHException, ValueError):
            return None
        if entry is None or not any(self._is_ours(name) for name in entry.hostnames or ()):
            return None
        return _Name(entry, revoked=bool(marker))

    def _is_ours(self, name: str) -> bool:
        if name.startswith("|1|"):
            try:
                return paramiko.HostKeys.hash_host(self._name, name) == name
            except (ValueError, AssertionError):
                return False
        return name.lower() == self._name

    def _keys(self, revoked: bool) -> list[paramiko.PKey]:
        return [found.line.key for found in self._lines if found.revoked == revoked and found.line.key]

    def algorithms(self) -> list[str]:
        """Of the keys we know, so that the host shows one of those."""
        names = [key.get_name() for key in self._keys(revoked=False)]
        return list(dict.fromkeys(each for name in names for each in _ALGORITHMS.get(name, (name,))))

    def check(self, offered: paramiko.PKey) -> None:
        """Raises Refused unless the host may have this key."""
        known = self._keys(revoked=False)
        shown = f"{self._name} shows the {offered.get_name()} key {offered.fingerprint}"
        if offered in self._keys(revoked=True):
            raise Refused(f"{shown}, which is revoked in {self._path}: do not trust this host before you asked")
        if offered in known:
            return
        if not known:
            raise Refused(
                f"{shown}, and {self._path} has no line for it: ask the partner whether this is its fingerprint, then "
                f"append the host's line (`{self._scan}` prints it)"
            )
        expected = ", ".join(key.fingerprint for key in known)
        raise Refused(
            f"{shown}, but {self._path} has {expected}: somebody may be in between, or the host's key was changed; "
            "ask the partner, and mend the file only when it confirms the new fingerprint"
        )


def _private_key(place: dict[str, Any]) -> paramiko.PKey | None:
    if not place["key"]:
        if not place["password"]:
            raise Refused(f"user {place['user']} has neither a key nor a password: give one of them")
        return None
    text = place["key"].strip() + "\n"
    for kind in _KEYS:
        try:
            return kind.from_private_key(io.StringIO(text), place["passphrase"] or None)
        except paramiko.PasswordRequiredException:
            raise Refused("the private key is encrypted: set `passphrase`") from None
        except (paramiko.SSHException, ValueError, TypeError, IndexError):
            continue
    raise Refused(
        "the private key can't be read: it must be an ed25519, rsa or ecdsa key in OpenSSH's or PEM form, "
        "and `passphrase` the right one if it has one"
    )
