"""Columns of a table: the type that holds all values of one unchanged, and what brings a value into it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from enum import IntEnum, auto
from typing import Any

import sqlalchemy as sa

_LARGEST_INTEGER = (1 << 63) - 1
_LARGEST_IN_A_DOUBLE = 1 << 53  # no integer up to it is changed by a double; the next one is
_SURE = 16  # characters: a double holds any number of 15 digits


class Kind(IntEnum):
    """What a value is, as far as the type of its column depends on it. Hashed as integers are: at once."""

    NOTHING = auto()
    BOOLEAN = auto()
    INTEGER = auto()
    LONG = auto()  # an integer that a double may change
    REAL = auto()
    TEXT = auto()


def number(text: str) -> float | Decimal:
    """A number of JSON that is no integer: a float where that is written the same, else with its own digits."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no number that can be kept")
    try:
        return value if repr(value) == text else Decimal(text)
    except ArithmeticError:  # its exponent has twenty digits
        raise ValueError(f"{text} is no number that can be kept") from None


def kind_of(value: Any) -> Kind:
    """A number only where one can hold it without changing it: 007, 1e400 and 1234567890.123456789 are text."""
    if value is None:
        return Kind.NOTHING
    if isinstance(value, bool):
        return Kind.BOOLEAN
    if isinstance(value, int):
        return _kind_of_integer(value)
    if isinstance(value, float):
        return Kind.REAL
    if isinstance(value, Decimal):
        return Kind.REAL if _is_double(value) else Kind.TEXT
    if not isinstance(value, str):
        return Kind.TEXT
    if re.fullmatch(r"-?(0|[1-9][0-9]{0,17})", value):
        return _kind_of_integer(int(value))
    if not re.fullmatch(r"-?(0|[1-9][0-9]{0,14})\.[0-9]{1,15}", value):
        return Kind.TEXT
    return Kind.REAL if len(value) <= _SURE or _is_double(Decimal(value)) else Kind.TEXT


def _kind_of_integer(value: int) -> Kind:
    if abs(value) <= _LARGEST_IN_A_DOUBLE:
        return Kind.INTEGER
    return Kind.LONG if abs(value) <= _LARGEST_INTEGER else Kind.TEXT


def _is_double(value: Decimal) -> bool:
    """A double is told apart from its neighbours by the same digits; its exact value may have a thousand."""
    return Decimal(repr(float(value))) == value


def type_for(kinds: set[Kind]) -> sa.types.TypeEngine[Any]:
    """The narrowest that holds them all. No NUMERIC: SQLite would make doubles of its digits."""
    found = kinds - {Kind.NOTHING}
    if found == {Kind.BOOLEAN}:
        return sa.Boolean()
    if found and found <= {Kind.INTEGER, Kind.LONG}:
        return sa.BigInteger()
    return sa.Double() if found and found <= {Kind.INTEGER, Kind.REAL} else sa.Text()


class WrittenJson(sa.types.TypeDecorator[Any]):
    """JSON that is written already: SQLAlchemy would make doubles of its numbers."""

    impl = sa.JSON
    cache_ok = True

    def __init__(self, kind: sa.JSON, *, takes_null: bool) -> None:
        super().__init__()
        self.kind = kind
        self.takes_null = takes_null

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        """As it is in that database."""
        return dialect.type_descriptor(self.kind)

    def bind_processor(self, dialect: sa.Dialect) -> Callable[[Any], Any] | None:
        """As it is; nothing is JSON's own null where the column takes no other."""
        del dialect
        return None if self.takes_null else _null_if_nothing


def _null_if_nothing(written: str | None) -> str:
    return "null" if written is None else written


def converter(column: sa.Column[Any]) -> Callable[[Any], Any]:
    """What brings a value of the file into the form that the column takes. Raises ValueError where it can't."""
    for kind, found in _CONVERTERS:
        if isinstance(column.type, kind):
            return found
    return lambda value: _written(value) if isinstance(value, dict | list | Decimal) else value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else _written(value)


def _written(value: Any) -> str:
    """As JSON."""
    try:
        return json.dumps(value)
    except TypeError:  # a Decimal, here or further in
        return _digit_by_digit(value)


def _digit_by_digit(value: Any) -> str:
    """Slower, and not as deep."""
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_digit_by_digit, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{json.dumps(key)}: {_digit_by_digit(inner)}' for key, inner in value.items())}}}"
    return json.dumps(value)


def _integer(value: Any) -> int:
    if isinstance(value, float | Decimal) and value != int(value):
        raise ValueError(value)
    return int(_digits(value))


def _real(value: Any) -> float:
    return float(_digits(value))


def _digits(value: Any) -> Any:
    """Python reads 1_000 as a number; nobody else does."""
    if isinstance(value, str) and "_" in value:
        raise ValueError(value)
    return value


def _boolean(value: Any) -> bool:
    word = str(value).strip().lower()
    if word not in _BOOLEANS:
        raise ValueError(value)
    return _BOOLEANS[word]


_BOOLEANS = {"true": True, "t": True, "yes": True, "1": True, "false": False, "f": False, "no": False, "0": False}
_CONVERTERS: tuple[tuple[type[sa.types.TypeEngine[Any]], Callable[[Any], Any]], ...] = (
    (WrittenJson, _written),
    (sa.Boolean, _boolean),
    (sa.Integer, _integer),
    (sa.Float, _real),
    (sa.Numeric, lambda value: Decimal(str(_digits(value)))),
    (sa.DateTime, datetime.fromisoformat),
    (sa.Date, date.fromisoformat),
    (sa.String, _text),
)
