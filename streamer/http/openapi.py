"""The indexer's interface in words that machines read: OpenAPI 3.1."""

from __future__ import annotations

from typing import Any, Final

from streamer.http.callers import FOR_PROBES
from streamer.http.search_request import DEFAULT_K, LARGEST_K, MOST_CONDITIONS
from streamer.http.showcase import DEFAULT_LIMIT, LARGEST_LIMIT
from streamer.indexer.recent import KINDS
from streamer.version import version

Schema = dict[str, Any]

_ERROR: Final[Schema] = {
    "type": "object",
    "properties": {"error": {"type": "string"}},
    "required": ["error"],
}
_CONDITIONS: Final[Schema] = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "reason": {"type": "string", "description": "one word"},
            "text": {"type": "string"},
            "since": {"type": "string", "format": "date-time"},
            "until": {"type": ["string", "null"], "format": "date-time", "description": "when it is tried again"},
        },
        "required": ["reason", "text", "since", "until"],
    },
}
_STATE: Final[Schema] = {
    "without": {"type": ["string", "null"], "description": "what is missing though it is ready"},
    "waits": {**_CONDITIONS, "description": "all that keeps work from flowing"},
    "degraded": {**_CONDITIONS, "description": "all that it does without"},
}
_MATCH: Final[Schema] = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "similarity": {"type": "number", "minimum": -1, "maximum": 1, "description": "cosine"},
        "text": {"type": "string", "description": "the first 1,000 characters, if vector events carry the text"},
        "metadata": {"type": "object", "description": "if vector events carry it and it is small"},
    },
    "required": ["id", "similarity"],
}

_RECENT: Final[Schema] = {
    "type": "object",
    "properties": {
        "space": {"type": "string"},
        "latest": {"type": "integer", "description": "the largest number so far, of any kind"},
        "verdicts": {
            "type": "array",
            "items": {
                "type": "object",
                "description": "as on the verdict topic, with `number` and `at` (milliseconds)",
            },
        },
        "texts": {"type": "object", "additionalProperties": {"type": "string"}, "description": "by event id"},
    },
    "required": ["space", "latest", "verdicts", "texts"],
}
_MAP: Final[Schema] = {
    "type": "object",
    "properties": {
        "space": {"type": "string"},
        "share": {"type": "number", "description": "of the variance of these events, that lies in the plane"},
        "points": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "id": {"type": "string"},
                    "x": {"type": "number"},
                    "y": {"type": "number"},
                    "verdict": {"enum": list(KINDS)},
                    "group": {"type": ["string", "null"], "description": "the first event of its near-duplicates"},
                    "text": {"type": ["string", "null"]},
                },
                "required": ["id", "x", "y", "verdict", "group", "text"],
            },
        },
    },
    "required": ["space", "share", "points"],
}


def openapi_document(dimensions: int, *, secured: bool, has_status: bool = False) -> Schema:
    """`secured`: whether a token is needed. `has_status`: whether the process tells its status."""
    what = "What the process does, how far behind it is and what it waits for"
    status: Schema = {"/v1/status": {"get": _get(what, {"type": "object"})}} if has_status else {}
    document: Schema = {
        "openapi": "3.1.0",
        "info": {"title": "streamer indexer", "version": version()},
        "paths": {
            "/v1/search": {"post": _search(dimensions)},
            "/v1/vectors/{id}": {"get": _vector(dimensions)},
            "/v1/stats": {"get": _get("How the indexer is doing", {"type": "object"})},
            "/v1/events": {"get": _live()},
            "/v1/recent": {"get": _recent()},
            "/v1/map": {"get": _get("The latest events on a plane", _MAP)},
            "/v1/overview": {"get": _overview()},
            "/healthz": {"get": _get("Whether the process answers; needs no token", {"type": "object"})},
            "/readyz": {
                "get": _get(
                    "Whether it has caught up; the reasons need the token, the status does not",
                    {"type": "object", "properties": {"ready": {"const": True}, **_STATE}},
                    {"503": "not yet, and why"},
                )
            },
            "/metrics": {"get": _metrics()},
            **status,
        },
        "components": {"schemas": {"Error": _ERROR, "Match": _MATCH}},
    }
    for path, operations in document["paths"].items():
        if path not in FOR_PROBES:
            for operation in operations.values():
                operation["responses"]["403"] = _failure("called by a name or a page that is not allowed")
    if secured:
        document["components"]["securitySchemes"] = {
            "token": {"type": "http", "scheme": "bearer"},
            "password": {"type": "http", "scheme": "basic", "description": "any user; the token is the password"},
        }
        document["security"] = [{"token": []}, {"password": []}]
        for path, operations in document["paths"].items():
            for operation in operations.values():
                if path == "/healthz":
                    operation["security"] = []
                    continue
                operation["responses"]["401"] = _failure("no token, or another one")
                if path == "/readyz":
                    operation["security"] = [*document["security"], {}]
    return document


