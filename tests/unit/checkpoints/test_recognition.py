"""Files and directories in other formats are refused by a message that says what they are and what to do."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from corral.checkpoints.directory import find_weight_files
from corral.checkpoints.source import open_source
from corral.core.errors import CheckpointRefused
from corral.engines.openvino.checkpoint import open_checkpoint
from corral.text.load import load_tokenizer
from tests.oracle.llama import MHA

SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
INDEX = "model.safetensors.index.json"
POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\nsize 13476925163\n"
)
PICKLE = b"\x80\x02}q\x00." + bytes(100)
ZIP = b"PK\x03\x04\x00\x00\x08\x08" + bytes(100)
PAGE = b"<!DOCTYPE html>\n<html><title>Sign in</title></html>"


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointRefused) as refused:
        open_checkpoint(path)
    return str(refused.value)


def directory_of(tmp_path: Path, names: list[str], **config: object) -> Path:
    """A directory with a configuration of Llama, and files that are never opened."""
    directory = tmp_path / "given"
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps({**MHA.config(), **config}))
    for name in names:
        if name.endswith("/"):
            (directory / name).mkdir()
        else:
            os.mkfifo(directory / name)  # reading it would wait for ever
    return directory


# Files


FILES = (
    (POINTER, "is a Git LFS pointer: its content was not downloaded. Run `git lfs pull` in its directory"),
    (ZIP, "is a ZIP archive, in which PyTorch stores pickles; it should be a {expected}."),
    (PICKLE, "is a Python pickle; it should be a {expected}."),
    (b"\x93NUMPY\x01\x00v\x00{'descr'" + bytes(100), "is a NumPy array; it should be a {expected}."),
    (b"\x89HDF\r\n\x1a\n" + bytes(100), "is an HDF5 file, as TensorFlow stores weights; it should be a {expected}."),
    (b"\x1f\x8b\x08\x00" + bytes(100), "is a gzip archive; it should be a {expected}. Unpack it"),
    (PAGE, "is a web page, not the file itself; it should be a {expected}. Download the file again"),
    (b'<?xml version="1.0"?>\n<net name="Model">', "is an XML file, as OpenVINO describes graphs"),
    (b"lmgg" + bytes(100), "is a GGML file, a format of llama.cpp from before GGUF; it should be a {expected}."),
    (b"fmgg\x01\0\0\0" + bytes(100), "is a GGMF file, a format of llama.cpp from before GGUF"),
    (b"tjgg\x03\0\0\0" + bytes(100), "is a GGJT file, a format of llama.cpp from before GGUF"),
    (b'{\n  "architectures": ["LlamaForCausalLM"]\n}', "is a JSON file; it should be a {expected}. Give the directory"),
)


@pytest.mark.parametrize(("content", "said"), FILES, ids=[said[:30] for _, said in FILES])
def test_another_format_under_a_safetensors_name_is_named(content: bytes, said: str, tmp_path: Path) -> None:
    (MHA.write(tmp_path) / "model.safetensors").write_bytes(content)
    message = refusal(tmp_path)
    assert message.startswith("model.safetensors " + said.format(expected="safetensors file"))
    assert message.endswith(".")


@pytest.mark.parametrize(("content", "said"), FILES, ids=[said[:30] for _, said in FILES])
def test_another_format_under_a_gguf_name_is_named(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "llama.gguf"
    path.write_bytes(content)
    assert refusal(path).startswith("llama.gguf " + said.format(expected="GGUF file"))


def test_safetensors_file_given_alone_names_its_directory_as_what_to_give(tmp_path: Path) -> None:
    message = refusal(MHA.write(tmp_path) / "model.safetensors")
    assert "is a safetensors file; it should be a GGUF file. Give the directory that holds it" in message


def test_gguf_content_under_a_safetensors_name_is_named(tmp_path: Path) -> None:
    (MHA.write(tmp_path) / "model.safetensors").write_bytes(b"GGUF\x03\0\0\0" + bytes(100))
    assert "is a GGUF file; it should be a safetensors file. Give the file itself" in refusal(tmp_path)


@pytest.mark.parametrize("header_bytes", [640, 0x0480, 0x0580])
def test_a_header_length_that_looks_like_a_pickle_is_read(header_bytes: int, tmp_path: Path) -> None:
    path = MHA.write(tmp_path) / "model.safetensors"
    size_bytes = int.from_bytes(path.read_bytes()[:8], "little")
    header = path.read_bytes()[8 : 8 + size_bytes]
    body = path.read_bytes()[8 + size_bytes :]
    longer = (header_bytes - size_bytes) % 2**16 + size_bytes
    path.write_bytes(longer.to_bytes(8, "little") + header.ljust(longer) + body)
    assert path.read_bytes()[:2] == header_bytes.to_bytes(2, "little")
    with open_checkpoint(tmp_path):
        pass


@pytest.mark.parametrize("name", ["tokenizer.model", "tokenizer.json"])
def test_git_lfs_pointer_of_a_tokenizer_is_named(name: str, tmp_path: Path) -> None:
    MHA.write(tmp_path)
    (tmp_path / name).write_bytes(POINTER)
    with pytest.raises(CheckpointRefused, match=rf"^{name} is a Git LFS pointer.*`git lfs pull`"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("name", ["config.json", INDEX])
def test_git_lfs_pointer_of_a_description_is_named(name: str, tmp_path: Path) -> None:
    replace(MHA, shards=2).write(tmp_path)
    (tmp_path / name).write_bytes(POINTER)
    assert refusal(tmp_path).startswith(f"{name} is a Git LFS pointer")


# Directories


DIRECTORIES = (
    (["adapter_config.json", "adapter_model.safetensors"], "is a LoRA adapter (adapter_config.json)", "Merge it"),
    (["adapter_config.json", "model.safetensors"], "is a LoRA adapter", "delete adapter_config.json"),
    (["model_index.json", "unet/", "vae/"], "is a Diffusers pipeline (model_index.json)", "Only language models"),
    (["modules.json", "config_sentence_transformers.json", "model.safetensors"], "makes embeddings", "Only language"),
    (["openvino_model.xml", "openvino_model.bin"], "exported for OpenVINO (openvino_model.xml)", "own repository"),
    (["openvino_language_model.xml"], "exported for OpenVINO (openvino_language_model.xml)", "own repository"),
    (["model.onnx", "model.onnx_data"], "exported to ONNX (model.onnx)", "own repository"),
    (["onnx/"], "exported to ONNX (onnx/)", "own repository"),
    (["weights.npz"], "holds its weights as NumPy arrays (weights.npz), as MLX does", "own repository"),
    (["optimizer.pt", "scheduler.pt", "rng_state.pth"], "state of a training (optimizer.pt, rng_state.pth", "Give the"),
    (["trainer_state.json", "checkpoint-500/"], "the state of a training", "saved model: checkpoint-500/."),
    (["model.Q4_0.gguf"], "holds a GGUF file", "Give the file itself: {directory}/model.Q4_0.gguf"),
    (
        ["q-00001-of-00002.gguf", "q-00002-of-00002.gguf"],
        "holds a GGUF file",
        "itself: {directory}/q-00001-of-00002.gg",
    ),
    (["a.gguf", "b.gguf"], "holds 2 GGUF models: a.gguf, b.gguf", "Give one of them"),
    (["pytorch_model.bin", "optimizer.pt"], "only as pickles (pytorch_model.bin)", "pretrained('{directory}', torch_"),
    (["pytorch_model-00001-of-00002.bin"], "only as pickles (pytorch_model-00001-of-00002.bin)", "save_pretrained("),
    (["model.ckpt"], "holds weights of TensorFlow or Flax (model.ckpt)", "own repository"),
    (["lit_model.pth"], "only as pickles (lit_model.pth)", "Only *.safetensors are read."),
    (["consolidated.00.pth", "params.json"], "Meta's original format (consolidated.00.pth)", "ends with -hf"),
    (["consolidated.safetensors", "params.json"], "in Mistral's own format only (consolidated.safetens", "config.json"),
    (["tf_model.h5"], "holds weights of TensorFlow or Flax (tf_model.h5)", "own repository"),
    (["blobs/", "refs/", "snapshots/"], "is a folder of the Hugging Face cache", "snapshots/<commit>"),
    (["tokenizer.json", "README.md"], "no weights: there is only README.md, config.json, tokenizer.json", "*.gguf"),
)


@pytest.mark.parametrize(("names", "what", "advice"), DIRECTORIES, ids=[",".join(names) for names, _, _ in DIRECTORIES])
def test_directory_in_another_format_is_named(names: list[str], what: str, advice: str, tmp_path: Path) -> None:
    directory = directory_of(tmp_path, names)
    message = refusal(directory)
    assert message.startswith(f"{directory} ")
    assert what in message
    assert advice.format(directory=directory).replace("*.gguf", ".gguf file") in message


def test_conversion_of_pickles_can_be_pasted(tmp_path: Path) -> None:
    directory = directory_of(tmp_path, ["pytorch_model.bin"])
    _, *lines = refusal(directory).splitlines()
    compile("\n".join(lines), "pasted", "exec")
    assert len(lines) == 2


def test_a_gguf_file_is_found_in_a_directory_without_configuration(tmp_path: Path) -> None:
    directory = directory_of(tmp_path, ["llama.gguf"])
    (directory / "config.json").unlink()
    assert refusal(directory).endswith(f"Give the file itself: {directory / 'llama.gguf'}")


def test_empty_directory_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path).startswith(f"{tmp_path} is empty. Corral reads a directory in the Transformers format")


def test_names_of_files_cannot_control_the_terminal(tmp_path: Path) -> None:
    directory = directory_of(tmp_path, ["\x1b[2J.npz"])
    assert "\x1b" not in refusal(directory)


def test_other_formats_beside_safetensors_are_ignored(tmp_path: Path) -> None:
    MHA.write(tmp_path)
    for name in ("openvino_model.xml", "model.onnx", "pytorch_model.bin", "consolidated.safetensors", "a.gguf"):
        os.mkfifo(tmp_path / name)
    with open_checkpoint(tmp_path) as checkpoint:
        assert [path.name for path in checkpoint.files] == ["model.safetensors"]


# Configurations


QUANTIZED = (
    ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, 'quantization_config.quant_method is "gptq"'),
    ({"quantization_config": {"quant_method": "awq", "bits": 4}}, 'quantization_config.quant_method is "awq"'),
    ({"quantization_config": {"quant_method": "bitsandbytes"}}, 'quantization_config.quant_method is "bitsandbytes"'),
    ({"quantization_config": {"quant_method": "compressed-tensors"}}, 'quant_method is "compressed-tensors"'),
    ({"compression_config": {"quant_method": "compressed-tensors"}}, 'compression_config.quant_method is "compressed'),
    ({"quantization_config": {"quant_method": "fp8"}}, 'quant_method is "fp8"'),
    ({"quantization_config": {}}, "quantization_config.quant_method is null"),
    ({"quantization_config": {"bits": 4, "group_size": 64}}, "says that MLX quantized the weights to 4 bits"),
    ({"quantization": {"bits": 8, "group_size": 64}}, "quantization says that MLX quantized the weights to 8 bits"),
)


@pytest.mark.parametrize(("config", "said"), QUANTIZED, ids=[said for _, said in QUANTIZED])
def test_quantized_weights_are_refused_with_what_to_use(config: dict[str, object], said: str, tmp_path: Path) -> None:
    message = refusal(directory_of(tmp_path, ["model.safetensors"], **config))
    assert message.startswith("config.json: ")
    assert said in message
    assert "Use the model's original repository (BF16, F16 or F32 safetensors)" in message


def test_null_quantization_is_no_quantization(tmp_path: Path) -> None:
    replace(MHA, extra_config={"quantization_config": None}).write(tmp_path)
    with open_checkpoint(tmp_path):
        pass


# Weight files


def test_stale_index_beside_complete_weights_is_named_with_the_missing_files(tmp_path: Path) -> None:
    MHA.write(tmp_path)
    names = {f"t{number}": f"model-0000{number}-of-00002.safetensors" for number in (1, 2)}
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": names}))
    assert refusal(tmp_path) == (
        f"{INDEX} names files that are not there (2 of 2): model-00001-of-00002.safetensors, "
        "model-00002-of-00002.safetensors. Download them, or use another copy of the model. "
        "If the whole model is in model.safetensors, delete the index."
    )


@pytest.mark.parametrize(
    ("present", "chosen"),
    [
        (["model.safetensors", "consolidated.safetensors"], ["model.safetensors"]),
        (["model.safetensors", "model-00001-of-00001.safetensors"], ["model.safetensors"]),
        ([*SHARDS, "consolidated.safetensors", "x.safetensors"], SHARDS),
        (["x.safetensors", "consolidated-00001-of-00001.safetensors", "optimizer.safetensors"], ["x.safetensors"]),
    ],
)
def test_weights_without_an_index_are_those_of_the_transformers_format(
    present: list[str], chosen: list[str], tmp_path: Path
) -> None:
    directory = directory_of(tmp_path, present)
    assert [path.name for path in find_weight_files(directory)] == chosen


def test_missing_shard_without_an_index_is_named(tmp_path: Path) -> None:
    directory = directory_of(tmp_path, ["model-00001-of-00003.safetensors", "model-00003-of-00003.safetensors"])
    assert refusal(directory).startswith(
        "Weight files are missing (1 of 3): model-00002-of-00003.safetensors. Download them"
    )


def test_configuration_can_be_read_before_the_weights_are_there(tmp_path: Path) -> None:
    assert open_source(directory_of(tmp_path, [])).read_config().get("hidden_size") == 64
