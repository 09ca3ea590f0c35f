"""The schemas of docs/schemas, for what commands print and processes answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

FOLDER = Path(__file__).parents[2] / "docs" / "schemas"
SCHEMAS: dict[str, Any] = {path.name.removesuffix(".schema.json"): orjson.loads(path.read_bytes())
                           for path in sorted(FOLDER.glob("*.schema.json"))}  # fmt: skip
_REGISTRY: Any = Registry().with_resources(
    [(f"{name}.schema.json", DRAFT202012.create_resource(schema)) for name, schema in SCHEMAS.items()]
)


def check_document(name: str, document: Any) -> None:
    """Raises jsonschema's ValidationError where the document is not what the schema says."""
    Draft202012Validator(SCHEMAS[name], registry=_REGISTRY).validate(document)


def check_lines(name: str, printed: str) -> list[Any]:
    """Each line as JSON, checked; at least one."""
    documents = [orjson.loads(line) for line in printed.splitlines()]
    assert documents
    for document in documents:
        check_document(name, document)
    return documents
