"""Compares an InferenceService with the classes of KServe's SDK. The environment of `make protocols` runs this.

It reads the manifest as JSON from standard input, and prints the path of every field that the SDK does not know.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from typing import Any

import kserve.models
import kubernetes.client.models


def unknown(value: Any, kind: str, path: str) -> Iterator[str]:
    """Yield the paths of the fields that `kind`, a type in the notation of OpenAPI's generator, does not have."""
    if inner := re.fullmatch(r"list\[(.+)\]", kind):
        for number, each in enumerate(value):
            yield from unknown(each, inner[1], f"{path}[{number}]")
    elif inner := re.fullmatch(r"dict\(\w+, (.+)\)", kind):
        for name, each in value.items():
            yield from unknown(each, inner[1], f"{path}.{name}")
    elif model := getattr(kserve.models, kind, None) or getattr(kubernetes.client.models, kind, None):
        fields = {name: model.openapi_types[field] for field, name in model.attribute_map.items()}
        for name, each in value.items():
            if name in fields:
                yield from unknown(each, fields[name], f"{path}.{name}")
            else:
                yield f"{path}.{name}"


if __name__ == "__main__":
    print("\n".join(unknown(json.load(sys.stdin), "V1beta1InferenceService", "")))
