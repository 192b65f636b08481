"""Metadata in pictures: how they were made, in the formats of this package and of other tools."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Metadata = Mapping[str, Any]
"""The entries of a picture's metadata by name, with values as JSON has them; see `provenance.describe`."""
