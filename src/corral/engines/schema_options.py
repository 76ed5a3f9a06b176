"""Move every option of a schema into a definition of its own.

Grammar engines merge options that stand side by side into something that also matches mixtures of them: 22 and 25 for
an ``enum`` of -20 to 20. They do not merge references.
"""

from typing import cast

Node = dict[str, object]


def spread_options(root: Node) -> Node:
    """Return the schema with each option of an ``anyOf`` and each value of an ``enum`` replaced by a reference."""
    spreader = _Spreader()
    spread = cast("Node", spreader.of(root))
    definitions = cast("Node", spread.get("$defs", {}))
    return {**spread, "$defs": {**definitions, **spreader.options}} if spreader.options else spread


class _Spreader:
    def __init__(self) -> None:
        self.options: Node = {}

    def of(self, node: object) -> object:
        if isinstance(node, list):
            return [self.of(one) for one in cast("list[object]", node)]
        if not isinstance(node, dict):
            return node
        fields = cast("Node", node)
        if "enum" in fields:
            constants = [{"const": value} for value in cast("list[object]", fields["enum"])]
            return constants[0] if len(constants) == 1 else {"anyOf": [self._define(one) for one in constants]}
        return {key: self._value(key, value) for key, value in fields.items()}

    def _value(self, key: str, value: object) -> object:
        if key == "anyOf":
            return [self._define(self.of(one)) for one in cast("list[object]", value)]
        if key in {"properties", "patternProperties", "$defs", "definitions"}:
            return {name: self.of(one) for name, one in cast("Node", value).items()}
        return value if key in {"required", "const"} else self.of(value)

    def _define(self, option: object) -> Node:
        name = f"option {len(self.options)}"
        self.options[name] = option
        return {"$ref": f"#/$defs/{name}"}
