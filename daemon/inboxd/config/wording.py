"""What pydantic found wrong, in our words: the key as it stands in the file, what was expected, what was given."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterator
from itertools import groupby

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from inboxd.config.nodes import Document, Problem, Where
from inboxd.config.shapes import examples, keys_at

_LONGEST = 60  # characters shown of a value
_HIDDEN = ("databases", "destinations", "ledger", "options", "sources")  # below these, values may be secret

_EXPECTED: dict[str, Callable[[ErrorDetails], str]] = {
    "int_type": lambda _: "a whole number",
    "bool_type": lambda _: "true or false",
    "string_type": lambda one: "text" if isinstance(one["input"], dict | list | None) else "text, so put it in quotes",
    "list_type": lambda _: "a list, written [first, second]",
    "dict_type": lambda _: "a section, that is keys and values below it",
    "model_type": lambda _: "a section, that is keys and values below it",
    "literal_error": lambda one: str(one["ctx"]["expected"]).replace("'", ""),
    "greater_than_equal": lambda one: f"at least {one['ctx']['ge']}",
    "less_than_equal": lambda one: f"at most {one['ctx']['le']}",
    "too_short": lambda one: f"at least {one['ctx']['min_length']} entry",
    "string_too_short": lambda _: "text that is not empty",
}


def explained(error: ValidationError, document: Document) -> Iterator[Problem]:
    """One problem for each key, whatever the number of kinds that were tried on it."""
    found = [(_in_file(one, document), one) for one in error.errors(include_url=False)]
    for where, group in groupby(found, key=lambda pair: pair[0]):
        details = [one for _where, one in group]
        if not _is_told(where, details, document):
            yield Problem(document.line(where), where, _text(where, details, document))


def _in_file(one: ErrorDetails, document: Document) -> Where:
    """Where it is in the file: without the names of union members that pydantic puts between."""
    where: Where = ()
    for part in one["loc"]:
        if (*where, part) in document.lines:
            where = (*where, part)
    return (*where, one["loc"][-1]) if one["type"] == "missing" else where


def _is_told(where: Where, details: list[ErrorDetails], document: Document) -> bool:
    """It is refused already, or follows from what is."""
    if details[0]["type"] == "value_error" and any(spoiled[: len(where)] == where for spoiled in document.spoiled):
        return True
    return document.is_spoiled(where)


def _text(where: Where, details: list[ErrorDetails], document: Document) -> str:
    kind = details[0]["type"]
    if kind == "missing":
        return "is missing; add it"
    if kind == "extra_forbidden":
        return f"unknown key; {_remedy(where)}"
    if details[0]["loc"][-1:] == ("[key]",):
        return "is no good name; use letters, digits, dot, dash and underscore, a letter or digit first, 64 at most"
    given = _given(where, details[0], document)
    if kind in _EXPECTED:
        return f"expected {' or '.join(_EXPECTED[one['type']](one) for one in details)}{given}"
    if kind == "string_pattern_mismatch":
        return f"expected text such as {', '.join(examples(where))}{given}"
    return f"{details[0]['msg'].removeprefix('Value error, ')}{given}"


def _remedy(where: Where) -> str:
    known = keys_at(where[:-1])
    close = difflib.get_close_matches(str(where[-1])[:_LONGEST], known, 1)
    return f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(known)}"


def _given(where: Where, one: ErrorDetails, document: Document) -> str:
    """The value, for who has to find it; nothing of what may be secret."""
    value = one["input"]
    if where in document.references:
        return f" (given: {document.references[where]})"
    if isinstance(value, dict | list):
        what = "a section" if isinstance(value, dict) else "a list"
        return f" (given: {what})" if one["type"] in _EXPECTED and value else ""
    if value is None:
        return " (given: nothing)"
    text = json.dumps(value, ensure_ascii=False)
    if any(part in _HIDDEN for part in where) or "://" in text:
        return ""
    return f" (given: {text if len(text) <= _LONGEST else text[:_LONGEST] + '…'})"
