"""What an operator does by the command line, and what inboxd says."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.daemon import Daemon, inboxd, inboxd_anywhere, inboxd_json, run_daemon
from support.load import files
from support.site import Site
from support.sound import assert_sound, wait_finished
from support.wait import wait_until


def _ids(site: Site, **wanted: object) -> list[str]:
    """Ids of the rows that have these values."""
    rows = inboxd_json(site.config, "files", "--limit", "1000")["files"]
    return [row["id"] for row in rows if wanted.items() <= row.items()]


def test_a_pause_outlives_its_inbox(site: Site) -> None:
    without = site.config.read_text()
    site.inbox("second")
    both = site.config.read_text()

    def paused() -> dict[str, str | None]:
        return {row["inbox"]: row["paused"] for row in inboxd_json(site.config, "status")["inboxes"]}

    def done(*verb: str, config: str) -> None:
        site.config.write_text(config)
        assert inboxd(site.config, *verb).returncode == 0

    with run_daemon(site.config) as daemon:
        done("pause", "second", config=without)
        for verb in (["reload"], ["pause", "main"], ["resume", "main"]):
            done(*verb, config=without)
        done("reload", config=both)
        assert paused() == {"main": None, "second": "an operator said so earlier"}
        assert daemon.stop() == 0
    site.config.write_text(without)
    with run_daemon(site.config) as daemon:
        done("pause", "main", config=both)
        assert daemon.stop() == 0
    with run_daemon(site.config):
        assert paused() == {"main": "an operator said so earlier", "second": "an operator said so earlier"}


def test_pause_and_resume(site: Site) -> None:
    with run_daemon(site.config) as daemon:
        assert inboxd(site.config, "pause", "main").returncode == 0
        site.drop_all(files(10))
        why = inboxd_json(site.config, "explain", str(site.root() / "inbound" / "ok-00000.dat"))["why"]
        assert "paused" in " ".join(why)
        assert inboxd_json(site.config, "status")["inboxes"][0]["paused"]
        assert site.count("inbound") == 10
        assert daemon.stop() == 0
    with run_daemon(site.config) as daemon:  # a pause outlives the daemon
        assert inboxd_json(site.config, "status")["inboxes"][0]["paused"]
        assert site.count("inbound") == 10
        assert inboxd(site.config, "resume", "main").returncode == 0
        wait_finished(site, 10)
        assert daemon.stop() == 0
    assert_sound(site, calm=True, finished=True)


def test_unknown_things_are_usage_errors(site: Site) -> None:
    with run_daemon(site.config):
        for arguments in (
            ("pause", "nosuch"),
            ("show", "0" * 32),
            ("show", "0" * 7),
            ("show", ""),
            ("explain", "/etc/hostname"),
            ("retry",),
            ("retry", "0" * 32, "--inbox", "main"),
            ("files", "--before", "yesterday"),
            ("files", "--state", "nosuch"),
            ("files", "--inbox", "nosuch"),
            ("retry", "--errors", "--inbox", "nosuch"),
        ):
            answer = inboxd(site.config, *arguments)
            assert answer.returncode == 64, (arguments, answer.stderr)
            assert "Traceback" not in answer.stderr
            assert answer.stderr.strip()


def test_an_id_cut_too_short_names_those_it_may_mean(site: Site) -> None:
    with run_daemon(site.config):
        site.drop_all(files(7))
        wait_finished(site, 7)
        ids = _ids(site, state="DONE")
        answer = inboxd(site.config, "show", os.path.commonprefix(ids))  # noqa: RUF071 - letter by letter
    assert answer.returncode == 64
    assert "is ambiguous: several files" in answer.stderr
    assert sum(file_id in answer.stderr for file_id in ids) == 5


def test_status_names_the_file_in_progress(site: Site) -> None:
    with run_daemon(site.config):
        site.drop("sleep-2-x.dat", b"1")
        wait_until(lambda: site.witnessed("start", "sleep-2-x.dat"), "its run")
        status = inboxd_json(site.config, "status")
        assert [worker["file"] for worker in status["workers"] if worker["file"]] == ["sleep-2-x.dat"]
        assert 0.0 < status["inboxes"][0]["oldest"] < 30.0
        assert "sleep-2-x.dat" in inboxd(site.config, "status").stdout
        wait_finished(site, 1)
        wait_until(lambda: inboxd_json(site.config, "status")["inboxes"][0]["oldest"] is None, "nothing is open")
    assert_sound(site, calm=True, finished=True)


@pytest.mark.parametrize("configured", ["inboxes", "elsewhere"])
def test_explain_through_a_link(site: Site, configured: str) -> None:
    """Whichever of the two is asked for, and whichever the configuration names."""
    (site.base / "inboxes").mkdir()
    (site.base / "elsewhere").symlink_to(site.base / "inboxes")
    site.inbox("main", root=f"{configured}/main")
    with run_daemon(site.config):
        site.drop("ok.dat.part", b"1")
        for asked in ("inboxes", "elsewhere"):
            path = site.base / asked / "main" / "inbound" / "ok.dat.part"
            assert "ignored" in " ".join(inboxd_json(site.config, "explain", str(path))["why"])


def test_a_name_is_enough_to_explain_a_file(site: Site) -> None:
    """A partner on the telephone knows no path: what lies there is meant, or else what came last."""
    site.inbox("main", recursive=True)
    site.inbox("other")

    def told(name: str) -> tuple[str, str]:
        answer = inboxd_json(site.config, "explain", name)
        return answer["inbox"], " ".join(answer["why"])

    with run_daemon(site.config):
        assert inboxd(site.config, "explain", "ok-1.dat").returncode == 64
        (site.root() / "inbound" / "deep").mkdir()
        for number, (inbox, name) in enumerate(
            (("main", "ok-1.dat"), ("main", "deep/ok-2.dat"), ("other", "ok-1.dat"))
        ):
            aside = site.root(inbox) / f"upload-{number}"
            aside.write_bytes(b"1")
            aside.rename(site.root(inbox) / "inbound" / name)
            wait_until(lambda expected=number: len(_ids(site, state="DONE")) > expected, name)
        assert told("ok-1.dat")[0] == "other"
        assert told("deep/ok-2.dat")[0] == "main"
        here = inboxd_anywhere(site.root() / "inbound", "explain", "-c", str(site.config), "ok-1.dat")
        assert str(site.root() / "processed" / "ok-1.dat") in here.stdout  # that of the folder one is in
        assert str(site.root() / "processed" / "deep" / "ok-2.dat") in told("deep/ok-2.dat")[1]
        site.drop("ok-1.dat.part", b"1")
        assert told("ok-1.dat.part")[0] == "main"
        assert "ignored" in told("ok-1.dat.part")[1]
        for nobodys in ("ok-2.dat", "../../etc/hostname", "../../../config.yaml", "nosuch"):
            answer = inboxd(site.config, "explain", nobodys)
            assert (answer.returncode, "inbound" in answer.stderr) == (64, False)


def test_explain_tells_what_holds_a_claimed_file(site: Site) -> None:
    site.inbox("main", retry={"first": "24h", "longest": "24h"})
    with run_daemon(site.config) as daemon:
        site.drop("fail-1.dat", b"1")
        daemon.wait_event("file.waiting")
        assert inboxd(site.config, "pause", "main").returncode == 0
        last, held = inboxd_json(site.config, "explain", str(site.root() / "inbound" / "fail-1.dat"))["why"]
        assert re.search("told to fail.*runs again in .* min", last)
        assert "is paused" in held


def test_explain_where_an_error_lies(site: Site) -> None:
    with run_daemon(site.config):
        site.drop("reject-1.dat", b"1")
        wait_finished(site, 1)
        error = site.root() / "errors" / "reject-1.dat"
        wait_until(lambda: _ids(site, state="DONE"), "its row")

        def explained(which: str) -> str:
            answer = inboxd_json(site.config, "explain", str(site.root() / which / "reject-1.dat"))
            return " ".join(answer["why"])

        for where in ("inbound", "errors"):
            assert re.search(f"error .*rejected.* lies at {error}", explained(where))
        for where in ("processed", "outbound"):
            assert explained(where) == "it is not there, and the ledger knows of none that was"
        (site.root() / "processed" / "reject-1.dat").write_bytes(b"a stray")
        assert "does not know it" in explained("processed")
        error.unlink()
        assert "no more" in explained("errors")
        assert inboxd_json(site.config, "show", _ids(site, outcome="error")[0])["path"] is None


def test_nothing_has_ever_run(site: Site) -> None:
    for verb in (("files",), ("show", "0" * 32), ("status",), ("explain", "x")):
        answer = inboxd(site.config, *verb)
        assert answer.returncode == 69, (verb, answer.stderr)
        assert "no ledger exists yet" in answer.stderr
        assert "inboxd run" in answer.stderr
        assert not site.state.exists()


def test_a_mended_file_is_hashed_afresh(site: Site) -> None:
    """Its first content is no reason to call another file its duplicate, nor the reverse."""
    site.inbox("main", duplicates={"policy": "skip"}, retry={"first": "1ms", "longest": "1ms", "max_failures": 1})
    with run_daemon(site.config):
        site.drop("ok-1.dat", b"the same")
        wait_finished(site, 1)
        site.drop("reject-2.dat", b"broken")
        wait_finished(site, 2)
        (site.root() / "errors" / "reject-2.dat").write_bytes(b"the same")
        assert inboxd(site.config, "retry", "--errors", "--inbox", "main").returncode == 0
        wait_until(lambda: len(site.listed("processed")) == 2, "the duplicate")
        rows = inboxd_json(site.config, "files")["files"]
        assert {row["reason"] for row in rows if row["name"] == "reject-2.dat"} == {"duplicate"}


def test_retry_one_and_retry_all(site: Site) -> None:
    with run_daemon(site.config) as daemon:
        for number in range(5):
            site.drop(f"reject-{number}.dat", b"%d" % number)
        wait_finished(site, 5)
        failed = wait_until(
            lambda: len(found := _ids(site, state="DONE", outcome="error")) == 5 and found, "five errors"
        )
        daemon.stop()
    witness = site.base / "witness.py"
    witness.write_text(witness.read_text().replace('"reject": ', '"mended": '))
    with run_daemon(site.config) as daemon:
        one = inboxd(site.config, "retry", failed[0])
        assert one.returncode == 0, one.stderr
        wait_until(lambda: len(site.listed("processed")) == 1, "the retried file")
        assert inboxd(site.config, "retry", "--errors", "--inbox", "main").returncode == 0
        wait_until(lambda: len(site.listed("processed")) == 5, "all of them")
        assert site.count("errors") == 0
        again = inboxd(site.config, "retry", failed[0])
        assert again.returncode != 0
        assert failed[0] in again.stderr + again.stdout
        assert daemon.stop() == 0
    assert_sound(site, finished=True, retried=frozenset(failed))


def test_an_error_tells_its_story(site: Site) -> None:
    with run_daemon(site.config) as daemon:
        site.drop("fail-me.dat", b"content")
        wait_finished(site, 1)
        (file_id,) = wait_until(lambda: _ids(site, state="DONE"), "its row")
        shown = inboxd_json(site.config, "show", file_id)
        plain = inboxd(site.config, "show", file_id)
        failed = daemon.wait_event("file.error")
        assert daemon.stop() == 0
    story = site.sidecar("fail-me.dat")
    assert story["id"] == file_id
    assert story["inbox"] == "main"
    assert story["reason"] == "too many failures"
    assert story["error_class"] == "RuntimeError"
    assert story["message"] == "RuntimeError: told to fail in attempt 3"
    assert "_fail" in story["detail"]
    assert "Traceback" in story["detail"]
    assert [attempt["attempt"] for attempt in story["attempts"]] == [1, 2, 3]
    assert story["size"] == 7
    assert f" retry {file_id} " in story["retry"]
    assert story["retry"].endswith(f"-c {site.config}")  # it is not the one that is found by itself
    assert [failure["attempt"] for failure in shown["history"]] == [1, 2, 3]
    assert "told to fail" in plain.stdout
    assert file_id in json.dumps(failed)


def test_explain_follows_a_file(site: Site) -> None:
    site.inbox("main", retry={"first": "24h", "longest": "24h"})
    with run_daemon(site.config) as daemon:
        inbound = site.root() / "inbound"
        site.drop("ok-1.dat", b"1")
        site.drop("fail-1.dat", b"2")
        site.drop("sleep-20-x.dat", b"3")
        wait_until(lambda: site.listed("processed") == ["ok-1.dat"], "the good file")
        wait_until(lambda: site.witnessed("start", "sleep-20-x.dat"), "the long run")
        daemon.wait_event("file.waiting")

        def why(name: str) -> str:
            return " ".join(inboxd_json(site.config, "explain", str(inbound / name))["why"])

        assert "processed" in why("ok-1.dat")
        assert "again" in why("fail-1.dat")
        assert "RUNNING" in why("sleep-20-x.dat") or "worker" in why("sleep-20-x.dat")
        assert "not" in why("never-seen.dat")
        delivered = inboxd_json(site.config, "explain", str(site.root() / "processed" / "ok-1.dat"))
        assert delivered["file"]["name"] == "ok-1.dat"


def test_prune(site: Site) -> None:
    site.inbox("main", retention={"processed": "1ms"})
    with run_daemon(site.config) as daemon:
        site.drop_all(files(20))
        site.drop("reject-1.dat", b"kept")
        wait_finished(site, 21)
        wait_until(lambda: not site.listed("work"), "all delivered")
        dry = inboxd(site.config, "prune", "--dry-run")
        assert dry.returncode == 0
        assert len(site.listed("processed")) in (0, 20)
        wait_until(
            lambda: inboxd(site.config, "prune").returncode == 0 and not site.listed("processed"), "an empty folder"
        )
        assert site.listed("errors") == ["reject-1.dat"]
        assert daemon.stop() == 0


def test_prune_removes_an_error_that_was_mended_where_it_lay(site: Site) -> None:
    """And was not run again; but not the next error that has its inode."""
    site.inbox("main", retention={"errors": "1ms"})
    errors = site.root() / "errors"
    with run_daemon(site.config) as daemon:
        site.drop("reject-1.dat", b"x")
        _wait_errors(daemon, 1)
        with (errors / "reject-1.dat").open("ab") as stream:
            stream.write(b", and more")
        assert inboxd(site.config, "prune").returncode == 0
        assert list(errors.iterdir()) == []
        assert _ids(site) == []


def test_prune_removes_what_handlers_have_changed(site: Site) -> None:
    """Its row knows another size, since that is what was claimed."""
    site.inbox("main", retention={"processed": "1ms"})
    with run_daemon(site.config):
        site.drop("change-me.dat", b"x")
        wait_finished(site, 1)
        assert (site.root() / "processed" / "change-me.dat").stat().st_size > 1
        assert inboxd(site.config, "prune").returncode == 0
        assert site.listed("processed") == []


@contextlib.contextmanager
def _not_to_be_removed(path: Path) -> Iterator[None]:
    subprocess.run(["chattr", "+i", path], check=True)
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", path], check=True)


def test_what_can_not_be_removed_stays_known_and_holds_up_nobody(site: Site) -> None:
    site.inbox("main", retention={"processed": "1ms"})
    processed = site.root() / "processed"
    with run_daemon(site.config) as daemon:
        site.drop_all(files(5))
        wait_finished(site, 5)
        with _not_to_be_removed(processed / "ok-00000.dat"):
            done = inboxd(site.config, "prune")
            assert done.returncode == 1
            assert "ok-00000.dat: Operation not permitted" in done.stdout
            assert site.listed("processed") == ["ok-00000.dat"]
            assert len(_ids(site)) == 1
            assert "can't be removed" in daemon.wait_event("library", logger="retention")["message"]
        assert inboxd(site.config, "prune").returncode == 0
        assert (site.listed("processed"), _ids(site)) == ([], [])


def test_what_is_on_a_disk_that_is_away_stays_known(site: Site) -> None:
    site.inbox("main", retention={"processed": "1ms"})
    processed, aside = site.root() / "processed", site.base / "aside"
    with run_daemon(site.config):
        site.drop("ok-1.dat", b"x")
        wait_finished(site, 1)
        processed.rename(aside)
        refused = json.loads(inboxd(site.config, "prune", "--json").stdout)["refused"]
        assert list(refused) == ["main"]
        assert len(_ids(site)) == 1
        aside.rename(processed)
        assert inboxd(site.config, "prune").returncode == 0
        assert (site.listed("processed"), _ids(site)) == ([], [])


def test_what_was_put_in_the_place_of_a_delivered_file_is_not_removed(site: Site) -> None:
    """Also where the file system gives it the inode of the one before, as ext4 does."""
    site.inbox("main", retention={"processed": "1ms"})
    path = site.root() / "processed" / "ok-1.dat"
    with run_daemon(site.config):
        site.drop("ok-1.dat", b"x")
        wait_finished(site, 1)
        inode = path.stat().st_ino
        path.unlink()
        path.write_bytes(b"what somebody has put there")
        assert inboxd(site.config, "prune").returncode == 0
        assert path.read_bytes() == b"what somebody has put there", f"inode {inode}, now {path.stat().st_ino}"
        assert _ids(site) == []


def test_progress_is_told(site: Site) -> None:
    site.workers(processes=1, batch_size=1)
    with run_daemon(site.config) as daemon:
        site.put((f"sleep-0_1-{number:03d}.dat".encode(), b"%d" % number) for number in range(80))
        line = daemon.wait_event("progress", timeout=15)
        assert "%" in line["message"]
        wait_until(lambda: "main" in daemon.status() and "%" in daemon.status(), "a STATUS with progress", timeout=15)
        figures = inboxd_json(site.config, "status")["inboxes"][0]
        assert figures["backlog"] + figures["processed"] > 0


def test_resources_are_told(site: Site) -> None:
    site.write(resources={"every": "200ms"})
    with run_daemon(site.config) as daemon:
        wait_until(lambda: len(daemon.events("resources")) >= 2, "two resource lines")


def test_check_schema_and_init(site: Site) -> None:
    assert inboxd(site.config, "check").returncode == 0
    assert not site.state.exists()
    fresh = site.base / "fresh"
    done = inboxd(site.config, "init", str(fresh))
    if done.returncode == 64:  # init takes no -c
        raise AssertionError(done.stderr)
    assert done.returncode == 0
    assert inboxd(fresh / "config.yaml", "check").returncode == 0


def test_files_that_wait_for_another_attempt_are_not_finished(site: Site) -> None:
    """Also after a restart; one that is done again completes the heap, and is no heap of its own."""
    site.inbox("main", retry={"first": "24h", "longest": "24h"})
    with run_daemon(site.config) as daemon:
        site.drop("fail-1-x.dat", b"x")
        daemon.wait_event("file.waiting")
        site.drop_all(files(5))
        wait_finished(site, 5)
        heap = wait_until(lambda: _heap(site) if _heap(site)["done"] == 5 else None, "five ends")
        assert (heap["total"], heap["waiting"]) == (6, 1)
        daemon.kill()
    with run_daemon(site.config) as daemon:
        assert _heap(site)["total"] == 1
        daemon.kill()
    site.inbox("main", retry={"first": "1s", "longest": "1s"})
    with run_daemon(site.config):
        site.drop("fail-1-y.dat", b"y")
        site.drop_all(files(5, seed=2, prefix="more"))
        wait_until(lambda: "fail-1-y.dat" in site.listed("processed"), "the late end")
        heap = wait_until(lambda: _heap(site) if _heap(site)["done"] == 6 else None, "six ends")
        assert heap["total"] == 7


def _heap(site: Site) -> dict[str, object]:
    (inbox,) = inboxd_json(site.config, "status")["inboxes"]
    return dict(inbox)


def test_an_error_whose_file_was_removed(site: Site) -> None:
    """It is refused by every retry, until it is forgotten; one whose file is there is not."""
    with run_daemon(site.config) as daemon:
        site.drop("reject-gone.dat", b"1")
        site.drop("reject-there.dat", b"2")
        wait_finished(site, 2)
        (gone,), (there,) = _ids(site, name="reject-gone.dat"), _ids(site, name="reject-there.dat")
        errors = site.root() / "errors"
        (errors / "reject-gone.dat").unlink()
        refused = inboxd(site.config, "retry", gone)
        assert refused.returncode == 1
        assert f"inboxd forget {gone}" in refused.stdout
        both = inboxd(site.config, "forget", gone, there)
        assert both.returncode == 1
        assert "forgotten: 1 error" in both.stdout
        assert f"`inboxd retry {there}`" in both.stdout
        daemon.wait_event("file.forgotten", file_id=gone)
        assert sorted(path.name for path in errors.iterdir()) == ["reject-there.dat", "reject-there.dat.error.json"]
        assert _ids(site) == [there]
        assert inboxd_json(site.config, "status")["inboxes"][0]["errors"] == 1
        assert inboxd(site.config, "forget", gone).returncode == 1
        aside = errors.rename(site.base / "aside")
        away = inboxd(site.config, "forget", there)
        assert away.returncode == 1
        assert "can't be seen" in away.stdout
        aside.rename(errors)
        assert inboxd(site.config, "retry", "--errors").returncode == 0
        assert daemon.stop() == 0


def test_the_next_error_of_a_name_is_not_run_for_the_one_that_was_taken_away(site: Site) -> None:
    """Each day's payments have one name. What was filed away is refused, and can be put back."""
    errors = site.root() / "errors"
    with run_daemon(site.config) as daemon:
        site.drop("reject-pay.dat", b"first day")
        wait_finished(site, 1)
        (first,) = _ids(site)
        filed = (errors / "reject-pay.dat").rename(site.base / "filed")
        site.drop("reject-pay.dat", b"second day")
        _wait_errors(daemon, 2)
        (second,) = (one for one in _ids(site) if one != first)
        refused = inboxd(site.config, "retry", first)
        assert refused.returncode == 1
        assert f"is {second}, another error" in refused.stdout
        both = json.loads(inboxd(site.config, "retry", "--errors", "--json").stdout)
        assert (both["retried"], list(both["refused"])) == ([second], [first])
        _wait_errors(daemon, 3)
        assert [line["id"] for line in site.witnessed("start")] == [first, second, second]
        newer = (errors / "reject-pay.dat").rename(site.base / "newer")
        filed.rename(errors / "reject-pay.dat")
        assert inboxd(site.config, "retry", first).returncode == 0
        _wait_errors(daemon, 4, first)
        newer.replace(errors / "reject-pay.dat")
        assert inboxd(site.config, "forget", first).returncode == 0
        assert (errors / "reject-pay.dat").read_bytes() == b"second day"
        assert daemon.stop() == 0


