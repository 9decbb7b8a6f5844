"""Parameters of a request, from its query, its form or its JSON body."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from app.errors import QuestionError, UnknownNameError

P = TypeVar("P", bound=BaseModel)


def parameter_names(schema: type[BaseModel]) -> tuple[str, ...]:
    """Return the names of the parameters of `schema`, as clients spell them."""
    return tuple(field.alias or name for name, field in schema.model_fields.items())


def parse_parameters(schema: type[P], given: Iterable[tuple[str, object]]) -> P:
    """Validate the parameters of a request, from any part of it.

    A JSON null is the same as no parameter.

    Args:
        schema: the model of the parameters.
        given: the name and the value of each parameter: text from a query or a form, or any JSON value.

    Raises:
        UnknownNameError: if there is no parameter with a name; the message lists the valid ones.
        QuestionError: if a parameter is given twice, because one of the values would be ignored.
        RequestValidationError: if a value is not valid.
    """
    found: dict[str, object] = {}
    valid = parameter_names(schema)
    for name, value in given:
        if name not in valid:
            raise UnknownNameError("parameter", name, valid)
        if name in found:
            raise QuestionError(f"parameter {name!r} is given more than once; valid, once each: {', '.join(valid)}")
        found[name] = value
    try:
        return schema.model_validate({name: value for name, value in found.items() if value is not None})
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False, include_context=False)) from error


def query_parameters(schema: type[BaseModel]) -> list[dict[str, Any]]:
    """Describe the parameters of `schema` as OpenAPI's query parameters."""
    properties = schema.model_json_schema()["properties"]
    return [
        {
            "name": name,
            "in": "query",
            "required": False,
            "schema": {key: value for key, value in properties[name].items() if key != "description"},
            "description": properties[name].get("description", ""),
        }
        for name in parameter_names(schema)
    ]
