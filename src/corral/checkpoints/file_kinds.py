"""Recognise a file by its first bytes, so that a refusal says what the file is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

START_BYTES: Final = 256
"""First bytes of a file that ``recognize_start`` needs."""
_LFS_POINTER: Final = b"version https://git-lfs"
_OLD_GGML: Final = {b"lmgg": "GGML", b"fmgg": "GGMF", b"tjgg": "GGJT", b"algg": "GGLA"}
"""Magics of llama.cpp's formats before GGUF, as the bytes of a little-endian integer."""
_SAFETENSORS_HEADER_BYTES: Final = 2**32


@dataclass(frozen=True, slots=True, kw_only=True)
class FileKind:
    """A kind of file that is not the expected one."""

    what: str
    """With an article: ``a ZIP archive``."""
    advice: str
    """Sentences that say what to do."""

    def in_place_of(self, expected: str, file: str) -> str:
        """Return the error message for *file*, which should be *expected*: ``a safetensors file``."""
        return f"{file} is {self.what}; it should be {expected}. {self.advice}"


_READ: Final = "Weights are read from safetensors and GGUF files only."
_POINTER: Final = FileKind(
    what="a Git LFS pointer: its content was not downloaded",
    advice="Run `git lfs pull` in its directory, or download the file again.",
)
_PICKLE_ADVICE: Final = f"{_READ} Loading a pickle can run code: convert it elsewhere, with the transformers package."
_ZIP: Final = FileKind(what="a ZIP archive, in which PyTorch stores pickles", advice=_PICKLE_ADVICE)
_PICKLE: Final = FileKind(what="a Python pickle", advice=_PICKLE_ADVICE)
_NUMPY: Final = FileKind(what="a NumPy array", advice=f"{_READ} Use the model's repository in the Transformers format.")
_HDF5: Final = FileKind(what="an HDF5 file, as TensorFlow stores weights", advice=_NUMPY.advice)
_GZIP: Final = FileKind(what="a gzip archive", advice="Unpack it, and give the directory or the .gguf file inside.")
_WEB_PAGE: Final = FileKind(
    what="a web page, not the file itself",
    advice="Download the file again; a gated or private model needs a token for the download.",
)
_XML: Final = FileKind(
    what="an XML file, as OpenVINO describes graphs",
    advice="Corral converts checkpoints itself: give the Transformers directory or the .gguf file.",
)
_JSON: Final = FileKind(
    what="a JSON file", advice="Give the directory that holds it: config.json, *.safetensors and tokenizer."
)
_GGUF: Final = FileKind(what="a GGUF file", advice="Give the file itself, with the ending .gguf.")
_SAFETENSORS: Final = FileKind(
    what="a safetensors file",
    advice="Give the directory that holds it: config.json, *.safetensors and tokenizer.",
)


def is_lfs_pointer(start: bytes) -> bool:
    """Return whether a file that begins with *start* is a Git LFS pointer."""
    return start.startswith(_LFS_POINTER)


def lfs_refusal(file: str) -> str:
    """Return the error message for *file*, of which only the Git LFS pointer is there."""
    return f"{file} is {_POINTER.what}. {_POINTER.advice}"


def recognize_start(start: bytes) -> FileKind | None:
    """Return the kind of a file by its first ``START_BYTES`` bytes, or all of a shorter one; None if it is unknown."""
    if name := _OLD_GGML.get(start[:4]):
        return FileKind(
            what=f"a {name} file, a format of llama.cpp from before GGUF",
            advice="Only GGUF is read: convert the original weights with a current llama.cpp, or download a GGUF file.",
        )
    return next((kind for is_kind, kind in _KINDS if is_kind(start)), None)


def _begins(*magics: bytes) -> Callable[[bytes], bool]:
    return lambda start: start.startswith(magics)


def _is_pickle(start: bytes) -> bool:
    return start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05") and start[8:9] != b"{"


def _is_safetensors(start: bytes) -> bool:
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") < _SAFETENSORS_HEADER_BYTES


def _is_web_page(start: bytes) -> bool:
    return start.lstrip().lower().startswith((b"<!doctype html", b"<html"))


_KINDS: Final[tuple[tuple[Callable[[bytes], bool], FileKind], ...]] = (
    (is_lfs_pointer, _POINTER),
    (_begins(b"GGUF"), _GGUF),
    (_begins(b"PK\x03\x04"), _ZIP),
    (_begins(b"\x93NUMPY"), _NUMPY),
    (_begins(b"\x89HDF\r\n\x1a\n"), _HDF5),
    (_begins(b"\x1f\x8b"), _GZIP),
    (_is_safetensors, _SAFETENSORS),
    (_is_pickle, _PICKLE),
    (_is_web_page, _WEB_PAGE),
    (_begins(b"<?xml"), _XML),
    (lambda start: start.lstrip()[:1] == b"{", _JSON),
)
