"""The JSON Schema of config.yaml, for editors: `inboxd schema`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import SecretStr

from inboxd.config import destinations
from inboxd.config.models import FOLDERS, Config
from inboxd.config.section import Section
from inboxd.config.shapes import all_sections, is_section, meanings, show
from inboxd.config.sources import KINDS

_REFERENCE = {
    "description": "A value that stands elsewhere.",
    "type": "object",
    "minProperties": 1,
    "maxProperties": 1,
    "additionalProperties": False,
    "properties": {
        "credential": {"type": "string", "description": "A name in systemd's credentials directory."},
        "file": {"type": "string", "description": "A file that holds the value; relative to this one."},
        "env": {"type": "string", "description": "An environment variable."},
    },
}
_HERE = {"$ref": "#/$defs/Reference"}


def schema() -> dict[str, Any]:
    """Draft 2020-12. Whatever is written as text may also be a reference; cross checks are `inboxd check`'s."""
    made = Config.model_json_schema()
    parts = {"Config": made, **made["$defs"]}
    for section in all_sections():
        _write_meanings(section, parts[section.__name__]["properties"])
        _write_defaults(section, parts[section.__name__]["properties"])
    for part in parts.values():
        part["properties"] = {key: _or_reference(_with_names(value)) for key, value in part["properties"].items()}
    _add_rules(made["$defs"])
    made["$defs"]["Reference"] = _REFERENCE
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made, "title": "config.yaml of inboxd"}


def _write_meanings(section: type[Section], properties: dict[str, Any]) -> None:
    for key, meaning in meanings(section).items():
        properties[key]["description"] = meaning


def _write_defaults(section: type[Section], properties: dict[str, Any]) -> None:
    """As one would write them, with units; those of whole sections stand at their keys."""
    for key, field in section.model_fields.items():
        properties[key].pop("default", None)
        if not (field.is_required() or field.default is None or is_section(type(field.default))):
            in_words = "pattern" in properties[key] or isinstance(field.default, Path | SecretStr)
            properties[key]["default"] = show(field, field.default) if in_words else field.default


def _with_names(value: dict[str, Any]) -> dict[str, Any]:
    """`value`, and where users choose names in it, no name that the pattern does not know."""
    named = value.get("patternProperties")
    if named is None:
        return value
    below = {pattern: _or_reference(entry) for pattern, entry in named.items()}
    return {**value, "patternProperties": below, "additionalProperties": False}


def _or_reference(value: dict[str, Any]) -> dict[str, Any]:
    """`value`, with a reference as another choice wherever it asks for text."""
    if value.get("type") == "string":
        outside: dict[str, Any] = {key: value.pop(key) for key in ("description", "default", "title") if key in value}
        return {**outside, "anyOf": [value, _HERE]}
    if "anyOf" in value:
        kinds = value["anyOf"]
        takes_text = any(kind.get("type") == "string" for kind in kinds)
        return {**value, "anyOf": [*kinds, _HERE]} if takes_text else value
    return value


def _add_rules(parts: dict[str, Any]) -> None:
    """What the models check in code."""
    parts["Handler"]["oneOf"] = [{"required": ["python"]}, {"required": ["command"]}]
    parts["Inbox"]["anyOf"] = [{"required": ["root"]}, {"required": list(FOLDERS)}]
    parts["Source"]["oneOf"] = [{"required": [kind]} for kind in KINDS]
    parts["Destination"]["oneOf"] = [{"required": [kind]} for kind in destinations.KINDS]
    for name in ("Sftp", "SftpTo"):
        parts[name]["anyOf"] = [{"required": ["key"]}, {"required": ["password"]}]
    parts["Quota"]["anyOf"] = [{"required": ["items"]}, {"required": ["bytes"]}]
    policies = parts["Duplicates"]["properties"]["policy"]
    parts["Duplicates"] = {"anyOf": [policies, parts["Duplicates"]], "description": parts["Duplicates"]["description"]}
