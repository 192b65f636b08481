"""Training of the network that reads pictures of the world."""
