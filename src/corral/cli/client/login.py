"""The login file: server address and token, readable by its owner only."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final

import msgspec

from corral.core.errors import CorralError

LOGIN_FILE: Final = "login.json"
"""Name of the file in the configuration directory."""
_MAX_BYTES: Final = 64 * 1024
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class LoginUnusable(CorralError):
    """The login file or a key file cannot be used; the message contains the reason and what to do."""


class Login(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Server address and token of the current login."""

    url: str
    token: str

    def __repr__(self) -> str:
        """Return a representation without the token."""
        return f"Login(url={self.url!r})"


@dataclass(frozen=True, slots=True)
class LoginFile:
    """Reads, replaces and deletes the login file."""

    path: Path

    def read(self) -> Login | None:
        """Read the login; None if there is no file.

        Raises:
            LoginUnusable: the file cannot be read, is damaged, or is readable by other users.
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
                f"{self.path} has mode {mode:04o}, so other users can read your token. Run chmod 600 {self.path}."
            )
        try:
            return msgspec.json.decode(text, type=Login)
        except msgspec.DecodeError as error:
            raise LoginUnusable(f"{self.path} is damaged. Remove it with `corral auth logout`.") from error

    def write(self, login: Login) -> None:
        """Replace the file atomically.

        Raises:
            LoginUnusable: the directory cannot be written.
        """
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Temporary files are created with mode 0600.
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
        """Delete the file. Returns False if there was none.

        Raises:
            LoginUnusable: the file cannot be deleted.
        """
        try:
            self.path.unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise LoginUnusable(f"{self.path} cannot be removed: {error.strerror}.") from error
        return True
