"""The digest of a template depends on what it writes, not on how it is laid out."""

import time

import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.text.chat.template_digest import template_digest

BASE = "{% for m in messages %}{{ '<|' + m['role'] + '|>\\n' }}{{ m.content }}{% endfor %}"


@pytest.mark.parametrize(
    "same",
    [
        "{%for m in messages%}{{'<|'+m['role']+'|>\\n'}}{{m.content}}{%endfor%}",
        '{%  for m\n in messages %}{{ "<|" + m["role"] + "|>\\n" }}{{ m.content }}{% endfor %}',
        "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' }}{{ m.content }}{% endfor %}",
        "{%- for m in messages -%}\n  {{ '<|' + m['role'] + '|>\\n' -}}\n{{- m.content }}{%- endfor %}",
        "{% for m in messages %}\n{{ '<|' + m['role'] + '|>\\n' }}{{ m.content }}{% endfor %}\n",
        "{# A comment. #}\n{% for m in messages %}\r\n{{ '<|' + m['role'] + '|>\\n' }}{{ m.content }}{% endfor %}",
        BASE.replace("{{ m.content }}", "  {{- m.content }}"),
        "  {% for m in messages %}{{ '<|' + m['role'] + '|>\\n' }}{{ m.content }}{#- no -#}  {% endfor %}",
    ],
)
def test_layout_does_not_change_the_digest(same: str) -> None:
    assert template_digest(same) == template_digest(BASE)


@pytest.mark.parametrize(
    "other",
    [
        BASE.replace("'<|'", "'<|  '"),
        BASE.replace("m.content", "m.content | trim"),
        BASE.replace("{{ m.content }}", "{{ m.content }}\n"),
        BASE.replace("{{ m.content }}", " {{ m.content }}"),
        BASE.replace("\\n", ""),
        BASE.replace("'role'", "role"),
        BASE.replace("{% endfor %}", ""),
        BASE + "\n\n\n",
        BASE + "{{ '",
        "",
    ],
)
def test_what_is_written_changes_the_digest(other: str) -> None:
    assert template_digest(other) != template_digest(BASE)


def test_a_string_that_holds_quotes_is_not_taken_for_two() -> None:
    assert template_digest("""{{ 'a" + "b' }}""") != template_digest("""{{ "a" + "b" }}""")


SPELLINGS = (
    ("{{ a }}", "{{a}}"),
    ("{{- a -}}", "\n {{-a-}}  "),
    ("{{ 'q\\n' }}", '{{"q\n"}}'),
    ("{{ '\"' }}", "{{'\"'}}"),
    ("{% if x %}", "{%if  x%}", "{# no -#} {% if x %}"),
    ("{%- if x %}", "  {%-if x%}"),
    ("{%+ if x +%}", "{%+if x+%}"),
    ("{% endif %}", "{%endif%}", "{% endif %}\n"),
    ("{%- endif -%}", "\n {%- endif -%}\n"),
    (" ", "  "),
    ("\n", " \n", ""),
    ("t", "u"),
)
PAIR = st.lists(st.sampled_from(SPELLINGS), max_size=7).flatmap(
    lambda parts: st.tuples(*[st.tuples(*(st.sampled_from(part) for part in parts)).map("".join) for _ in range(2)])
)


@given(PAIR)
@settings(max_examples=500)
def test_templates_of_one_digest_write_the_same(pair: tuple[str, str]) -> None:
    """Jinja runs these templates, which are the test's own."""
    if template_digest(pair[0]) != template_digest(pair[1]):
        return
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, autoescape=True)
    outputs: list[str] = []
    for template in pair:
        try:
            compiled = environment.from_string(template)
        except jinja2.TemplateSyntaxError:
            outputs.append("")
        else:
            outputs.append("|".join(compiled.render(x=x, a="a") for x in (True, False)))
    assert outputs[0] == outputs[1]


@pytest.mark.parametrize("unit", ["'", '"', "'\\", "{%", "{{ '", "{#", "{% ", " ", "\n", "{{ a -}} ", "{%- if", "\\"])
def test_300_kilobytes_of_any_text_take_linear_time(unit: str) -> None:
    """A quadratic scanner would take hours; the bound only ends a hung test."""
    began_s = time.monotonic()
    for start in ("", "{{ ", "{% if '"):
        template_digest(start + unit * (300_000 // len(unit)))
    assert time.monotonic() - began_s < 60
