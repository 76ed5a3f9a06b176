"""The figures beneath an answer."""

from corral.catalog.catalog import demo_catalog
from corral.web.measures import NAMES, NOTHING_YET, UNKNOWN, of_example


def test_figure_placeholders_are_rendered_before_values() -> None:
    assert [figure.name for figure in NOTHING_YET] == list(NAMES)
    assert {figure.value for figure in NOTHING_YET} == {UNKNOWN}


def test_every_example_has_its_figures_and_no_cost() -> None:
    for model in demo_catalog().models():
        for example in model.page.examples:
            generated, prompt, completion, rate, cost = (figure.value for figure in of_example(example))
            seconds = (example.completed_at_ms - example.admitted_at_ms) / 1000
            assert generated == f"{seconds:.2f} s"
            assert (prompt, completion) == (f"{example.prompt_tokens:,}", f"{example.completion_tokens:,}")
            assert rate == f"{example.completion_tokens / seconds:,.2f} tokens / second"
            assert cost == UNKNOWN
