"""What may stand on the command line, and with which exit code it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from inboxd.cli import arguments, client, main
from inboxd.cli.arguments import default_config, parse
from support.answering import COMMANDS
from support.daemon import AS_ANY_USER, inboxd_anywhere


@pytest.mark.parametrize(
    "line",
    [
        "",
        "nosuch",
        "stat",
        "status extra",
        "status --wat",
        "files --state nosuch",
        "files --outcome nosuch",
        "files --since 2",
        "files --since -2h",
        "files --limit 0",
        "files --limit 1e3",
        "show",
        "explain",
        "pause",
        "poll",
        "poll a b",
        "bench",
        "tune",
        "init",
        "run --log-format xml",
        "run --state-dir var",
        "--state-dir var check",
    ],
)
def test_what_makes_no_sense_is_64(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line.split()) == 64
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("usage: inboxd")


def test_names_that_are_too_many_are_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "a.csv", "ev\x1b]0;pwn\x07", "two\nlines"]) == 64
    assert capsys.readouterr().err.endswith("unrecognized arguments: ev\\x1b]0;pwn\\x07 two\\x0alines\n")


def test_who_names_no_verb_is_told_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 64
    told = capsys.readouterr().err
    assert all(verb in told for verb in COMMANDS)


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    assert f"inboxd {verb}" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("inboxd ")


def test_the_configuration_may_stand_on_either_side_of_the_verb() -> None:
    assert parse(["-c", "a.yaml", "status"]).config == Path("a.yaml")
    assert parse(["status", "--config", "a.yaml"]).config == Path("a.yaml")
    assert parse(["-c", "a.yaml", "status", "-c", "b.yaml"]).config == Path("b.yaml")
    assert parse(["--state-dir", "a", "files", "--state", "done"]).state_dir == Path("a")


def test_where_the_configuration_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("INBOXD_CONFIG", raising=False)
    (tmp_path / "config.yaml").touch()
    assert default_config() == Path("config.yaml")
    monkeypatch.setenv("INBOXD_CONFIG", "/srv/intake.yaml")
    assert default_config() == Path("/srv/intake.yaml")
    assert parse(["status", "-c", "mine.yaml"]).config == Path("mine.yaml")


@pytest.mark.parametrize("line", ["status", "check", "tune ."])
def test_where_none_is_it_is_told_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    everywhere = tmp_path / "none.yaml"
    monkeypatch.setattr(arguments, "_CONFIGS", ("config.yaml", str(everywhere)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("INBOXD_CONFIG", raising=False)
    looked_for = "looked for at ./config.yaml and /etc/inboxd/config.yaml"
    assert main(line.split()) == 78
    assert looked_for in capsys.readouterr().err
    assert main([*line.split(), "-c", str(everywhere)]) == 78
    assert looked_for not in capsys.readouterr().err
    monkeypatch.setenv("INBOXD_CONFIG", str(everywhere))
    assert main(line.split()) == 78
    assert looked_for not in capsys.readouterr().err


def test_a_folder_that_may_not_be_entered(tmp_path: Path) -> None:
    """As by `runuser -u bob -- inboxd status` in root's home: what lies there can't be looked for."""
    closed = tmp_path / "closed"
    closed.mkdir()
    script = 'chmod 0 . && exec "$@"'  # once in it, as every other user
    told = inboxd_anywhere(closed, "status", under=("sh", "-c", script, "sh", *AS_ANY_USER))
    closed.chmod(0o700)
    assert "Traceback" not in told.stderr
    assert told.returncode in {69, 78}
    assert "config.yaml" in told.stderr


@pytest.mark.parametrize(
    ("config", "unit", "words"),
    [
        ("/etc/inboxd/config.yaml", True, "systemctl start inboxd"),
        ("/etc/inboxd/config.yaml", False, "inboxd run -c /etc/inboxd/config.yaml"),
        ("/srv/config.yaml", True, "inboxd run -c /srv/config.yaml"),
        (None, True, "inboxd run"),
    ],
)
def test_how_a_daemon_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str | None, unit: bool, words: str
) -> None:
    (tmp_path / "inboxd.service").touch()
    monkeypatch.setattr(client, "_UNITS", (str(tmp_path / ("inboxd.service" if unit else "none")),))
    assert client._start(Path(config) if config else None) == words


def test_no_daemon_is_missed_without_naming_its_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One in the current folder wins over that of the machine."""
    monkeypatch.delenv("INBOXD_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text("state: here\n")
    assert main(["status"]) == 69
    told = capsys.readouterr().err
    assert f"no daemon listens at {tmp_path}/here/control.sock, the state folder of {tmp_path}/config.yaml" in told


def test_words_become_values() -> None:
    options = parse(["files", "--state", "waiting", "--outcome", "error", "--since", "2h", "--limit", "7"])
    assert (options.state, options.outcome, options.since, options.limit) == ("waiting", "error", 7200.0, 7)
    assert parse(["retry", "a", "b"]).ids == ["a", "b"]


def test_a_configuration_that_is_not_there_is_78(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("status", "check", "run"):
        assert main([verb, "-c", str(tmp_path / "nosuch.yaml")]) == 78
        assert "nosuch.yaml" in capsys.readouterr().err
    (tmp_path / "config.yaml").write_text("state: [\n")
    assert main(["status", "-c", str(tmp_path / "config.yaml")]) == 78


def test_a_stopped_daemon_is_69(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.yaml").write_text("state: there\nwhatever: the rest is not looked at\n")
    for line in ("status", "status --watch", "explain x", "retry --errors", "drain", "reload", "prune", "doctor"):
        assert main(["-c", str(tmp_path / "config.yaml"), *line.split()]) == 69
        told = capsys.readouterr()
        assert told.out == ""
        assert str(tmp_path / "there") in told.err
    assert main(["files", "--state-dir", str(tmp_path / "there")]) == 69
    assert not (tmp_path / "there").exists()


def test_a_state_folder_that_stands_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PLACE", "elsewhere")
    (tmp_path / "config.yaml").write_text(
        "state: {env: PLACE}\ninboxes:\n  a:\n    root: a\n    handler: {python: 'h:h'}\n"
    )
    assert main(["status", "-c", str(tmp_path / "config.yaml")]) == 69
    assert str(tmp_path / "elsewhere") in capsys.readouterr().err


def test_init_overwrites_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", str(tmp_path / "new")]) == 0
    assert main(["init", str(tmp_path / "new")]) == 64
    assert "overwritten" in capsys.readouterr().err


def test_a_fault_of_ours_is_70(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("inboxd.config.schema.schema", lambda: 1 / 0)
    assert main(["schema"]) == 70
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_an_interrupt_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("inboxd.config.schema.schema", interrupted)
    assert main(["schema"]) == 130
