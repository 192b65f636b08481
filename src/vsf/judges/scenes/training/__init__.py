"""Training of the network that reads synthetic scenes."""
