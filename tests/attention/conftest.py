"""Fixtures of this room."""

from support.kernel_calls import computed as computed
