"""inboxd as a service on a booted machine: what an operator and an uploader do there."""

from __future__ import annotations

from typing import Any

from support.machine import Machine
from support.wait import wait_until

UNIT = "inboxd.service"
INBOUND = "/srv/inboxd/example/inbound"

CONFIG = """
state: /var/lib/inboxd
stop_grace: 2s
min_free_space: 1MiB
workers: {processes: 2}
inboxes:
  example:
    root: /srv/inboxd/example
    settle: renamed
    layout: ""
    handler: {python: "handlers:handle"}
    retry: {first: 10ms, longest: 100ms, max_failures: 2}
"""
HANDLERS = """
import os, shutil, socket, subprocess, tempfile, time
from inboxd import Reject

def handle(file):
    kind = str(file.name).split("-")[0]
    if kind == "reject":
        raise Reject("not ours")
    if kind == "fail":
        raise ValueError("broken\\ntwice")
    if kind == "crash":
        os.kill(os.getpid(), 9)
    if kind == "long" and file.attempt == 1:
        time.sleep(600)
    if kind == "write":
        return {"refused": [place for place in ("/etc/x", "/usr/x", "/var/lib/x", "/home/x") if not _may(place)]}
    if kind == "seen":
        return {"environment": sorted(os.environ), "tmp": os.listdir("/tmp")}
    if kind == "speak":
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.sendto(b"STATUS=forged\\nSTOPPING=1\\nMAINPID=1", "/run/systemd/notify")
    if kind == "group":
        with tempfile.NamedTemporaryFile() as own:
            shutil.chown(own.name, group="inboxd-drop")
    if kind == "sandbox":
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()
        subprocess.run("unshare --map-root-user --mount --net setpriv --inh-caps=+chown true".split(), check=True)
    print("at", file.name)

def _may(place):
    try:
        open(place, "w").close()
    except OSError:
        return False
    return True
"""


def drop(machine: Machine, *names: str, inbound: str = INBOUND, user: str = "alice") -> None:
    """As a user: under a temporary name, then renamed."""
    script = f"cd {inbound}; umask 027; for n; do echo $n > .$n; mv .$n $n; done"
    machine.run("/bin/sh", "-euc", script, "sh", *names, user=user)


def count(machine: Machine, folder: str) -> int:
    """Entries of a folder of the example inbox."""
    return int(machine.shell(f"ls /srv/inboxd/example/{folder} | wc -l").stdout)


def wait_count(machine: Machine, folder: str, wanted: int, timeout: float = 30.0) -> None:
    wait_until(lambda: count(machine, folder) == wanted, f"{wanted} entries in {folder}", timeout, 0.2)


def events(machine: Machine, name: str, *more: str) -> list[dict[str, Any]]:
    """Since the unit was last started."""
    since = machine.run("systemctl", "show", "-P", "InvocationID", UNIT).stdout.strip()
    return machine.journal(f"_SYSTEMD_INVOCATION_ID={since}", f"INBOXD_EVENT={name}", *more)


def override(machine: Machine, text: str) -> None:
    """A drop-in, and a new start with it."""
    machine.write("/etc/systemd/system/inboxd.service.d/test.conf", text)
    machine.shell(f"systemctl daemon-reload; systemctl restart {UNIT}")
