"""docs/cli.md lists the same options as the help of every command."""

import pytest

from tools.cli_help import PAGE, OutOfStep, rendered


def test_cli_page_lists_every_option_of_every_command() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == rendered(page), "docs/cli.md is out of step; run: .venv/bin/python tools/cli_help.py"


def test_a_command_without_a_section_is_named() -> None:
    page = PAGE.read_text(encoding="utf-8").replace("<!-- options of corral infer -->", "")
    with pytest.raises(OutOfStep, match="infer"):
        rendered(page)
