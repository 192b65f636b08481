"""The closed vocabulary of the synthetic scenes: every word that captions can have."""

from vsf.tiny.scenes import BACKGROUNDS, COLOURS, OBJECTS, PARTS, STYLES

_PHRASES = {word for background in BACKGROUNDS.values() for word in background.phrase.split()}
WORDS: tuple[str, ...] = tuple(sorted({"a", "an", "and", "with", *OBJECTS, *PARTS, *COLOURS, *STYLES, *_PHRASES}))
