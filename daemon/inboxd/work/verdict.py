"""From what a handler returned or raised to a report. Pure."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from typing import Any

from inboxd.model import Ending, Report
from inboxd.wire import OrderedFile
from inboxd.work.database import DatabaseAway, DatabaseLost, DatabaseUnusable
from inboxd.work.file import Reject, Retry, seconds_of
from inboxd.work.receipts import AlreadyDone
from inboxd.work.results import NoRoom

_LARGEST_RESULT = 64 * 1024  # bytes of JSON
_DEEPEST_RESULT = 64  # objects and lists in one another
_LARGEST_DETAIL = 16 * 1024  # characters of a traceback
_LARGEST_MESSAGE = 2000  # characters
_MOST_PLACES = 3  # lines of code named for a rejection
_OURS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")  # the package
_to_json = json.JSONEncoder(allow_nan=False).encode
_from_json = json.JSONDecoder().decode
_UNCHARGED: dict[type[BaseException], Ending] = {
    DatabaseAway: Ending.UNAVAILABLE, DatabaseUnusable: Ending.BROKEN, NoRoom: Ending.UNAVAILABLE,
}  # fmt: skip


def succeeded(file_id: str, returned: Any) -> Report:
    """The report for what a handler returned for one file."""
    if isinstance(returned, BaseException):
        return judge(file_id, returned)
    if returned is None:
        return Report(file_id, Ending.PROCESSED)
    if not isinstance(returned, dict):
        return _bad_result(file_id, f"it returned a {type(returned).__name__}")
    try:
        text = _to_json(returned)
    except Exception as error:  # noqa: BLE001 - its values may be objects of any kind, and run the user's code
        return _bad_result(file_id, f"its result is no JSON: {words(error)}")
    if len(text) > _LARGEST_RESULT:
        return _bad_result(file_id, f"its result takes {len(text)} bytes as JSON")
    brackets = text.count("{") + text.count("[")  # no result is deeper than that, and few come near
    if brackets >= _DEEPEST_RESULT and _is_deep(returned, _DEEPEST_RESULT):
        return _bad_result(file_id, f"its result is nested more than {_DEEPEST_RESULT} levels deep")
    # A copy: the next run may change the object, and this report leaves together with that one's.
    return Report(file_id, Ending.PROCESSED, result=_from_json(text))


def _bad_result(file_id: str, what: str) -> Report:
    message = f"{what}; a handler returns None or a dict that is small JSON (at most {_LARGEST_RESULT // 1024} KiB)"
    return Report(file_id, Ending.FAILED, error_class="BadResult", message=message)


def _is_deep(value: Any, levels: int) -> bool:
    inner: Any = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return levels == 0 or any(_is_deep(one, levels - 1) for one in inner)


def judge(file_id: str, error: BaseException) -> Report:
    """The report for what a handler raised."""
    message = words(error)
    if isinstance(error, AlreadyDone):
        return Report(file_id, Ending.PROCESSED, message="its transaction was committed by an earlier run")
    if type(error) in _UNCHARGED:
        return Report(file_id, _UNCHARGED[type(error)], message=message, begun=False)
    if isinstance(error, DatabaseLost):  # costs an attempt: what always kills the connection must not run for ever
        return Report(file_id, Ending.RELEASED, message=message)
    if isinstance(error, Reject):
        detail = _where(error)
        return Report(file_id, Ending.REJECTED, error_class=type(error).__name__, message=message, detail=detail)
    if isinstance(error, Retry):
        return _retry(file_id, error, message)
    return Report(
        file_id, Ending.FAILED, error_class=type(error).__name__, message=_named(error), detail=_trace(error)
    )  # fmt: skip


def _retry(file_id: str, error: Retry, message: str) -> Report:
    """`after` was checked when it was given to Retry, but may have been set by other ways."""
    try:
        after = seconds_of(error.after)
    except ValueError as wrong:
        return judge(file_id, wrong)
    return Report(file_id, Ending.RETRY, after=after, error_class=type(error).__name__, message=message)


def _trace(error: BaseException) -> str:
    """Ends with what matters. Without the values of variables: they may be secrets, or the file's content."""
    import traceback  # only when something fails

    try:
        return "".join(traceback.format_exception(error))[-_LARGEST_DETAIL:]
    except BaseException as broken:  # noqa: BLE001 - as in words()
        return f"no traceback: to make one raised {type(broken).__name__}\n"


def _where(error: Reject) -> str:
    """The innermost lines of the user's own code: a rejection says what is wrong with the file, seldom who found it."""
    import traceback

    places = traceback.extract_tb(error.__traceback__)
    theirs = [place for place in places if not place.filename.startswith((_OURS, contextlib.__file__))]
    return "".join(traceback.format_list(theirs[-_MOST_PLACES:]))[-_LARGEST_DETAIL:]


def words(error: BaseException) -> str:
    """What it says, or its name when it says nothing."""
    try:
        return str(error)[:_LARGEST_MESSAGE] or type(error).__name__
    except BaseException as broken:  # noqa: BLE001 - even saying what is wrong is the user's code
        return f"{type(error).__name__}, whose text raised {type(broken).__name__}"


def _named(error: BaseException) -> str:
    """What it says, behind its name: "'amount'" alone tells nobody that a key is missing."""
    name, said = type(error).__name__, words(error)
    if isinstance(error, SystemExit):
        said = f"the handler called sys.exit({'' if said == name else said})"
    return said if said.startswith(name) else f"{name}: {said}"[:_LARGEST_MESSAGE]


def batch_succeeded(files: Sequence[OrderedFile], returned: Any) -> list[Report]:
    """The reports for what a batch handler returned: an answer per file, in order or by id, or one for all."""
    if isinstance(returned, list | tuple):
        if len(returned) != len(files):
            text = f"the batch handler returned {len(returned)} answers for {len(files)} files"
            return [judge(file.id, ValueError(text)) for file in files]
        return [succeeded(file.id, answer) for file, answer in zip(files, returned, strict=True)]
    if isinstance(returned, dict) and any(file.id in returned for file in files):
        missing = ValueError("the batch handler's dict has no answer for this file; None means processed")
        return [succeeded(file.id, returned.get(file.id, missing)) for file in files]
    return [succeeded(file.id, returned) for file in files]


def batch_failed(files: Sequence[OrderedFile], error: BaseException) -> list[Report]:
    """The reports for what a batch handler raised. A failure of many at once asks for their halves (`bisect`)."""
    if len(files) == 1 or isinstance(error, (Reject, Retry, DatabaseAway, DatabaseLost, DatabaseUnusable, NoRoom)):
        return [judge(file.id, error) for file in files]
    if isinstance(error, AlreadyDone):
        message, detail = "another file of its batch was done by an earlier run", ""
    else:
        message, detail = _named(error), _trace(error)
    again = Report("", Ending.RELEASED, message=message, detail=detail, begun=False, bisect=True)
    done = error.file_id if isinstance(error, AlreadyDone) else ""
    return [judge(file.id, error) if file.id == done else again._replace(file_id=file.id) for file in files]
