"""The life of a slot, when it starts again, and the environment it starts with."""

from __future__ import annotations

import pytest

from inboxd.errors import IllegalTransition
from inboxd.pool.environment import worker_environment
from inboxd.pool.restarts import Restarts
from inboxd.pool.states import TRANSITIONS, ChildState, follow


def test_every_state_is_left_and_reached():
    assert {state for state, _ in TRANSITIONS} == set(ChildState)
    assert set(TRANSITIONS.values()) == set(ChildState)


def test_every_state_is_explained():
    for state in ChildState:
        assert f"{state}  " in (ChildState.__doc__ or "")


@pytest.mark.parametrize("state", ChildState)
def test_what_the_table_does_not_have_is_refused(state):
    for event in {event for _, event in TRANSITIONS}:
        if (state, event) in TRANSITIONS:
            assert follow(state, event) is TRANSITIONS[state, event]
        else:
            with pytest.raises(IllegalTransition, match=event):
                follow(state, event)


def test_a_process_is_always_reaped():
    """From each state that has a process, `exit` leads to EXITED."""
    for state in (ChildState.STARTING, ChildState.IDLE, ChildState.BUSY, ChildState.STOPPING, ChildState.FATAL):
        assert follow(state, "exit") is ChildState.EXITED


def test_a_poison_file_delays_nobody_and_repeated_deaths_do():
    restarts = Restarts(jitter=lambda: 1.0)
    assert [restarts.died(early=False) for _ in range(6)] == [0.0, 0.0, 0.0, 0.5, 1.0, 2.0]
    restarts.finished()
    assert restarts.died(early=False) == 0.0


def test_deaths_before_ready_wait_longer_each_time():
    restarts = Restarts(jitter=lambda: 0.0)
    waits = [restarts.died(early=True) for _ in range(40)]
    assert waits[:3] == [0.25, 0.5, 1.0]
    assert waits[-1] == 30.0
    assert restarts.early == 40
    restarts.ready()
    assert restarts.died(early=True) == 0.25


@pytest.mark.parametrize(
    "name",
    ["NOTIFY_SOCKET", "WATCHDOG_PID", "LISTEN_PID", "CREDENTIALS_DIRECTORY", "DB_PASSWORD", "GITHUB_TOKEN", "AWS_SECRET_ACCESS_KEY",
     "MYSQL_PWD", "named"],
)  # fmt: skip
def test_workers_never_see(name):
    assert worker_environment({name: "x", "PATH": "/bin", "PWD": "/"}, {"named"}) == {"PATH": "/bin", "PWD": "/"}


def test_urls_with_passwords_are_kept_from_workers():
    environ = {"DATABASE": "postgresql://me:pw@host/db", "SITE": "https://host/a:b@c", "TERM": "xterm"}
    assert worker_environment(environ, ()) == {"SITE": "https://host/a:b@c", "TERM": "xterm"}
