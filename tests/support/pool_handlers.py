"""Handlers that do what handlers should not."""

import atexit
import contextlib
import ctypes
import gc
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

GOOD = "good"


def noop(file):
    return None


def tell(file):
    """What a handler finds around it."""
    return {
        "cwd": os.getcwd(), "umask": os.umask(0o022), "pid": os.getpid(), "term": str(signal.getsignal(signal.SIGTERM)),
        "blocked": [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())],
        "environment": sorted(os.environ), "group": os.getpgrp(), "frozen": gc.get_freeze_count() > 0,
    }  # fmt: skip


def by_name(file):
    """The file's name says what goes wrong."""
    name = file.name.partition("-")[0]
    if name == "segfault":
        ctypes.string_at(0)
    elif name == "exit":
        os._exit(int(file.name.partition("-")[2]))
    elif name == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif name == "loop":
        while True:
            pass
    elif name == "sleep":
        time.sleep(3600)
    elif name == "deaf":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGQUIT})
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(3600)
    elif name == "raise":
        raise KeyboardInterrupt
    elif name == "exit_slowly":
        atexit.register(time.sleep, 3600)


def wait_for_go(file):
    """Until somebody lays a file `go` beside it."""
    go = Path(file.path).with_name("go")
    while not go.exists():
        time.sleep(0.005)


def grandchild(file):
    """Leaves a process in the worker's group, and dies."""
    child = subprocess.Popen(["sleep", "3600"])
    Path(file.path).with_name("pid").write_text(str(child.pid))
    os._exit(1)


def daemonise(file):
    """Leaves a process in a session of its own, started by a process that is gone, and dies."""
    place = Path(file.path).with_name("pid")
    script = f"setsid sh -c 'echo $$ > {place}.part; mv {place}.part {place}; exec sleep 3600' > /dev/null 2>&1 &"
    subprocess.run(["sh", "-c", script], check=True)
    while not place.exists():
        time.sleep(0.005)
    os._exit(1)


def leave(file):
    """As daemonise, but it goes on living."""
    place = Path(file.path).with_name("pid")
    subprocess.run(["sh", "-c", f"setsid sleep 3600 > /dev/null 2>&1 & echo $! > {place}"], check=True)


def leave_bare(file):
    """As leave, with an environment of its own."""
    _help(file)


def need_bare(file):
    """Likewise, and waits for go; by then it must be there."""
    helper = _help(file)
    wait_for_go(file)
    os.kill(helper, 0)


def _help(file):
    place = Path(file.path).with_name("pid")
    script = f"setsid sleep 3600 > /dev/null 2>&1 & echo $! > {place}.part; mv {place}.part {place}"
    subprocess.run(["sh", "-c", script], env={"PATH": os.environ["PATH"]}, check=True)
    return int(place.read_text())


def flood(file):
    """Ten megabytes without a line end, straight to the descriptor."""
    block = b"x" * 65536
    for _ in range(160):
        os.write(1, block)
    os.write(1, b"\nafter\n")


def speak(file):
    print("out of", file.name)
    print("\x1b[31merr\x00 of", file.name, file=sys.stderr)


def disturb(file):
    """Leaves the process changed."""
    os.chdir("/")
    os.umask(0o777)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR2})
    signal.setitimer(signal.ITIMER_REAL, 0.05)


def babble(file):
    """Writes what is no message on the daemon's socket."""
    os.write(_daemon_socket(), b"\xff\xff\xff\xffhello")
    time.sleep(3600)


def forge(file):
    """Reports a file of somebody else."""
    body = b'{"kind":"Reports","batch":"x","reports":[],"last":true,"rss":1}'
    os.write(_daemon_socket(), len(body).to_bytes(4, "big") + body)
    time.sleep(3600)


def note(file):
    """Has fetched so many bytes that they are no number."""
    body = b'{"kind":"Note","event":"fetching","fields":{"id":"x","bytes":"many"}}'
    os.write(_daemon_socket(), len(body).to_bytes(4, "big") + body)
    time.sleep(3600)


def hang_up(file):
    os.close(_daemon_socket())
    time.sleep(3600)


def _daemon_socket():
    return int(Path("/proc/self/cmdline").read_bytes().split(b"\0")[-3])


KEPT = []


def grow(file):
    KEPT.append(b"x" * (80 << 20))


def grow_slowly(file):
    """Grows, and takes its time after that."""
    KEPT.append(b"x" * (80 << 20))
    wait_for_go(file)


def litter(file):
    """A few objects in a cycle, with many bytes."""
    cycle = [b"x" * (20 << 20)]
    cycle.append(cycle)


def fork(file):
    """The child comes back, by the way that the file's name says; the parent tells its exit status."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        return {"status": os.waitstatus_to_exitcode(status), "pid": os.getpid()}
    if file.name == "raise":
        raise ValueError("raised in the child")
    if file.name != "return":
        sys.exit({"none": None, "number": 7, "text": "what the child had to say"}[file.name])
    print("printed by the child", end="")
    return None


def mutter(file):
    print(f"about {file.name}", end="")


def miss_sigterm(file):
    """The next one is lost, as is one that Python has no time to see before it reads; the one after it is not."""
    libc = ctypes.CDLL(None)
    libc.sysv_signal(signal.SIGTERM, libc.abs)  # a function that does nothing, once
    if file.name == "slow":
        Path(file.path).with_name("deaf").touch()
        wait_for_go(file)


def terminate(file):
    """Ends a process of its own."""
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(3600,))
    child.start()
    child.terminate()
    child.join()
    return {"exit": child.exitcode}


def batch_fork(files):
    return [fork(file) for file in files]


def batch_by_name(files):
    for file in files:
        by_name(file)


def batch_wordy(files):
    """As much to tell of each file as there may be."""
    if files[0].name == "raise":
        raise ValueError("\N{GRINNING FACE}" * 20_000)
    return [{"text": "x" * 65_000} for _ in files]


def batch_torn(files):
    """The first of its reports are told; it dies in the middle of the next message."""
    whole, told = os.write, []

    def torn(fd, data):
        if fd != _daemon_socket():
            return whole(fd, data)
        if told:
            whole(fd, data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        told.append(fd)
        return whole(fd, data)

    os.write = torn


def options(file):
    return dict(file.options)


def greedy(file):
    """Leaves no descriptor."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    with contextlib.suppress(OSError):
        while True:
            KEPT.append(os.open("/", os.O_PATH))
