"""Who is asking. Knows nothing of keys' secrets and nothing of HTTP."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A caller whose key was found valid."""

    key_id: str
    """Names the key in logs and records; never the secret itself."""
