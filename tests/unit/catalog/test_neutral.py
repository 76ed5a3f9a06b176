"""The catalog describes models, not APIs: no name in its code is that of an API."""

import ast
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

APIS = re.compile("replicate|deepinfra|openai|anthropic|cog|deploy_id", re.IGNORECASE)


def words(tree: ast.Module) -> Iterator[str]:
    """Identifiers and texts of a module, without its docstrings."""
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        for field in ("id", "attr", "arg", "name", "asname", "module"):
            name = getattr(node, field, None)
            if isinstance(name, str):
                yield name
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


def test_no_name_in_the_catalogs_code_is_that_of_an_api() -> None:
    modules = sorted(Path(str(files("corral.catalog"))).glob("*.py"))
    assert len(modules) > 10
    found = {
        f"{module.name}: {word}"
        for module in modules
        for word in words(ast.parse(module.read_text(encoding="utf-8")))
        if APIS.search(word)
    }
    assert found == set()


def test_no_key_in_a_model_card_is_that_of_an_api() -> None:
    for card in files("corral.catalog").joinpath("models").iterdir():
        keys = re.findall(r"^\[*([a-z_.]+)", card.read_text(encoding="utf-8"), re.MULTILINE)
        assert keys
        assert not [key for key in keys if APIS.search(key)], card.name
