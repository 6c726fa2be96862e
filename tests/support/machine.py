"""A real Debian with systemd as PID 1: systemd-nspawn(1) over a copy of a debootstrapped base. Needs root."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import shlex
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from support.daemon import WITH_US
from support.disks import LET_GO
from support.wait import wait_until

CACHE = Path(__file__).resolve().parents[2] / ".cache"
INCLUDE = (
    "systemd,systemd-sysv,dbus,ca-certificates,python3,libpq5,openssh-server,openssh-sftp-server,openssh-client,sqlite3"
)

#: Mounts and processes made in here end with the process, and it with the test run, even by SIGKILL.
_BOX = (
    *WITH_US, "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
    "sh", "-ec", f'{LET_GO}\nexec "$@"', "sh",
)  # fmt: skip
#: Arguments: the base, the machine's folder, its control groups. The tmpfs holds what nspawn would leave in /run.
_BOOT = """
base=$1 root=$2
shift 2
for group; do echo 0 >"$group/cgroup.procs"; done
mkdir -p /run/systemd/nspawn
mount -t tmpfs tmpfs /run/systemd/nspawn
mount -t overlay -o "lowerdir=$base,upperdir=$root/upper,workdir=$root/work" overlay "$root/root" ||
    cp -a "$base/." "$root/root"
exec systemd-nspawn -q -D "$root/root" --register=no --keep-unit --link-journal=no -M inboxd -b
"""
_GROUPS = "control-groups"  # in the machine's folder, a path a line; also tells such a folder from any other
_HIERARCHIES = [Path("/sys/fs/cgroup", name) for name in ("systemd", "unified", ".")]  # cgroup v1, both, v2
_DISK = ("upper", "work", "root")
_POWER_OFF = signal.SIGRTMIN + 4  # systemd(1)
_NULL = subprocess.DEVNULL
#: No pipe: its end would be waited for, however long a process that the command leaves running holds it.
_spool = partial(tempfile.TemporaryFile, "w+", encoding="utf-8", errors="backslashreplace")
_ENV = {"HOME": "/root", "LANG": "C.UTF-8", "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"}


def base_root() -> Path:
    """The base of all machines: built once, of the host's own release, so that a package built here fits."""
    codename = platform.freedesktop_os_release()["VERSION_CODENAME"]
    base = CACHE / f"machine-{hashlib.sha256(f'{codename} {INCLUDE}'.encode()).hexdigest()[:12]}"
    CACHE.mkdir(exist_ok=True)
    (CACHE / ".gitignore").write_text("*\n", encoding="utf-8")
    with _locked(CACHE):
        if not base.exists():
            building, log = CACHE / "building", CACHE / "building.log"
            _remove(building)
            command = [*_BOX, "debootstrap", "--variant=minbase", f"--include={INCLUDE}", codename, str(building)]
            with log.open("wb") as out:
                code = subprocess.call(command, stdin=_NULL, stdout=out, stderr=out, start_new_session=True)
            assert code == 0, f"debootstrap {codename}: exit {code}\n{_tail(log)}"
            building.rename(base)
    return base