def _wait_errors(daemon: Daemon, count: int, file_id: str | None = None) -> None:
    """So many errors have been told of, the last of them of this file."""
    last = wait_until(lambda: daemon.events("file.error")[count - 1 :], f"{count} errors")[0]
    assert file_id in (None, last["file_id"])


def test_an_error_that_was_mended_is_run_again_though_an_older_one_had_its_place(site: Site) -> None:
    """No row knows the inode that an editor gives it: it is the one that came last."""
    errors = site.root() / "errors"
    with run_daemon(site.config) as daemon:
        for number, content in enumerate((b"first day", b"second day"), 1):
            (errors / "reject-pay.dat").unlink(missing_ok=True)
            site.drop("reject-pay.dat", content)
            _wait_errors(daemon, number)
        first, second = sorted(_ids(site))
        (errors / "mended").write_bytes(b"second day, mended")
        (errors / "mended").replace(errors / "reject-pay.dat")
        assert inboxd(site.config, "retry", first).returncode == 1
        assert inboxd(site.config, "retry", second).returncode == 0
        _wait_errors(daemon, 3, second)


def test_one_that_was_mended_can_be_put_in_the_place_of_the_next(site: Site) -> None:
    """As the words of the refusal say: its own sidecar went with the next one."""
    errors = site.root() / "errors"
    with run_daemon(site.config) as daemon:
        site.drop("reject-pay.dat", b"first day")
        _wait_errors(daemon, 1)
        (errors / "reject-pay.dat").unlink()
        (errors / "reject-pay.dat.error.json").unlink()
        site.drop("reject-pay.dat", b"second day")
        _wait_errors(daemon, 2)
        first, second = sorted(_ids(site))
        assert "with its .error.json" in inboxd(site.config, "retry", first).stdout
        for name in ("reject-pay.dat", "reject-pay.dat.error.json"):
            (errors / name).rename(site.base / name)
        (errors / "reject-pay.dat").write_bytes(b"first day, mended")
        assert inboxd(site.config, "retry", first).returncode == 0
        _wait_errors(daemon, 3, first)
        assert inboxd(site.config, "forget", second).returncode == 0


