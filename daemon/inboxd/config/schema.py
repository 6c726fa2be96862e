"""The JSON Schema of config.yaml, for editors."""

from __future__ import annotations

from typing import Any

from inboxd.config.models import Config

_REFERENCE = {
    "type": "object",
    "description": "A value that stands elsewhere.",
    "minProperties": 1,
    "maxProperties": 1,
    "additionalProperties": False,
    "properties": {
        "credential": {"type": "string", "description": "A name in systemd's credentials directory."},
        "file": {"type": "string", "description": "A file that holds the value."},
        "env": {"type": "string", "description": "An environment variable."},
    },
}


def schema() -> dict[str, Any]:
    """Draft 2020-12. Any text may also be a reference."""
    made = Config.model_json_schema()
    made["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    made["title"] = "config.yaml of inboxd"
    made["$defs"]["reference"] = _REFERENCE
    for section in [made, *made["$defs"].values()]:
        for key, value in section.get("properties", {}).items():
            if section is not _REFERENCE and value.get("type") == "string" and "const" not in value:
                section["properties"][key] = {"anyOf": [value, {"$ref": "#/$defs/reference"}]}
    return made
