"""What OpenAPI says beyond what FastAPI reads off the routes."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from app.api.schemas import Problem

# What routes refer to and FastAPI can't see: bodies that they read themselves, and the schema of every error.
_SCHEMAS: dict[str, Any] = {
    "ImageForm": {
        "type": "object",
        "required": ["file"],
        "properties": {"file": {"type": "string", "format": "binary"}},
    },
    "ImageJson": {
        "type": "object",
        "required": ["image"],
        "properties": {"image": {"type": "string", "format": "byte", "description": "base64"}},
    },
    "Problem": Problem.model_json_schema(),
}


class DescribedAPI(FastAPI):
    """An application that also describes image bodies and errors, and says whether a request needs a key."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI description, made once."""
        if self.openapi_schema is None:
            schema = super().openapi()
            schema["components"]["schemas"] |= _SCHEMAS
            if not self.state.settings.api_keys:
                _make_keys_optional(schema)
        return super().openapi()


def _make_keys_optional(schema: dict[str, Any]) -> None:
    """Add the empty requirement to every operation that has security schemes (OpenAPI 3.1, "Operation Object")."""
    for operation in (operation for path in schema["paths"].values() for operation in path.values()):
        if "security" in operation:
            operation["security"].append({})
