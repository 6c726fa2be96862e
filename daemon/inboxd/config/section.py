"""What every section of config.yaml is, and how sections that stand in for each other are told apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Every part of the file: nothing unknown, nothing changed after loading. A key is described below it: see
    shapes.meanings."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=False,
        defer_build=True,  # each validates those in it as well: only the outermost is ever asked
    )  # fmt: skip


def kind_by(*keys: str, words: tuple[str, ...] = ()) -> Callable[[Any], str | None]:
    """Tells sections apart by their one key, and from plain words, so that a mistake is explained once and not for
    each kind. For Discriminator; the Tag of a kind is `<key>`, which no key of the file can be."""

    def kind(value: Any) -> str | None:
        if isinstance(value, str):
            return "<word>" if value in words else None
        present: Any = value if isinstance(value, dict) else getattr(type(value), "model_fields", ())
        kinds = [key for key in keys if key in present]
        return f"<{kinds[0]}>" if len(kinds) == 1 else None

    return kind
