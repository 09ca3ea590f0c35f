"""What commands print with `--json`, held against the schemas of the manual."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import orjson

SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"


@cache
def schema_of(command: str) -> Any:
    return orjson.loads((SCHEMAS / f"{command}.json").read_bytes())


def checked(command: str, output: str) -> list[Any]:
    """The documents, one a line; fails for one that the schema of the command does not allow."""
    validator = jsonschema.Draft202012Validator(schema_of(command))
    documents = [orjson.loads(line) for line in output.splitlines()]
    for document in documents:
        validator.validate(document)
    return documents
