"""Who owns what, and who may come in."""

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Account:
    """Who owns jobs; secrets are held encrypted and never shown by repr."""

    id: str
    name: str
    callback_secret: str = field(repr=False)
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is known of an API key; the key itself is not."""

    id: str
    account_id: str
    secret_sha256: str
    created_at: datetime
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None
