"""Additions to the OpenAPI description that FastAPI generates."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from app.api.schemas import Problem

# Schemas that FastAPI can't see: the bodies that routes parse themselves, and the body of every error.
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
    """An application whose OpenAPI description includes image bodies and errors, and says whether keys are required."""

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI description, which is generated once."""
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
