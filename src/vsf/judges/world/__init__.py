"""The judge of the world that the embedded models learn next: a network reads a picture, rendering checks it."""
