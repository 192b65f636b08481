"""Synthetic scenes that the embedded models learn: objects with removable parts, in places, and their captions."""
