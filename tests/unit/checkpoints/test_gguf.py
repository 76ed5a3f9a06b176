"""GGUF files that are read, and files that are refused by a sentence that names what is wrong."""

import os
import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from corral.checkpoints.gguf import GgufFile
from corral.checkpoints.source import open_source
from corral.core.errors import CheckpointRefused

TEXT, ARRAY, UINT32, FLOAT32 = 8, 9, 4, 6


def text(value: bytes | str) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def pair(key: bytes | str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def tensor(name: str, shape: list[int], kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def pack(pairs: tuple[bytes, ...] = (), tensors: tuple[bytes, ...] = (), data_bytes: int = 0, **counts: int) -> bytes:
    """A file as the format's page says, or with other counts than it holds."""
    counted = {"version": 3, "tensor_count": len(tensors), "pair_count": len(pairs)} | counts
    head = b"GGUF" + struct.pack("<IQQ", counted["version"], counted["tensor_count"], counted["pair_count"])
    head += b"".join(pairs) + b"".join(tensors)
    return head + bytes(-len(head) % 32) + bytes(data_bytes)


def written(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(content)
    return path


def test_every_type_of_metadata_comes_back_as_written(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    scalars: dict[str, Any] = {
        "uint8": 200, "int8": -100, "uint16": 60_000, "int16": -30_000, "uint32": 2**32 - 1, "int32": -(2**31),
        "uint64": 2**64 - 1, "int64": -(2**63), "float32": 0.5, "float64": 0.1, "bool": True, "string": "\u00e9 text",
    }  # fmt: skip
    for kind, value in scalars.items():
        getattr(writer, f"add_{kind}")(f"a.{kind}", value)
    writer.add_array("a.texts", ["a", "", "\u65e5\u672c"])
    writer.add_array("a.integers", [1, -2])
    writer.add_array("a.floats", [0.5, -1.5])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with GgufFile(path) as file:
        assert {key: file.metadata[f"a.{key}"] for key in scalars} == scalars
        assert file.metadata["a.texts"] == ["a", "", "\u65e5\u672c"]
        assert list(file.metadata["a.integers"]) == [1, -2]
        assert list(file.metadata["a.floats"]) == [0.5, -1.5]


@pytest.mark.parametrize("alignment", [8, 32, 4096])
def test_tensors_lie_where_the_alignment_says(alignment: int, tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_custom_alignment(alignment)
    contents = {"a": np.arange(5, dtype=np.float32), "b": np.arange(6, dtype=np.float32).reshape(2, 3)}
    for name, values in contents.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with GgufFile(path) as file:
        for name, values in contents.items():
            entry = file.tensors[name]
            assert (entry.shape, entry.type.name) == (values.shape, "F32")
            assert bytes(file.read(entry.offset, entry.size_bytes)) == values.tobytes()


def test_version_2_is_read_too(tmp_path: Path) -> None:
    with GgufFile(written(tmp_path, pack((pair("a", UINT32, struct.pack("<I", 7)),), version=2))) as file:
        assert file.metadata == {"a": 7}


ALIGN = "general.alignment"


MALFORMED = (
    (b"", "is truncated: its magic"),
    (b"GGML" + bytes(100), "is not a GGUF file"),
    (pack(version=1), "of version 1"),
    (pack(version=3 << 24), "big-endian"),
    (pack()[:20], "is truncated: its number of metadata pairs"),
    (pack(tensor_count=2**63), f"claims {2**63} tensors"),
    (pack(tensor_count=5), "claims 5 tensors"),
    (pack(pair_count=2**64 - 1), f"claims {2**64 - 1} metadata pairs"),
    (pack((text("a"),), pair_count=1)[:37], "the value of a"),
    (pack((struct.pack("<Q", 2**64 - 1),), data_bytes=64), f"claims {2**64 - 1} bytes for metadata key 0"),
    (pack((struct.pack("<Q", 60_000),), data_bytes=64), "is truncated: metadata key 0 would end at byte 60032"),
    (pack((pair(b"\xff", UINT32, bytes(4)),)), "has metadata key 0, which is not UTF-8"),
    (pack((pair("a", UINT32, bytes(4)), pair("a", UINT32, bytes(4)))), "has the metadata key a twice"),
    (pack((pair("a", 13, bytes(8)),)), "gives a the unknown type 13"),
    (pack((pair("a", TEXT, struct.pack("<Q", 2**40)),)), f"claims {2**40} bytes for the text of a"),
    (pack((pair("a", TEXT, text(b"\xc3")),)), "has the text of a, which is not UTF-8"),
    (pack((pair("a", ARRAY, struct.pack("<IQ", UINT32, 2**62)),)), "the value of a would end"),
    (pack((pair("a", ARRAY, struct.pack("<IQ", TEXT, 2**62)),)), f"claims {2**62} strings for a"),
    (pack((pair("a", ARRAY, struct.pack("<IQQ", TEXT, 2, 2**40)),), data_bytes=64), "is truncated: a would end"),
    (pack((pair("a", ARRAY, struct.pack("<IQ", 99, 1)),), data_bytes=8), "gives a the unknown type 99"),
    (pack((pair("a", ARRAY, struct.pack("<IQIQ", ARRAY, 1, ARRAY, 1)),)), "holds an array of arrays in a"),
    (pack((pair(ALIGN, UINT32, struct.pack("<I", 0)),)), "general.alignment of 0"),
    (pack((pair(ALIGN, UINT32, struct.pack("<I", 48)),)), "general.alignment of 48"),
    (pack((pair(ALIGN, UINT32, struct.pack("<I", 2**31)),)), f"general.alignment of {2**31}"),
    (pack((pair(ALIGN, FLOAT32, struct.pack("<f", 32)),)), "general.alignment of 32.0"),
    (pack((), (tensor("a" * 300, [8]),), 32), "claims 300 bytes for the name of tensor 0"),
    (pack((), (tensor("a", []),), 32), "gives tensor a 0 dimensions"),
    (pack((), (tensor("a", [1, 1, 1, 1, 8]),), 32), "gives tensor a 5 dimensions"),
    (pack((), (tensor("a", [0, 8]),), 32), "gives tensor a shape [8, 0]"),
    (pack((), (tensor("a", [33], kind=8),), 64), "gives tensor a shape [33], which is not whole blocks of Q8_0"),
    (pack((), (tensor("a", [256], kind=33),), 136), "holds tensor a as Q4_0_8_8; only F32"),
    (pack((), (tensor("a", [256], kind=77),), 136), "holds tensor a as type 77; only F32"),
    (pack((), (tensor("a", [8]), tensor("a", [8], offset=32)), 64), "has the tensor a twice"),
    (pack((), (tensor("a", [8]), tensor("b", [8])), 64), "overlap or a gap before tensor b"),
    (pack((), (tensor("a", [8]), tensor("b", [8], offset=16)), 64), "its offset is 16, and should be 32"),
    (pack((), (tensor("a", [8]), tensor("b", [8], offset=64)), 96), "its offset is 64, and should be 32"),
    (pack((), (tensor("a", [8], offset=2**64 - 32),), 32), "overlap or a gap before tensor a"),
    (pack((), (tensor("a", [8]),), 31), "is truncated: 95 bytes, and its tensors end at 96"),
    (pack((), (tensor("a", [2**62, 2**62, 2**62, 2**62]),), 32), "is truncated"),
    (pack((), (tensor("a", [8]),), 33), "has 1 bytes after its last tensor"),
)  # fmt: skip


@pytest.mark.parametrize(("content", "said"), MALFORMED, ids=[said for _, said in MALFORMED])
def test_a_malformed_file_is_refused_by_name(content: bytes, said: str, tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(CheckpointRefused, match=r"^tiny\.gguf ") as refused:
        GgufFile(written(tmp_path, content))
    assert said in str(refused.value)
    assert len(os.listdir("/proc/self/fd")) == before


def test_endless_header_is_rejected_early(tmp_path: Path) -> None:
    path = written(tmp_path, pack((pair("a", ARRAY, struct.pack("<IQ", UINT32, 2**24)),)))
    with path.open("r+b") as sparse:
        sparse.truncate(2**27)
    with pytest.raises(CheckpointRefused, match="has a header beyond 33554432 bytes: the value of a"):
        GgufFile(path)


@pytest.mark.parametrize(("kind", "size"), gguf.GGML_QUANT_SIZES.items(), ids=lambda value: getattr(value, "name", ""))
def test_every_type_has_the_block_size_of_the_reference(
    kind: gguf.GGMLQuantizationType, size: tuple[int, int], tmp_path: Path
) -> None:
    elements, size_bytes = size
    path = written(tmp_path, pack((), (tensor("a", [elements], kind=kind),), size_bytes))
    with GgufFile(path) as file:
        assert (file.tensors["a"].type.name, file.tensors["a"].size_bytes) == (kind.name, size_bytes)


@pytest.mark.parametrize(
    ("kind", "nearest"), [("IQ4_XS", "Q4_K"), ("IQ4_NL", "Q4_0"), ("IQ2_XXS", "Q4_K"), ("Q2_K", "Q4_K"), ("F64", "F32")]
)
def test_type_that_is_not_read_is_named_with_the_nearest_that_is(kind: str, nearest: str, tmp_path: Path) -> None:
    number = gguf.GGMLQuantizationType[kind]
    elements, size_bytes = gguf.GGML_QUANT_SIZES[number]
    path = written(tmp_path, pack((), (tensor("blk.0.a", [elements], kind=number),), size_bytes))
    with pytest.raises(CheckpointRefused) as refused:
        open_source(path).read_config()
    assert str(refused.value) == (
        f"tiny.gguf holds tensor blk.0.a as {kind}; only F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, "
        f"Q6_K are read. Choose a file of {nearest}, the nearest that is read."
    )


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("adapter", "is a LoRA adapter, not a whole model. Merge it into its base model"),
        ("mmproj", "is the image part of a model. Give the file of its text part"),
        ("imatrix", "is an importance matrix for quantization, not a model"),
    ],
)
def test_gguf_file_without_a_model_is_named(kind: str, said: str, tmp_path: Path) -> None:
    path = written(tmp_path, pack((pair("general.type", TEXT, text(kind)),)))
    with pytest.raises(CheckpointRefused, match=f"^tiny.gguf {said}"):
        open_source(path).read_config()


def test_file_that_is_not_regular_is_rejected_without_blocking(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(CheckpointRefused, match=r"pipe\.gguf is not a regular file"):
        GgufFile(tmp_path / "pipe.gguf")
    with pytest.raises(CheckpointRefused, match=r"nowhere\.gguf cannot be opened"):
        GgufFile(tmp_path / "nowhere.gguf")


def test_a_file_that_is_cut_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, pack((), (tensor("a", [8]),), 32))
    with GgufFile(path) as file:
        entry = file.tensors["a"]
        os.truncate(path, 80)
        with pytest.raises(CheckpointRefused, match="is truncated"):
            file.read(entry.offset, entry.size_bytes)
