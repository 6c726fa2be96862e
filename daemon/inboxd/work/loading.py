"""Find the function that `module:function` names, or say in words why it can't be had."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any

from inboxd.work.forks import ParentOnly

_VARARGS, _GENERATOR, _COROUTINE, _ASYNC_GENERATOR = 0x04, 0x20, 0x80, 0x200  # as inspect names them, which is slow


class CannotLoad(Exception):
    """A handler that can't be run at all; the text says why."""


def load_function(name: str) -> Callable[..., Any]:
    """The function. Raises CannotLoad, whatever its module does while it is imported."""
    module_name, _, function_name = name.partition(":")
    module = _imported(module_name)
    function = getattr(module, function_name, None)
    if function is None:
        import difflib  # only when something is wrong

        close = difflib.get_close_matches(function_name, dir(module), 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise CannotLoad(f"module {module_name!r} ({_place(module)}) has no {function_name!r}{hint}")
    if not callable(function):
        raise CannotLoad(f"{name!r} can't be called: it is a {type(function).__name__}")
    if unfit := _unfit(function):
        what = "a handler is a plain function of one file or, with `batch: true`, of one list of files"
        raise CannotLoad(f"{name!r} {unfit}; {what} (docs/handlers.md)")
    return function  # type: ignore[no-any-return]


def _unfit(function: Callable[..., Any]) -> str:
    """Why it would fail for every file; "" where it need not, or where nobody can tell before it is called."""
    if not isinstance(function, FunctionType | MethodType):
        return ""
    plain = function.__func__ if isinstance(function, MethodType) else function
    if not isinstance(plain, FunctionType):
        return ""
    code, given = plain.__code__, 1 + (plain is not function)
    if code.co_flags & _COROUTINE:
        return "is an `async def`, which does nothing until it is awaited"
    if code.co_flags & (_GENERATOR | _ASYNC_GENERATOR):
        return "is a generator, which does nothing until it is iterated over: it has a `yield`"
    needed = code.co_argcount - len(plain.__defaults__ or ())
    room = code.co_argcount >= given or code.co_flags & _VARARGS
    by_name = code.co_kwonlyargcount > len(plain.__kwdefaults__ or ())
    return "can't be called with one argument" if needed > given or by_name or not room else ""


def _imported(name: str) -> Any:
    try:
        with ParentOnly():
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):
            raise CannotLoad(f"there is no module {error.name!r}; is it beside the configuration file?") from None
        raise CannotLoad(f"module {name!r} imports {error.name!r}, which is not installed") from None
    except BaseException as error:  # noqa: BLE001 - the user's module ends here, whatever it raised
        raise CannotLoad(f"importing {name!r} failed: {_told(error)}") from None


def _told(error: BaseException) -> str:
    """The last lines of the traceback, as one line: what was raised, and where."""
    import traceback

    raised = traceback.format_exception_only(error)[-1].strip()
    if isinstance(error, SyntaxError):
        return f"{raised} ({error.filename}, line {error.lineno})"
    places = [
        f"{place.filename}, line {place.lineno}"
        for place in traceback.extract_tb(error.__traceback__)
        if "importlib" not in place.filename and place.filename != __file__
    ]
    return f"{raised} ({' > '.join(places[-2:])})" if places else raised


def _place(module: Any) -> str:
    return getattr(module, "__file__", None) or "built in"