def test_what_is_not_there_is_not_called_ignored(site: Site) -> None:
    with run_daemon(site.config):
        for name in ("absent.part", "absent.dat"):
            (why,) = inboxd_json(site.config, "explain", str(site.root() / "inbound" / name))["why"]
            assert why.startswith("it is not there")
            assert ("ignored" in why) is name.endswith(".part")


def test_a_file_behind_another_in_its_batch_is_told_so(site: Site) -> None:
    site.workers(processes=1)
    site.put([(b"sleep-30-a.dat", b"a"), (b"z-behind.dat", b"z")])
    with run_daemon(site.config) as daemon:
        wait_until(lambda: site.witnessed("start", "sleep-30-a.dat"), "a start")
        first, second = (
            " ".join(inboxd_json(site.config, "explain", str(site.root() / "inbound" / name))["why"])
            for name in ("sleep-30-a.dat", "z-behind.dat")
        )
        assert "it waits behind sleep-30-a.dat" in second
        assert "waits" not in first
        assert re.search(r"waiting +in batches +retrying.*\nmain +0 +2 +0 ", inboxd(site.config, "status").stdout)
        daemon.kill()


def test_what_a_reload_leaves_as_it_was(site: Site) -> None:
    """The order of the inboxes is that of the configuration, and a fresh worker in a healthy one's place no restart."""
    for name in ("second", "third"):
        site.inbox(name)
    with run_daemon(site.config) as daemon:
        workers = set(daemon.workers())
        site.inbox("main", layout="new")
        assert inboxd(site.config, "reload").returncode == 0
        daemon.wait_event("daemon.reloaded")
        wait_until(lambda: len(daemon.workers()) == 2 and not workers & set(daemon.workers()), "fresh workers")
        status = inboxd_json(site.config, "status")
        assert [row["inbox"] for row in status["inboxes"]] == ["main", "second", "third"]
        assert [worker["restarts"] for worker in status["workers"]] == [0, 0]
        assert [event["message"] for event in daemon.events("control.asked")] == [f"uid {os.geteuid()} asks: reload"]
        assert inboxd(site.config, "doctor").returncode == 0
        assert len(daemon.events("control.asked")) == 1  # a doctor changes nothing
        assert daemon.stop() == 0


