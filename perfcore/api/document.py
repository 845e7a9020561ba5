"""The OpenAPI document, made from the table of operations."""

from __future__ import annotations

from typing import Any

import perfcore
from perfcore.api.operations import OPERATIONS, Operation


def openapi() -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of the routes."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Perfcore",
            "version": perfcore.__version__,
            "description": "Endpoints, the statements they run, and what makes them faster.",
        },
        "paths": {
            path: {"get": _described(operation, path)}
            for operation in OPERATIONS
            for path in operation.paths
        },
        "components": {"schemas": {"Error": _ERROR_SCHEMA}},
    }


def _described(operation: Operation, path: str) -> dict[str, Any]:
    statuses = {"405": "Not a GET.", "422": "A parameter is wrong.", "503": "The store is away."}
    if "{" in path:
        statuses["404"] = "Nothing of that id is known."
    failing = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}
    answer = {"application/json": {"schema": dict(operation.schema)}}
    return {
        "operationId": path.removeprefix("/api/v1/").translate(_NAMING),
        "summary": operation.summary,
        "parameters": [p.document() for p in operation.parameters],
        "responses": {
            "200": {"description": "The answer.", "content": answer},
            **{status: {"description": words, **failing} for status, words in statuses.items()},
        },
    }


_NAMING = str.maketrans({"/": "_", "-": "_", "{": "", "}": ""})
_ERROR_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["error", "field", "hint"],
    "properties": {
        "error": {"type": "string", "description": "What is wrong, with the value."},
        "field": {"type": "string", "description": "The parameter it is about."},
        "hint": {"type": "string", "description": "The remedy."},
    },
}