class Machine:
    """One machine, booted by `with`. Its disk is `root`, a new folder that is gone at the end."""

    def __init__(self, base: Path, root: Path) -> None:
        self._base, self._root = base, root
        self._console = root / "console"
        self._lock = contextlib.ExitStack()
        self._leader = 0

    def __enter__(self) -> Machine:
        groups = self._make_folder()
        command = [*_BOX, "sh", "-euc", _BOOT, "sh", str(self._base), str(self._root), *groups]
        with self._console.open("wb") as out:
            self._box = subprocess.Popen(command, stdin=_NULL, stdout=out, stderr=out, start_new_session=True)
        try:
            self._leader = wait_until(self._find_leader, "systemd as PID 1", 60)
            asked = partial(self.run, "systemctl", "is-system-running", "--wait", check=False)
            wait_until(lambda: asked().stdout.strip() in {"running", "degraded"}, "the end of the boot", 60, 0.05)
        except BaseException as error:
            error.add_note(f"--- the end of the console:\n{_tail(self._console)}")
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Power off, by force after 20 s, and leave nothing behind."""
        if self._leader and self._box.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._leader, _POWER_OFF)
        try:
            self._box.wait(20 if self._leader else 0)
        except subprocess.TimeoutExpired:
            self._box.kill()
            self._box.wait()
        _discard(self._root)
        self._lock.close()

    def _make_folder(self) -> list[str]:
        """Locked as long as we live: by that the next run knows what a killed one has left."""
        self._root.parent.mkdir(parents=True, exist_ok=True)
        name = f"inboxd-machine-{uuid.uuid4().hex[:8]}"  # nspawn's groups go below it, apart from another machine's
        groups = [str(top / name) for top in _HIERARCHIES if (top / "cgroup.procs").exists()]
        with _locked(self._root.parent):
            for left in self._root.parent.glob(f"*/{_GROUPS}"):
                with contextlib.suppress(BlockingIOError), _locked(left.parent, fcntl.LOCK_NB):
                    _discard(left.parent)
            self._root.mkdir()
            self._lock.enter_context(_locked(self._root))
            (self._root / _GROUPS).write_text("\n".join(groups), encoding="utf-8")
        for folder in (*groups, *(str(self._root / name) for name in _DISK)):
            os.mkdir(folder)
        return groups

    def _find_leader(self) -> int:
        """The host's pid of the machine's PID 1."""
        self._must_run()
        with contextlib.suppress(psutil.NoSuchProcess):
            inside = psutil.Process(self._box.pid).children(recursive=True)
            return next((process.pid for process in inside if process.name() == "systemd"), 0)
        return 0

    def _must_run(self) -> None:
        if (code := self._box.poll()) is not None:
            raise AssertionError(f"the machine has ended with {code}\n{_tail(self._console)}")

    def run(
        self, *command: str, check: bool = True, timeout: float = 60, user: str | None = None, input: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the machine; with `check`, anything but exit 0 fails."""
        self._must_run()
        enter = ["nsenter", "-t", str(self._leader), "-m", "-u", "-i", "-p", "-n", *self._become(user), *command]
        with _spool() as stdin, _spool() as out, _spool() as err:
            stdin.write(input)
            stdin.seek(0)
            process = subprocess.Popen(enter, stdin=stdin, stdout=out, stderr=err, env=_ENV, start_new_session=True)
            ended = _ends(process, timeout)
            out.seek(0)
            err.seek(0)
            done = subprocess.CompletedProcess(command, process.returncode, out.read(), err.read())
        if not ended or (check and done.returncode):
            outcome = f"exit {done.returncode}" if ended else f"not ended within {timeout:g} s"
            shown = f"--- stdout:\n{done.stdout}\n--- stderr:\n{done.stderr}"
            raise AssertionError(f"{shlex.join(command)}: {outcome}\n{shown}")
        return done

    def _become(self, user: str | None) -> list[str]:
        if user is None:
            return []
        group = self.run("id", "-g", user).stdout.strip()
        return ["setpriv", f"--reuid={user}", f"--regid={group}", "--init-groups", "--reset-env"]

    def shell(self, script: str, **same: Any) -> subprocess.CompletedProcess[str]:
        """run() for a shell script."""
        return self.run("/bin/sh", "-euc", script, **same)

    def path(self, path: str | Path) -> Path:
        """Its path on the host while the machine runs. Links are resolved inside: the host would follow them out of it."""
        real = self.run("realpath", "-m", str(path)).stdout.removesuffix("\n")
        return Path(f"/proc/{self._leader}/root{real}")

    def write(self, path: str | Path, text: str, mode: int = 0o644) -> None:
        """Write a file of root's, and the folders above it."""
        name = shlex.quote(str(path))
        self.shell(f'mkdir -p "$(dirname {name})"; cat >{name}; chmod {mode:o} {name}', input=text)

    def push(self, host_path: str | Path, path: str | Path) -> None:
        """Copy a file or a folder of the host; it is root's."""
        self.run("mkdir", "-p", os.path.dirname(path))
        copied = subprocess.run(["cp", "-rT", host_path, self.path(path)], capture_output=True, text=True, check=False)
        assert copied.returncode == 0, copied.stderr

    def journal(self, *arguments: str) -> list[dict[str, Any]]:
        """What journalctl with these arguments says; all that was logged before is in it."""
        self.run("journalctl", "--sync")
        lines = self.run("journalctl", "-o", "json", "--no-pager", "--all", *arguments).stdout.split("\n")
        return [json.loads(line) for line in lines if line]

    def pids(self, unit: str) -> list[int]:
        """Every process of a unit, as numbered inside."""
        manager = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
        done = self.run("busctl", "--json=short", "call", *manager, "GetUnitProcesses", "s", unit, check=False)
        if done.returncode and "not loaded" in done.stderr:
            return []
        assert done.returncode == 0, f"the processes of {unit}: {done.stderr}"
        return [pid for _group, pid, _command in json.loads(done.stdout)["data"][0]]

    def main_pid(self, unit: str) -> int:
        """The main process of a unit as numbered inside, 0 for none."""
        return int(self.run("systemctl", "show", "-P", "MainPID", unit).stdout)

    def active(self, unit: str) -> bool:
        """The unit is active, not merely activating."""
        return self.run("systemctl", "is-active", unit, check=False).stdout.strip() == "active"


def _ends(process: subprocess.Popen[bytes], timeout: float) -> bool:
    """It ends in time. When the wait is cut short, all it started ends too."""
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout)
    finally:
        if late := process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return not late


def _discard(root: Path) -> None:
    """Its control groups first: they can go when the last process has, and then nothing writes to the disk."""
    for group in (root / _GROUPS).read_text(encoding="utf-8").splitlines():
        wait_until(partial(_remove_group, group), f"the end of the processes in {group}")
    for name in (*_DISK, ""):
        _remove(root / name)


def _remove_group(top: str) -> bool:
    with contextlib.suppress(OSError):
        for folder, _folders, _files in os.walk(top, topdown=False):
            os.rmdir(folder)
    return not os.path.exists(top)


def _remove(folder: Path) -> None:
    """Never into a mount, whatever was left there."""
    subprocess.run(["rm", "-rf", "--one-file-system", "--", str(folder)], check=True)


@contextlib.contextmanager
def _locked(folder: Path, how: int = 0) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | how)
        yield
    finally:
        os.close(handle)


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="backslashreplace").splitlines()[-40:])
