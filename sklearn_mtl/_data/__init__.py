"""X and y as people hold them, and the arrays that a network learns from."""

from __future__ import annotations

__all__: list[str] = []
