"""What every model family is made of."""
