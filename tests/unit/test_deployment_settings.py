"""``[[deployments]]`` in the settings' file: a broken entry is refused by deployment, field and value."""

from pathlib import Path
from typing import Any

import pytest

from corral.core.errors import BadSetting
from corral.settings import DeploymentSettings, OpenVinoSettings, Settings, load_settings

ENTRY = '[[deployments]]\nname = "a"\nweights = "/x"\n'


def load(text: str, directory: Path, chosen: dict[str, Any] | None = None, **environ: str) -> Settings:
    file = directory / "corral.toml"
    file.write_text(text)
    return load_settings(chosen or {}, {"CORRAL_CONFIG": str(file), **environ})


def test_a_file_lists_deployments_with_the_options_of_their_engines(tmp_path: Path) -> None:
    text = (
        ENTRY + 'models = ["meta/llama-2-7b-chat"]\nquantize = "int4"\nload = "on-demand"\nidle_unload_s = 60\n'
        '[deployments.openvino]\nkv_cache = "u8"\nmax_sequences = 4\n[[deployments]]\nweights = "corral/demo"\n'
    )
    first, second = load(text, tmp_path).deployments
    assert (first.name, first.models, first.quantize) == ("a", ("meta/llama-2-7b-chat",), "int4")
    assert (first.load, first.idle_unload_s) == ("on-demand", 60)
    assert (first.openvino.kv_cache, first.openvino.max_sequences, first.openvino.prefix_caching) == ("u8", 4, None)
    assert (second.name, second.weights, second.engine, second.load) == ("", "corral/demo", "openvino", "start")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('quantise = "int4"', "there is no field 'quantise'. Did you mean quantize?"),
        ('quantize = "int5"', "quantize: 'int5' is not accepted. Give one of int8, int4, bf16, f32."),
        ('load = "lazy"', "load: 'lazy' is not accepted. Give one of start, on-demand."),
        ('engine = "vllm"', "engine: 'vllm' is not accepted. Give one of openvino, scripted."),
        ("idle_unload_s = 5", "idle_unload_s is 5, and load is start."),
        ("idle_unload_s = -1", "idle_unload_s: '-1' is not accepted. Give a number above 0 to 10000000."),
        ("stands_in = 'yes'", "stands_in: 'yes' is not accepted. Give true or false."),
        ("stands_in = 1", "stands_in: '1' is not accepted. Give true or false."),
        ('models = "meta/x"', "models: 'meta/x' is not accepted. Give a list of names, `owner/name`"),
        ("openvino = 3", "openvino: '3' is not accepted. Give a table with the options of the engine."),
        ("[deployments.scripted]", "the table scripted is for the engine scripted, and engine is openvino."),
        ('[deployments.openvino]\nkv_cach = "u8"', "no field 'kv_cach' in its table openvino. Did you mean kv_cache?"),
        (
            '[deployments.openvino]\nkv_cache = "u9"',
            "kv_cache in its table openvino: 'u9' is not accepted. Give one of",
        ),
        ("[deployments.openvino]\nkv_cache_tokens = true", "kv_cache_tokens in its table openvino: 'true' is not"),
        (
            "[deployments.openvino]\nmax_batched_tokens = 1",
            "'1' is not accepted. Give a whole number from 32 to 65536.",
        ),
    ],
)
def test_a_broken_entry_is_refused_by_name_field_and_value(line: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(BadSetting) as caught:
        load(ENTRY + line, tmp_path)
    message = str(caught.value)
    assert message.startswith(f"entry 1 ('a') of deployments in {tmp_path / 'corral.toml'}: ")
    assert said in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '[[deployments]]\nname = "a"',
            "entry 1 ('a') of deployments in {file}: weights is missing. Give the path of a",
        ),
        ('[[deployments]]\nname = "a b"\nweights = "x"', "name: 'a b' is not accepted. Give a name of letters, digits"),
        (ENTRY + "[[deployments]]\nweights = 3", "entry 2 of deployments in {file}: weights: '3' is not accepted."),
        ("deployments = 3", "deployments in {file}: give one table [[deployments]] for each deployment"),
        ("deployments = []", "deployments in {file}: give one table [[deployments]] for each deployment"),
    ],
)
def test_entry_without_a_valid_name_is_reported_by_its_number(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(BadSetting) as caught:
        load(text, tmp_path)
    assert said.format(file=tmp_path / "corral.toml") in str(caught.value)


@pytest.mark.parametrize(
    ("before", "chosen", "other"),
    [
        ('model = "x"\n', {}, "model in {file}"),
        ("stands_in = true\n", {}, "stands_in in {file}"),
        ("", {"model": "y"}, "the model on the command line"),
        ("", {"served_as": "a/b"}, "--as"),
        ("", {"deployments": [{"weights": "y"}, {"weights": "z"}]}, "the models on the command line"),
    ],
)
def test_a_list_of_deployments_beside_one_model_is_refused_naming_both(
    before: str, chosen: dict[str, Any], other: str, tmp_path: Path
) -> None:
    file = tmp_path / "corral.toml"
    with pytest.raises(BadSetting) as caught:
        load(before + ENTRY, tmp_path, chosen)
    said = f"deployments in {file} and {other.format(file=file)}: both say what is served. Leave one of them out."
    assert str(caught.value) == said


def test_deployments_cannot_be_set_by_variable(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="CORRAL_DEPLOYMENTS: give one table"):
        load("", tmp_path, CORRAL_DEPLOYMENTS="x")


def test_several_models_on_the_command_line_replace_the_one_of_the_file(tmp_path: Path) -> None:
    settings = load('model = "x"\n', tmp_path, {"deployments": [{"weights": "y"}, {"weights": "z"}]})
    assert [one.weights for one in settings.deployments] == ["y", "z"]


@pytest.mark.parametrize(("name", "flag"), [("served_as", "--as"), ("stands_in", "--stands-in")])
def test_a_flag_about_one_checkpoint_is_refused_with_several(name: str, flag: str, tmp_path: Path) -> None:
    given = {"deployments": [{"weights": "y"}, {"weights": "z"}], name: "a/b" if name == "served_as" else True}
    with pytest.raises(BadSetting, match=f"^{flag} is about one checkpoint, and 2 are given."):
        load("", tmp_path, given)


@pytest.mark.parametrize(
    ("given", "size_bytes"),
    [("6GiB", 6 * 2**30), ("1.5 gb", 1_500_000_000), ("512MiB", 2**29), ("1000", 1000), ("0", 0)],
)
def test_the_memory_budget_is_a_size_with_a_unit_or_bytes(given: str, size_bytes: int) -> None:
    assert load_settings({}, {"CORRAL_MEMORY_BUDGET": given}).memory_budget == size_bytes


@pytest.mark.parametrize("given", ["6XB", "-1GiB", "GiB", "lots", "9999999TiB"])
def test_a_memory_budget_that_is_no_size_is_refused(given: str) -> None:
    with pytest.raises(BadSetting, match=r"Give a size such as 6GiB, a number of bytes, or 0\."):
        load_settings({}, {"CORRAL_MEMORY_BUDGET": given})


def test_every_field_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "deployments.md").read_text()
    rows = {row.split("`")[1]: row for row in page.splitlines() if row.startswith("| `")}
    for name, field in DeploymentSettings.model_fields.items():
        assert field.description
        assert field.description in rows[name]
    for name in OpenVinoSettings.model_fields:
        assert f"`{name}`" in rows["openvino"]
