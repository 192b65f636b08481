"""The synthetic world that the embedded models learn: objects with removable parts, in places, told in plain words."""
