"""Exact attention over image and text in parts: kernels, partial attentions, token layouts and host calls."""
