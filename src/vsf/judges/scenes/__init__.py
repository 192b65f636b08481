"""The judge of synthetic scenes, which the embedded models draw: a network reads an image, rendering checks it."""
