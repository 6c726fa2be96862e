"""An OpenSSH server of our own, for the time of a test: free port, own keys, one user, SFTP only."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from support.wait import wait_until

_INSTALL = "apt-get install -y --no-install-recommends openssh-server"
_WITH_US = ("setpriv", "--pdeathsig", "KILL")  # a test run that is killed leaves no server behind (setpriv(1))
_PRIVSEP = Path("/run/sshd")  # compiled in; sshd wants it when it is root


def make_key(path: Path, kind: str = "ed25519", passphrase: str = "", form: str = "RFC4716") -> str:
    """A new private key at `path`, PATH.pub beside it; returns its text."""
    command = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "test", "-f", str(path)]
    subprocess.run([*command, *(["-m", form] if form == "PEM" else [])], check=True, timeout=60)
    return path.read_text()


def fingerprint(public: Path) -> str:
    """As `ssh-keygen -l` prints it: SHA256:…"""
    done = subprocess.run(["ssh-keygen", "-l", "-f", str(public)], check=True, capture_output=True, text=True)
    return done.stdout.split()[1]


class Sshd:
    """One server in `folder`; `root` is what it may be asked for, as absolute paths (there is no chroot)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.user = getpass.getuser()
        self.key = make_key(folder / "user")
        make_key(folder / "host")
        self.trust(folder / "user.pub")
        self.port = _free_port()
        self.known_hosts = folder / "known_hosts"
        self.know(folder / "host.pub")
        self._process: subprocess.Popen[bytes] | None = None

    def trust(self, public: Path) -> None:
        """Let its owner in, and nobody else."""
        (self.folder / "authorized_keys").write_bytes(public.read_bytes())

    def know(self, public: Path) -> None:
        """Write known_hosts with this key for us."""
        kind, text = public.read_text().split()[:2]
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {kind} {text}\n")

    def start(self, *settings: str) -> None:
        """Returns when it listens. Raises AssertionError with its log when it dies."""
        if os.geteuid() == 0:
            _PRIVSEP.mkdir(mode=0o755, exist_ok=True)
        config = [
            f"Port {self.port}", "ListenAddress 127.0.0.1", f"HostKey {self.folder / 'host'}", "PidFile none",
            f"AuthorizedKeysFile {self.folder / 'authorized_keys'}", "StrictModes no", "UsePAM no",
            "PermitRootLogin prohibit-password", "PasswordAuthentication no", "KbdInteractiveAuthentication no",
            "Subsystem sftp internal-sftp", "ForceCommand internal-sftp", "UseDNS no", "MaxStartups 100",
        ]  # fmt: skip
        (self.folder / "sshd_config").write_text("\n".join([*settings, *config]) + "\n")
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*_WITH_US, _program(), "-D", "-e", "-f", str(self.folder / "sshd_config")],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, start_new_session=True,
            )  # fmt: skip
        wait_until(self._listens, "sshd")

    def _listens(self) -> bool:
        assert self._process is not None and self._process.poll() is None, (self.folder / "log").read_text()
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as link:
                return link.recv(4) == b"SSH-"
        except OSError:
            return False

    def stop(self) -> None:
        """With all its sessions."""
        process, self._process = self._process, None
        if process is not None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(20)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _program() -> str:
    found = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    assert found, f"the tests of SFTP need an OpenSSH server; run: {_INSTALL}"
    return found