@pytest.mark.parametrize("service", [True, False])
def test_a_drained_service_is_started_again(site: Site, service: bool) -> None:
    with run_daemon(site.config, {} if service else {"NOTIFY_SOCKET": ""}, ready=service) as daemon:
        daemon.wait_event("daemon.ready")
        told = inboxd(site.config, "drain").stdout
        assert told.startswith("the daemon has stopped\n")
        assert ("`systemctl stop inboxd`" in told) == service
        assert daemon.wait() == 0


def test_files_of_a_stopped_daemon_whose_configuration_is_refused(site: Site) -> None:
    """A credential is for the service alone; the ledger can be read without it."""
    with run_daemon(site.config) as daemon:
        site.drop("ok-1.dat", b"1")
        wait_finished(site, 1)
        assert daemon.stop() == 0
    site.write(databases={"main": {"credential": "password"}})
    refused = inboxd(site.config, "files")
    assert refused.returncode == 78
    command = re.search("`inboxd (--state-dir .* files)`", refused.stderr)
    assert command is not None, refused.stderr
    assert "ok-1.dat" in inboxd_anywhere(site.base, *command[1].split()).stdout


def test_a_start_that_is_refused_has_not_stopped(site: Site) -> None:
    with run_daemon(site.config) as daemon:
        assert daemon.stop() == 0
    (site.state / "ledger.sqlite").unlink()
    refused = inboxd(site.config, "run", "--log-format", "json")
    assert refused.returncode == 78
    assert "doctor --rebuild-ledger" in refused.stderr
    assert "daemon.stopped" not in refused.stderr
