"""Comparing the pictures that a command wrote."""

from PIL import Image, ImageChops


def pixels_differ(a, b):
    return ImageChops.difference(Image.open(a), Image.open(b)).getbbox() is not None
