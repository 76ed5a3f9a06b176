"""Who is asking, and what for. Knows nothing of keys' secrets and nothing of HTTP."""

from dataclasses import dataclass

from corral.core.accounts import Scope
from corral.core.errors import PermissionDenied


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopedToken:
    """A token that a key signed, and that may do less than the key."""

    digest: bytes
    """Names it in the store."""
    expires_at_ms: int
    spend_limit_nusd: int | None = None
    """Over the token's whole life, running holds included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A caller whose key was found valid, neither revoked nor expired."""

    account_id: str
    key_id: str
    """Names the key in logs and records; never the secret itself."""
    scopes: frozenset[Scope]
    models: tuple[str, ...] | None = None
    """Names that the key may ask for, in lower case; None is any."""
    privacy: bool = False
    """Neither input nor output of this key's predictions is stored."""
    token: ScopedToken | None = None
    """Set where not the key itself came, but a token that it signed."""
    unlimited: bool = False
    """Whether the account runs without credit, and so without the limits that a door sets by itself."""

    def require(self, *scopes: Scope) -> None:
        """Refuse a caller that has none of *scopes*.

        Raises:
            PermissionDenied: names them.
        """
        if self.scopes.isdisjoint(scopes):
            raise PermissionDenied(
                "This API key lacks the scope " + " or ".join(f"'{scope}'" for scope in scopes) + "."
            )

    def require_key(self) -> None:
        """Refuse a token that a key signed: it runs models, and knows nothing of what else the account asked.

        Raises:
            PermissionDenied: says so.
        """
        if self.token is not None:
            raise PermissionDenied("A token that a key signed may not do this: use the key.")

    def may_use(self, name: str) -> bool:
        """Whether the key may ask for the model *name*."""
        return self.models is None or name.lower() in self.models

    def require_model(self, name: str) -> None:
        """Refuse a caller whose key may not ask for the model *name*.

        Raises:
            PermissionDenied: names the model.
        """
        if not self.may_use(name):
            raise PermissionDenied(f"This API key may not use the model '{name}'.")
