"""thumbs: source image URL in, exactly sized thumbnail and a signed webhook out.

The package is laid out in layers (docs/architecture.md); nothing is exported from here but the version.
"""

__version__ = "0.1.0"
