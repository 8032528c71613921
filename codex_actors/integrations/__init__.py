"""Bridges to other packages, one file each; each needs the extra of its name."""

__all__: list[str] = []
