"""When, where in the picture and in which layers a negative prompt acts."""
