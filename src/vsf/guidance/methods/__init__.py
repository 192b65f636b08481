"""Guidance methods, one file each."""
