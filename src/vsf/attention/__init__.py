"""Attention over image and text in parts, exactly: kernels, token layouts, and what a host's call is made of."""
