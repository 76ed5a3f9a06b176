"""The file that remembers where a person is logged in: address and token, for its owner alone."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final

import msgspec

from corral.core.errors import CorralError

LOGIN_FILE: Final = "login.json"
"""Its name in the configuration directory."""
_MAX_BYTES: Final = 64 * 1024
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class LoginUnusable(CorralError):
    """The file is there, but cannot be used; the message says why and what to do."""


class Login(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a person is logged in, and with which token."""

    url: str
    token: str

    def __repr__(self) -> str:
        """Without the token."""
        return f"Login(url={self.url!r})"


@dataclass(frozen=True, slots=True)
class LoginFile:
    """Reads, replaces and removes the file."""

    path: Path

    def read(self) -> Login | None:
        """What it says; None without a file.

        Raises:
            LoginUnusable: it cannot be read, is no such file, or others may read it.
        """
        try:
            with self.path.open("rb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                text = file.read(_MAX_BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise LoginUnusable(f"{self.path} cannot be read: {error.strerror}.") from error
        if mode & _OTHERS:
            raise LoginUnusable(
                f"{self.path} has mode {mode:04o}, so others may use your token; say chmod 600 {self.path}."
            )
        try:
            return msgspec.json.decode(text, type=Login)
        except msgspec.DecodeError as error:
            raise LoginUnusable(f"{self.path} is damaged; `corral auth logout` removes it.") from error

    def write(self, login: Login) -> None:
        """Replace it; whoever reads meanwhile gets the old one or the new one, and never half of one.

        Raises:
            LoginUnusable: the directory cannot be written.
        """
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Temporary files have mode 0600 from the beginning.
            with NamedTemporaryFile(dir=self.path.parent, prefix=self.path.name, suffix=".tmp", delete=False) as draft:
                try:
                    draft.write(msgspec.json.format(msgspec.json.encode(login)) + b"\n")
                    draft.flush()
                    os.replace(draft.name, self.path)
                except OSError:
                    Path(draft.name).unlink()
                    raise
        except OSError as error:
            raise LoginUnusable(f"{self.path} cannot be written: {error.strerror}.") from error

    def remove(self) -> bool:
        """Remove it, whatever is in it; whether there was one.

        Raises:
            LoginUnusable: it cannot be removed.
        """
        try:
            self.path.unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise LoginUnusable(f"{self.path} cannot be removed: {error.strerror}.") from error
        return True
