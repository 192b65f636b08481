"""Metadata in pictures: how they were made, in the formats of this package and of other tools."""
