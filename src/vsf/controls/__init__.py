"""Controls of where a negative prompt acts: in which steps, layers and parts of the picture."""
