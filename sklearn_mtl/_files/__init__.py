"""Fitted estimators as files: safetensors, and ONNX graphs."""

from __future__ import annotations

__all__: list[str] = []
