"""What a picture says about how it was made, in our words and in those of other tools."""
