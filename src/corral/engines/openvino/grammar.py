"""Convert normalised JSON Schemas and regular expressions of ``engines`` to EBNF for the grammar engine in GenAI.

The grammar engine's own conversion of JSON Schema allows unlimited white space between tokens, which a model may emit
until ``max_tokens``. Here white space is limited to nothing, one space, or a new line with its indentation.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile
from typing import Final, cast

Node = dict[str, object]

_INDENT_SPACES: Final = 16
"""Most spaces after a line break."""
_DIGITS: Final = 15
"""Most digits of an integer or a fraction: those of double precision."""
_MOST_INTEGER: Final = 10**_DIGITS - 1
_BEYOND_ASCII: Final = re.compile(r"\\U|\\u(?!00[0-7])")
"""An escape for a character that takes several bytes, as ``_spell`` writes it."""
_SHARED: Final = {
    "gap": f'"" | " " | "\\n" [ ]{{0,{_INDENT_SPACES}}}',
    "integer": f'"-"? ("0" | [1-9] [0-9]{{0,{_DIGITS - 1}}})',
    "number": f'integer ("." [0-9]{{1,{_DIGITS}}})? ([eE] [+\\-]? [0-9]{{1,2}})?',
    "boolean": '"true" | "false"',
    "null": '"null"',
}
"""Shared rules; ``gap`` is the white space between two tokens."""


def schema_grammar(source: str) -> str:
    """Convert a schema to EBNF; the rule ``root`` matches its values as JSON.

    Args:
        source: result of ``engines.schemas.read_schema``.
    """
    return _SchemaWriter(cast("Node", json.loads(source))).write()


def pattern_grammar(source: str) -> str:
    """Convert a regular expression to EBNF; the rule ``root`` matches whole texts.

    Args:
        source: result of ``engines.patterns.read_pattern``.
    """
    rules = _Rules()
    rules.named["root"] = _pattern(source, rules)
    return rules.text()


class _Rules:
    """The rules of a grammar."""

    def __init__(self) -> None:
        self.named: dict[str, str] = {}
        """Bodies by name."""
        self._classes: dict[str, str] = {}

    def add(self, body: str) -> str:
        """Add a rule; return its name."""
        name = f"r{len(self.named)}"
        self.named[name] = body
        return name

    def character_class(self, members: str) -> str:
        """Get an expression for one of the characters, a rule of its own if some take several bytes.

        The grammar engine precomputes the tokens that may end one rule and begin what follows it. Where a class of
        such characters follows directly, it takes tokens for valid that it then cannot match.
        """
        if not _BEYOND_ASCII.search(members):
            return f"[{members}]"
        if members not in self._classes:
            self._classes[members] = self.add(f"[{members}]")
        return self._classes[members]

    def text(self) -> str:
        """Write the grammar."""
        return "\n".join(f"{name} ::= {body}" for name, body in self.named.items())


class _SchemaWriter:
    def __init__(self, schema: Node) -> None:
        self._schema = schema
        self._rules = _Rules()
        self._rule = self._rules.add
        self._references: dict[str, str] = {}
        """Rule names of the definitions, by ``$ref``."""

    def write(self) -> str:
        groups = [(key, cast("dict[str, Node]", self._schema.get(key, {}))) for key in ("$defs", "definitions")]
        definitions = {f"#/{key}/{name}": node for key, group in groups for name, node in group.items()}
        self._references = {name: f"d{number}" for number, name in enumerate(definitions)}
        self._rules.named["root"] = self._value(self._schema)
        for name, node in definitions.items():
            self._rules.named[self._references[name]] = self._value(node)
        self._rules.named |= _SHARED
        return self._rules.text()

    def _value(self, node: Node) -> str:
        match node:
            case {"$ref": str(name)}:
                return self._references[name]
            case {"anyOf": _}:
                return self._one_of(self._value(option) for option in cast("list[Node]", node["anyOf"]))
            case {"const": value}:
                return _literal(_as_json(value))
            case _:
                return self._typed(node)

    def _typed(self, node: Node) -> str:
        match node:
            case {"type": "string"}:
                return f'"\\"" {_pattern(cast("str", node["pattern"]), self._rules)} "\\""'
            case {"type": "integer", "minimum": int(least)}:
                most = cast("int | None", node.get("maximum"))
                return self._one_of(_integers(least, _MOST_INTEGER if most is None else most))
            case {"type": "array"}:
                return self._array(node)
            case {"type": "object"}:
                return self._object(node)
            case _:
                return cast("str", node["type"])

    def _one_of(self, options: Iterable[str]) -> str:
        """Write alternatives, each in two nested rules.

        The grammar engine merges alternatives with a common prefix so that mixtures of them match too. It inlines rules
        that refer to no other rule, so one level of rules would not prevent this.
        """
        return " | ".join(self._rule(self._rule(option)) for option in options)

    def _array(self, node: Node) -> str:
        if "prefixItems" in node:
            items = [self._rule(self._value(one)) for one in cast("list[Node]", node["prefixItems"])]
            return '"[" gap ' + ' "," gap '.join(items) + ' gap "]"'
        item = self._rule(self._value(cast("Node", node["items"])))
        return _listed('"["', item, '"]"', *_counts(node))

    def _object(self, node: Node) -> str:
        if "patternProperties" in node:
            ((pattern, value),) = cast("dict[str, Node]", node["patternProperties"]).items()
            member = f'"\\"" {_pattern(pattern, self._rules)} "\\":" [ ]? {self._rule(self._value(value))}'
            return _listed('"{"', self._rule(member), '"}"', 0, None)
        required = cast("list[str]", node["required"])
        properties = cast("dict[str, Node]", node["properties"])
        members = [(self._member(name, value), name in required) for name, value in properties.items()]
        return self._members(members)

    def _member(self, name: str, value: Node) -> str:
        return self._rule(f"{_literal(_as_json(name) + ':')} [ ]? {self._rule(self._value(value))}")

    def _members(self, members: Sequence[tuple[str, bool]]) -> str:
        """Write the members of an object in order; each is a rule and whether it is required."""
        further = "gap"  # what follows a member: the other members, and the gap before the brace
        first: list[str] = ['""']
        for member, is_required in reversed(members):
            beginning = f"{member} {further}"
            first = [beginning] if is_required else [beginning, *first]
            following = f'"," gap {member} {further}'
            further = self._rule(following if is_required else self._one_of((following, further)))
        return f'"{{" gap {self._rule(self._one_of(first))} "}}"'


def _listed(start: str, item: str, end: str, least: int, most: int | None) -> str:
    """Write a list of *least* to *most* items between *start* and *end*."""
    if most == 0:
        return f"{start} gap {end}"
    items = f'{item} ("," gap {item}){{{max(0, least - 1)},{"" if most is None else most - 1}}} gap'
    return f"{start} gap {items if least else f'({items})?'} {end}"


def _literal(text: str) -> str:
    return f'"{"".join(map(_spell, text))}"'


def _as_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _spell(character: str) -> str:
    """Write a character of a literal or class of the grammar."""
    if character.isascii() and (character.isalnum() or character in " _:,.{}"):
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code < 2**16 else f"\\U{code:08x}"


def _pattern(pattern: str, rules: _Rules) -> str:
    """Convert a normalised regular expression of ``engines.patterns`` to an expression of the grammar."""
    parts: list[str] = []
    characters = iter(pattern.removeprefix("^").removesuffix("$"))
    for character in characters:
        match character:
            case "[":
                parts.append(f" {rules.character_class(_class(characters))}")
            case "\\":
                parts.append(f' "{_spell(_unescaped(next(characters)))}"')
            case "{":
                parts.append("{" + "".join(takewhile(lambda one: one != "}", characters)) + "}")
            case "(" | ")" | "|" | "*" | "+" | "?":
                parts.append(f" {character}" if character in "(|" else character)
            case _:
                parts.append(f' "{_spell(character)}"')
    return f"({''.join(parts)} )" if parts else '""'


def _class(characters: Iterator[str]) -> str:
    parts: list[str] = []
    for character in takewhile(lambda one: one != "]", characters):
        match character:
            case "-":
                parts.append("-")
            case "\\":
                parts.append(_spell(_unescaped(next(characters))))
            case _:
                parts.append(_spell(character))
    return "".join(parts)


def _unescaped(letter: str) -> str:
    return {"n": "\n", "t": "\t", "r": "\r"}.get(letter, letter)


def _counts(node: Node) -> tuple[int, int | None]:
    return cast("int", node.get("minItems", 0)), cast("int | None", node.get("maxItems"))


def _integers(least: int, most: int) -> Iterator[str]:
    """Write expressions for the integers from *least* (0 or more) to *most*: one for each number of digits."""
    for digits in range(len(str(least)), len(str(most)) + 1):
        low, high = max(least, 10 ** (digits - 1) if digits > 1 else 0), min(most, 10**digits - 1)
        yield _same_length(str(low), str(high))


def _same_length(low: str, high: str) -> str:
    rest = len(low) - 1
    if not rest:
        return f"[{low}-{high}]"
    if low[0] == high[0]:
        return f'"{low[0]}" {_group(_same_length(low[1:], high[1:]))}'
    first, last = int(low[0]), int(high[0])
    parts: list[str] = []
    if int(low[1:]) > 0:
        parts.append(f'"{first}" {_group(_same_length(low[1:], "9" * rest))}')
        first += 1
    end = f'"{last}" {_group(_same_length("0" * rest, high[1:]))}' if high[1:] != "9" * rest else ""
    last -= bool(end)
    if first <= last:
        parts.append(f"[{first}-{last}] [0-9]{{{rest}}}")
    return " | ".join(filter(None, [*parts, end]))


def _group(expression: str) -> str:
    return f"({expression})"
