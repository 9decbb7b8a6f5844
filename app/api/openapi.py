"""Additions to the OpenAPI description that FastAPI generates."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from app.api.schemas import ExplainParameters, PredictParameters, Problem


def _body(schema: type[BaseModel], name: str, image: dict[str, Any]) -> dict[str, Any]:
    """Describe a body with an image, in the field `name`, and the parameters of `schema` beside it.

    Only the query parameters have defaults. A generated client sends every default that it knows, and would send the
    same parameter twice.
    """
    parameters = {
        parameter: {key: value for key, value in described.items() if key != "default"}
        for parameter, described in schema.model_json_schema()["properties"].items()
    }
    return {"type": "object", "required": [name], "properties": {name: image, **parameters}}


# Schemas that FastAPI can't see: the bodies that routes parse themselves, and the body of every error.
_FILE = {"type": "string", "format": "binary"}
_BASE64 = {"type": "string", "format": "byte", "description": "base64"}
_SCHEMAS: dict[str, Any] = {
    "PredictForm": _body(PredictParameters, "file", _FILE),
    "PredictJson": _body(PredictParameters, "image", _BASE64),
    "ExplainForm": _body(ExplainParameters, "file", _FILE),
    "ExplainJson": _body(ExplainParameters, "image", _BASE64),
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
