"""Any byte that a file system allows comes back as it went in."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from walks import after, new_file, walk

from inboxd.custody.history import History
from inboxd.custody.ledger import Ledger
from inboxd.model import State

_NAMES = st.binary(min_size=1, max_size=255).map(lambda raw: raw.replace(b"\0", b"0").replace(b"/", b"\\"))
_FOLDERS = st.lists(_NAMES, max_size=3).map(b"/".join)
_COMMON = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@_COMMON
@given(folder=_FOLDERS, name=_NAMES, marker=_NAMES)
def test_names_are_bytes(ledger: Ledger, history: History, folder: bytes, name: bytes, marker: bytes) -> None:
    file = new_file(folder=os.fsdecode(folder), name=os.fsdecode(name), companions=(os.fsdecode(marker),))
    (decided,) = walk(ledger, State.DECIDED, file, destination=os.fsdecode(folder + b"/" + name))
    found = ledger.get(file.id)
    assert found == decided
    assert os.fsencode(found.name) == name
    assert history.by_name("main", os.fsdecode(folder), os.fsdecode(name), 1) == [decided]


@_COMMON
@given(
    words=st.text(), value=st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5)
)
def test_words_and_results_are_kept(ledger: Ledger, words: str, value: object) -> None:
    (running,) = walk(ledger, State.RUNNING)
    decided = after(running, "decide", message=words, result={words: value})
    with ledger.transaction():
        ledger.decide([decided])
    found = ledger.get(running.id)
    assert found is not None and found.message is not None
    assert found._replace(message=words) == decided
    assert found.message == words or "\\" in found.message


@pytest.mark.parametrize("name", [b"'; DROP TABLE files; --", b"%s %(id)s ?", b"\xff\xfe\n\x1b[31m", b":id", b"~$x"])
def test_names_are_never_part_of_a_statement(ledger: Ledger, name: bytes) -> None:
    file = new_file(name=os.fsdecode(name), inbox=name.decode("latin-1").replace("\x1b", "e"))
    walk(ledger, State.CLAIMED, file)
    assert [found.name for found in ledger.open_files(State.CLAIMED)] == [file.name]
