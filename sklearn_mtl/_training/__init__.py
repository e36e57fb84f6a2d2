"""Training: the only rooms that know skorch."""

from __future__ import annotations

__all__: list[str] = []
