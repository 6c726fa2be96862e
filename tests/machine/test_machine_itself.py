from __future__ import annotations

from support.machine import Machine


def test_it_boots_runs_a_command_and_its_journal_answers(machine: Machine) -> None:
    assert machine.run("cat", "/proc/1/comm").stdout == "systemd\n"
    assert machine.shell("id -un; cat", user="nobody", input="said\n").stdout == "nobody\nsaid\n"
    unit = "systemd-journald.service"
    assert machine.active(unit)
    assert machine.pids(unit) == [machine.main_pid(unit)]
    machine.run("systemd-cat", "-t", "greeter", "echo", "hello")
    assert [entry["MESSAGE"] for entry in machine.journal("-t", "greeter")] == ["hello"]