def _search(dimensions: int) -> Schema:
    properties: Schema = {
        "text": {"type": "string", "minLength": 1, "pattern": r"\S"},
        "vector": {
            "type": "array",
            "items": {"type": "number", "minimum": -1e18, "maximum": 1e18},
            "minItems": dimensions,
            "maxItems": dimensions,
            "description": "of any length but zero",
        },
        "id": {
            "type": "string",
            "minLength": 1,
            "pattern": r"\S",
            "description": "a remembered event; not found itself",
        },
        "k": {"type": "integer", "minimum": 1, "maximum": LARGEST_K, "default": DEFAULT_K},
        "min_similarity": {"type": ["number", "null"], "minimum": -1, "maximum": 1},
        "where": {
            "type": ["object", "null"],
            "minProperties": 1,
            "maxProperties": MOST_CONDITIONS,
            "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
            "description": "metadata that must be equal; dots reach inside, a list has the values of its elements",
        },
        "space": {"type": ["string", "null"], "description": "the only one that may answer; for vectors of your own"},
    }
    subjects = [{"required": [name]} for name in ("text", "vector", "id")]
    body = {"type": "object", "properties": properties, "oneOf": subjects, "additionalProperties": False}
    answer = {
        "type": "object",
        "properties": {
            "space": {"type": "string"},
            "matches": {"type": "array", "items": {"$ref": "#/components/schemas/Match"}},
        },
        "required": ["space", "matches"],
    }
    failures = {
        "400": "the body is wrong, in words",
        "404": "no vector of this id is known",
        "408": "the body did not arrive in time",
        "409": "the index is not of this space",
        "413": "the body is larger than 1 MiB",
        "415": "the content type is not application/json",
        "422": "the text has no vector",
        "503": "the provider does not embed now",
    }
    operation = _get("The nearest of a text, a vector or a remembered event", answer, failures)
    operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return operation


def _vector(dimensions: int) -> Schema:
    answer = {
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "space": {"type": "string"},
            "dimensions": {"type": "integer", "const": dimensions},
            "vector": {"type": "array", "items": {"type": "number"}},
        },
        "required": ["id", "space", "dimensions", "vector"],
    }
    operation = _get("A remembered vector", answer, {"404": "no vector of this id is known"})
    operation["parameters"] = [
        {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    ]
    return operation


def _live() -> Schema:
    operation = _get("Verdicts from now on, as server-sent events", {}, {"503": "too many clients listen"})
    operation["responses"]["200"] = {
        "description": "`event: verdict`, `data:` as on the verdict topic; without end",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
    return operation


def _recent() -> Schema:
    operation = _get(
        "The latest verdicts, newest first, and the texts that are known", _RECENT, {"400": "a wrong query"}
    )
    operation["parameters"] = [
        _query("after", {"type": "integer", "minimum": 0}, "only those with a larger `number`"),
        _query("limit", {"type": "integer", "minimum": 0, "maximum": LARGEST_LIMIT, "default": DEFAULT_LIMIT}),
        _query("kind", {"type": "array", "items": {"enum": list(KINDS)}}, "only these; all by default"),
    ]
    return operation


def _overview() -> Schema:
    said = {"not_ready": {"type": ["string", "null"], "description": "why, if it is not"}, **_STATE}
    answer: Schema = {"type": "object", "properties": said, "required": list(said)}
    operation = _get("State, numbers and the last hour of them", answer, {"400": "a wrong query"})
    seconds: Schema = {"type": "number", "minimum": 0, "maximum": 1e12}
    operation["parameters"] = [_query("since", seconds, "samples after this time, in seconds since the epoch")]
    return operation


def _query(name: str, schema: Schema, description: str = "") -> Schema:
    said = {"description": description} if description else {}
    return {"name": name, "in": "query", "required": False, "schema": schema, **said}


def _metrics() -> Schema:
    operation = _get("Metrics for Prometheus", {})
    operation["responses"]["200"] = {
        "description": "in the format that was asked for",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    }
    return operation


def _get(summary: str, answer: Schema, failures: dict[str, str] | None = None) -> Schema:
    responses = {"200": {"description": "done", "content": {"application/json": {"schema": answer}}}}
    responses |= {status: _failure(reason) for status, reason in (failures or {}).items()}
    return {"summary": summary, "responses": responses}


def _failure(reason: str) -> Schema:
    return {
        "description": reason,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
