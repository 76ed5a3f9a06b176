"""The authenticated caller of a request, with its permissions."""

from dataclasses import dataclass

from corral.core.accounts import Scope
from corral.core.errors import PermissionDenied


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopedToken:
    """A token signed with an API key that allows less than the key."""

    digest: bytes
    """SHA-256 of the signed part; identifies the token in the store."""
    expires_at_ms: int
    spend_limit_nusd: int | None = None
    """For the token's whole lifetime; costs held for running predictions count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """An authenticated caller: the account, and what its API key or scoped token allows."""

    account_id: str
    key_id: str
    """Id of the key for logs and records, not its secret."""
    scopes: frozenset[Scope]
    models: tuple[str, ...] | None = None
    """Model names that the caller may use, in lower case; None allows all."""
    privacy: bool = False
    """Input and output of this key's predictions are never stored."""
    token: ScopedToken | None = None
    """The scoped token used instead of the API key, if any."""
    unlimited: bool = False
    """Whether the account may run models without credit. A door's own default limits do not apply to it either."""

    def require(self, *scopes: Scope) -> None:
        """Refuse a caller that has none of *scopes*.

        Raises:
            PermissionDenied: the message names the scopes.
        """
        if self.scopes.isdisjoint(scopes):
            raise PermissionDenied(
                "This API key lacks the scope " + " or ".join(f"'{scope}'" for scope in scopes) + "."
            )

    def require_key(self) -> None:
        """Refuse a scoped token, which may run models but not read the account's other data.

        Raises:
            PermissionDenied: the caller used a scoped token.
        """
        if self.token is not None:
            raise PermissionDenied("A scoped token may not do this. Use the API key.")

    def may_use(self, name: str) -> bool:
        """Return whether the caller may use the model *name*."""
        return self.models is None or name.lower() in self.models

    def require_model(self, name: str) -> None:
        """Refuse a caller that may not use the model *name*.

        Raises:
            PermissionDenied: the message names the model.
        """
        if not self.may_use(name):
            raise PermissionDenied(f"This API key may not use the model '{name}'.")
