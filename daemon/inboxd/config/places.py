"""Sources that are folders of files in config.yaml: SFTP, FTP, and whatever fsspec knows."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Secret, SecretStr, Tag, model_validator

from inboxd.config import addresses
from inboxd.config.remote import Filled, Host, KnownHosts, Line, PemFile, Port, PrivateKey, RemotePath, StoreUrl, When
from inboxd.config.section import Section, kind_by


class Move(Section):
    """The item is moved to another folder of the source."""

    move: RemotePath
    """The folder, which must be there; relative to the one that is listed, or absolute."""

    @model_validator(mode="after")
    def _no_way_up(self) -> Move:
        if ".." in self.move.split("/") or self.move.strip("/.") == "":
            raise ValueError("'move' names a folder without '..', relative to the one that is listed, or absolute")
        return self


After = Annotated[
    Annotated[Move, Tag("<move>")] | Annotated[Literal["leave", "delete"], Tag("<word>")],
    Discriminator(
        kind_by("move", words=("leave", "delete")),
        custom_error_type="after",
        custom_error_message="write leave, delete or {move: FOLDER}",
    ),
]


class Folder(Section):
    """What folders of files have in common. At least once, and again until it has worked."""

    after: After = "leave"
    """What becomes of an item that we have: `leave`, `delete` or `{move: FOLDER}`. With `leave`, a new size or time of
    change is a new item."""
    when: When = "held"
    """`held`: as soon as the file is accepted and safe. `processed`: when its handler has succeeded."""


class SshServer(Section):
    """A folder on an SSH server, and how to get there."""

    host: Host
    """The server."""
    port: Port = 22
    """Its port."""
    user: RemotePath
    """Who we are there."""
    key: PrivateKey | None = None
    """The text of a private key, as `{file: PATH}` or `{credential: NAME}`."""
    passphrase: SecretStr | None = None
    """Of the key, if it has one."""
    password: Filled | None = None
    """Instead of the key, or after it, if the server wants both."""
    known_hosts: KnownHosts
    """Host keys that the server may have, as ssh keeps them: from `ssh-keyscan HOST`, compared with what its operator
    says."""
    path: RemotePath = "."
    """The folder; relative to the one where a login begins."""

    @model_validator(mode="after")
    def _has_a_key(self) -> SshServer:
        if self.key is None and self.password is None:
            raise ValueError("give 'key', 'password' or both")
        if self.key is None and self.passphrase is not None:
            raise ValueError("'passphrase' is for a 'key'; add that, or write 'password' instead")
        return self


class Sftp(SshServer, Folder):
    """A folder on an SSH server. `pip install 'inboxd[sftp]'`."""

    recursive: bool = False
    """Look into folders below it, too."""


class Ftp(Folder):
    """A folder on an FTP server, by default within TLS."""

    host: Host
    """The server."""
    port: Port = 21
    """Its port."""
    user: RemotePath = "anonymous"
    """Who we are there."""
    password: Line | None = None
    """The password."""
    tls: Literal["explicit", "none"] = "explicit"
    """`explicit`: AUTH TLS before anything secret is said (RFC 4217), for files, too."""
    authority: PemFile | None = None
    """Authorities that the server's certificate may come from, in PEM format; the system's if not given."""
    cleartext: bool = False
    """`true`: with `tls: none` the password may go to another host in clear text, for everybody on the way to read."""
    path: RemotePath = "."
    """The folder; relative to the one where a login begins."""

    @model_validator(mode="after")
    def _clear_text(self) -> Ftp:
        secret = self.tls == "none" and self.password is not None
        if secret and not self.cleartext and not addresses.is_loopback(self.host):
            raise ValueError(
                f"the password would go to {self.host} in clear text; write 'tls: explicit', "
                "or 'cleartext: true' if everybody on the way may read it"
            )
        return self


class Store(Folder):
    """A folder of any file system that fsspec knows. `pip install 'inboxd[store]'`, and its driver, such as `s3fs`.

    The Debian package can't have them: install inboxd with pip.
    """

    url: StoreUrl
    """Protocol and folder, such as `s3://bucket/prefix`."""
    options: dict[str, Secret[Any]] = {}
    """What the file system takes, such as `{key: …, secret: {credential: lake}}`; nothing of it is shown."""
