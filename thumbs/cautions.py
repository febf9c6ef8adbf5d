"""What the settings allow that is worth a warning: they open the service to more than is usual. Pure.

Each process logs these lines at its start; what must not be at all is refused by `settings` and `preparation`.
"""

from typing import Final

from thumbs.settings import Settings

LOOPBACK_HOSTS: Final = frozenset({"127.0.0.1", "::1", "localhost"})


def list_cautions(settings: Settings) -> list[str]:
    """List what to be careful about, one line each; nothing for a developer alone on loopback."""
    cautions = []
    is_alone = settings.auth == "off" and settings.host in LOOPBACK_HOSTS
    if settings.auth == "off" and not is_alone:
        cautions.append(
            f"THUMBS_AUTH=off on THUMBS_HOST={settings.host}: whoever reaches port {settings.port} may use this "
            "service. Set THUMBS_AUTH=required, or THUMBS_HOST=127.0.0.1."
        )
    if settings.allow_cidrs and not is_alone:
        networks = ",".join(str(network) for network in settings.allow_cidrs)
        cautions.append(
            f"THUMBS_ALLOW_CIDRS={networks}: callers can have these networks fetched from and posted to, although "
            "they are not public. Unset it unless that is meant."
        )
    return cautions
