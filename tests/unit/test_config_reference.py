"""docs/configuration.md says what the models say."""

from __future__ import annotations

from pathlib import Path

import pytest

from inboxd.config.reference import reference
from inboxd.config.section import Section
from inboxd.config.shapes import all_sections, meanings, sections

_PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_page_is_up_to_date() -> None:
    assert _PAGE.read_text(encoding="utf-8") == reference(), "docs/configuration.md is not up to date: run `./dev docs`"


@pytest.mark.parametrize("section", all_sections())
def test_everything_is_described(section: type[Section]) -> None:
    assert section.__doc__
    for key, field in section.model_fields.items():
        described = meanings(section).get(key) or any(sections(field.annotation))
        assert described, f"{section.__name__}.{key} has no docstring"


@pytest.mark.parametrize(
    "row",
    [
        "| `timeout` | duration | `10m` |",
        "| `max_memory` | size | `512MiB` |",
        "| `processes` | whole number or `auto`, 1 to 1024 | `auto` |",
        "| `batch_size` | whole number, 1 to 10000 | `100` |",
        "| `durability` | `full` or `process` | `full` |",
        "| `order` | `arrival`, `name` or `none` | `arrival` |",
        "| `url` | text, secret | required |",
        "| `settle` | section or `renamed` | `{quiet: 1s}` |",
        '| `match` | list of text | `["*"]` |',
        "| `window` | duration |  |",
        "| `inboxes` | sections by name | required |",
    ],
)
def test_rows(row: str) -> None:
    assert f"\n{row} " in reference()
