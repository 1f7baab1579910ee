"""Names of types that every floor uses."""

from __future__ import annotations

from typing import Any, TypeAlias

# A JSON or YAML object as a file, a page or another program has it; where its keys are ours, a dataclass reads it.
Json: TypeAlias = dict[str, Any]
