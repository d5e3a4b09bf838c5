"""Make keda_schemas.json: JSON schemas of KEDA's resources, in which a field that KEDA does not know is an error.

    pip install cloudcoil-models-keda==2.16.1.0 && python tests-integration/documents/keda_schemas.py

Those models are made from KEDA's own resource definitions. They take seconds to import, the schemas milliseconds.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

SCHEMAS = Path(__file__).with_suffix(".json")
KINDS = ("ScaledObject", "TriggerAuthentication")
LEFT_OUT = ("status", "managedFields")


def closed(schema: Any) -> Any:
    """Return a schema without texts and without what only a cluster writes, whose objects take no other properties."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {
        key: closed(value)
        for key, value in schema.items()
        if not (key in ("title", "description", "default") and not isinstance(value, dict)) and key not in LEFT_OUT
    }
    return {**kept, "additionalProperties": False} if isinstance(kept.get("properties"), dict) else kept


def make() -> None:
    """Write the schemas."""
    from cloudcoil.models.keda import v1alpha1  # type: ignore[import-not-found,unused-ignore]

    origin = f"Made from cloudcoil-models-keda {version('cloudcoil-models-keda')} (Apache-2.0) by keda_schemas.py"
    schemas = {kind: closed(getattr(v1alpha1, kind).model_json_schema()) for kind in KINDS}
    SCHEMAS.write_text(json.dumps({"$comment": origin, **schemas}) + "\n", encoding="utf-8")


if __name__ == "__main__":
    make()
