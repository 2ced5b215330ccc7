"""The OpenAPI document of what routes read themselves: a body that is one raw image or JSON, and a query."""

from typing import Any

from pydantic import BaseModel


def body_of(message: type[BaseModel], *, example: dict[str, Any]) -> dict[str, Any]:
    """Return the OpenAPI request body of a route that takes one raw image, or JSON."""
    raw = {"schema": {"type": "string", "format": "binary"}}
    schema = message.model_json_schema(ref_template="#/components/schemas/{model}")
    for definition in schema.pop("$defs", {}).values():
        schema = _inlined(schema, definition)
    return {
        "requestBody": {
            "required": True,
            "content": {
                "image/png": raw,
                "image/jpeg": raw,
                "application/octet-stream": raw,
                "application/json": {"schema": schema, "example": example},
            },
        }
    }


def parameters_of(message: type[BaseModel]) -> list[dict[str, Any]]:
    """Return the OpenAPI parameters of a route whose query is read as a message; none is required."""
    fields: dict[str, dict[str, Any]] = message.model_json_schema()["properties"]
    return [
        {"name": name, "in": "query", "required": False, "description": schema.pop("description"), "schema": schema}
        for name, schema in fields.items()
    ]


def _inlined(schema: Any, definition: dict[str, Any]) -> Any:
    """The schema with its one definition in the place of references to it."""
    if isinstance(schema, dict):
        if schema.get("$ref", "").endswith("/" + definition["title"]):
            return {**definition, **{key: value for key, value in schema.items() if key != "$ref"}}
        return {key: _inlined(value, definition) for key, value in schema.items()}
    return [_inlined(each, definition) for each in schema] if isinstance(schema, list) else schema
