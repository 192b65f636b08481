"""Words for things, parts, colours, places and styles: the usual word first, then others people use."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

OBJECT_WORDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "bicycle": ("bicycle", "bike", "cycle"),
        "bird": ("bird", "birdie", "songbird"),
        "boat": ("boat", "sailboat", "ship"),
        "bus": ("bus", "coach", "minibus"),
        "cake": ("cake", "birthday cake"),
        "car": ("car", "automobile", "vehicle"),
        "castle": ("castle", "fortress", "palace"),
        "cat": ("cat", "kitten", "kitty"),
        "chair": ("chair", "armchair"),
        "clock": ("clock", "alarm clock", "timer"),
        "dog": ("dog", "puppy", "hound"),
        "elephant": ("elephant", "jumbo"),
        "fish": ("fish", "goldfish"),
        "flower": ("flower", "blossom", "rose"),
        "guitar": ("guitar", "ukulele"),
        "house": ("house", "cottage", "building"),
        "lamp": ("lamp", "lantern"),
        "penguin": ("penguin",),
        "plane": ("plane", "airplane", "aeroplane", "aircraft"),
        "rabbit": ("rabbit", "bunny", "hare"),
        "robot": ("robot", "android", "bot"),
        "rocket": ("rocket", "spaceship"),
        "snail": ("snail",),
        "snowman": ("snowman",),
        "table": ("table", "desk"),
        "teapot": ("teapot", "kettle"),
        "train": ("train", "locomotive", "engine"),
        "tree": ("tree", "oak"),
        "umbrella": ("umbrella", "parasol"),
    }
)

PART_WORDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "anchor": ("anchor",),
        "antenna": ("antenna", "aerial"),
        "apples": ("apples", "apple"),
        "arms": ("arms", "arm"),
        "basket": ("basket", "baskets"),
        "beak": ("beak", "bill"),
        "bells": ("bells", "bell"),
        "bone": ("bone", "bones"),
        "book": ("book", "books"),
        "bow": ("bow", "ribbon"),
        "broom": ("broom", "broomstick"),
        "bubbles": ("bubbles", "bubble"),
        "butterfly": ("butterfly", "butterflies"),
        "buttons": ("buttons", "button"),
        "candles": ("candles", "candle"),
        "carrot": ("carrot", "carrots"),
        "cherries": ("cherries", "cherry"),
        "chimney": ("chimney", "smokestack"),
        "collar": ("collar",),
        "cord": ("cord", "cable"),
        "crown": ("crown", "tiara"),
        "cup": ("cup", "mug"),
        "cushion": ("cushion", "pillow"),
        "door": ("door", "doors"),
        "drops": ("drops", "rain", "raindrops"),
        "ears": ("ears", "ear"),
        "eyes": ("eyes", "eye"),
        "feet": ("feet", "foot"),
        "fins": ("fins", "fin"),
        "flag": ("flag", "flags", "pennant"),
        "flames": ("flames", "fire", "flame"),
        "flowers": ("flowers", "flowerbed"),
        "handle": ("handle", "handles"),
        "hands": ("hands", "hand"),
        "hat": ("hat", "hats"),
        "leaves": ("leaves", "leaf"),
        "legs": ("legs", "leg"),
        "lid": ("lid", "cover"),
        "lights": ("lights", "headlights", "light"),
        "luggage": ("luggage", "suitcase", "baggage"),
        "nest": ("nest",),
        "numbers": ("numbers", "digits"),
        "paws": ("paws", "paw"),
        "pegs": ("pegs", "peg"),
        "plate": ("plate", "dish"),
        "pot": ("pot", "flowerpot"),
        "propeller": ("propeller", "propellers"),
        "roof": ("roof", "rooftop"),
        "saddle": ("saddle", "seat"),
        "sail": ("sail", "sails"),
        "scarf": ("scarf", "shawl"),
        "shade": ("shade", "lampshade"),
        "shell": ("shell",),
        "smoke": ("smoke", "fumes"),
        "spout": ("spout",),
        "stars": ("stars", "star"),
        "steam": ("steam", "vapor"),
        "strap": ("strap", "belt"),
        "strings": ("strings", "string"),
        "stripes": ("stripes", "stripe"),
        "swing": ("swing",),
        "tail": ("tail",),
        "towers": ("towers", "tower"),
        "trunk": ("trunk",),
        "tusks": ("tusks", "tusk"),
        "wheels": ("wheels", "wheel", "tires", "tyres"),
        "whiskers": ("whiskers", "whisker"),
        "windows": ("windows", "window"),
        "wings": ("wings", "wing"),
    }
)

PLACE_PART_WORDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "cactus": ("cactus", "cacti"),
        "clouds": ("clouds", "cloud"),
        "craters": ("craters", "crater"),
        "curtains": ("curtains", "curtain"),
        "fence": ("fence", "fences"),
        "hills": ("hills", "hill"),
        "moon": ("moon", "moonlight"),
        "mountains": ("mountains", "mountain"),
        "mushrooms": ("mushrooms", "mushroom", "toadstools"),
        "palm": ("palm", "palms"),
        "picture": ("painting", "artwork"),
        "pines": ("pines", "pine", "firs"),
        "planet": ("planet", "planets"),
        "pyramids": ("pyramids", "pyramid"),
        "road": ("road", "highway"),
        "rug": ("rug", "carpet"),
        "sea": ("sea", "ocean", "waves"),
        "stars": ("stars", "star"),
        "sun": ("sun", "sunshine"),
        "towers": ("towers", "tower", "skyscrapers"),
    }
)
SKY_PARTS = frozenset({"clouds", "moon", "planet", "stars", "sun"})

COLOUR_WORDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "red": ("red", "scarlet"),
        "orange": ("orange", "amber"),
        "yellow": ("yellow", "golden"),
        "green": ("green", "emerald"),
        "turquoise": ("turquoise", "teal", "cyan"),
        "blue": ("blue", "azure"),
        "purple": ("purple", "violet"),
        "pink": ("pink", "rosy"),
        "brown": ("brown", "chestnut"),
        "gray": ("gray", "grey", "silver"),
        "white": ("white", "ivory"),
    }
)

PLACE_PHRASES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "beach": ("at the beach", "on the beach", "on the sand", "at the seaside", "on a sandy shore"),
        "city": ("in the city", "in a city", "in town", "downtown", "in an urban street"),
        "desert": ("in the desert", "in a desert", "on the dunes", "in a dry desert"),
        "forest": ("in the forest", "in a forest", "in the woods", "in the jungle"),
        "grass": ("on grass", "on the grass", "in a meadow", "in a field", "on the lawn", "in the park", "in a garden"),
        "night": ("at night", "by night", "in the dark", "at midnight", "in the nighttime"),
        "room": ("in a room", "in the room", "indoors", "at home", "in the living room", "in a bedroom"),
        "snow": ("on snow", "in the snow", "in winter", "in a snowy landscape", "on ice"),
        "space": ("in space", "in outer space", "on an asteroid", "in the galaxy", "in the universe"),
    }
)

STYLE_WORDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "tidy": ("tidy", "clean", "neat", "crisp"),
        "sketchy": ("sketchy", "scribbled", "rough"),
        "misty": ("misty", "foggy", "hazy"),
        "blurry": ("blurry", "blurred", "fuzzy"),
        "dull": ("dull", "drab", "dreary"),
        "vintage": ("vintage", "sepia", "antique"),
    }
)

FILLERS = (
    "beautiful",
    "nice",
    "lovely",
    "cute",
    "pretty",
    "little",
    "small",
    "big",
    "large",
    "simple",
    "lonely",
    "great",
)
"""Adjectives that people add and that change nothing in the picture."""

OPENERS = (
    "a picture of", "an image of", "a scene with", "a view of", "an illustration of", "there is", "here is", "this is",
    "we see", "look at",
)  # fmt: skip
STYLED_OPENERS = ("picture of", "image of", "view of", "illustration of", "photo of")
"""Openers that follow a style's word: "a blurry picture of"."""

LEFT_OF = ("left of", "to the left of", "on the left of")
RIGHT_OF = ("right of", "to the right of", "on the right of")
BESIDE = ("next to", "beside", "near", "and", "and", "together with")
BEHIND = ("behind", "standing behind", "in back of", "half hidden by")
IN_FRONT = ("in front of", "before", "standing in front of")
ON = ("on", "on top of", "standing on", "sitting on", "above")
UNDER = ("under", "below", "underneath")
BETWEEN = ("between", "in between")

_PLURAL_OR_MASS = frozenset(
    {"luggage", "baggage", "smoke", "fumes", "steam", "vapor", "fire", "rain", "feet", "cacti", "sunshine"}
    | {"moonlight", "artwork"}
)
_ONLY_ONE = frozenset({"sun", "moon", "sea", "ocean"})
_SINGULAR_IN_S = frozenset({"bus", "minibus", "cactus"})


def article(word: str, phrase: str) -> str:
    """Return the article of a noun: "a", "an" or "the", or nothing for plurals and mass nouns.

    Args:
        word: The noun.
        phrase: The text after the article, whose first letters decide between "a" and "an".
    """
    if word in _ONLY_ONE:
        return "the"
    if word in _PLURAL_OR_MASS or (word.endswith("s") and word not in _SINGULAR_IN_S):
        return ""
    return "an" if phrase[0] in "aeiou" and not phrase.startswith(("uku", "uni")) else "a"


def _vocabulary() -> tuple[str, ...]:
    phrases: list[str] = []
    for table in (OBJECT_WORDS, PART_WORDS, PLACE_PART_WORDS, COLOUR_WORDS, PLACE_PHRASES, STYLE_WORDS):
        for synonyms in table.values():
            phrases += synonyms
    phrases += [*FILLERS, *OPENERS, *STYLED_OPENERS]
    phrases += [*LEFT_OF, *RIGHT_OF, *BESIDE, *BEHIND, *IN_FRONT, *ON, *UNDER, *BETWEEN]
    phrases += ["a an the and with that is has in having its", *OBJECT_WORDS]
    return tuple(sorted(set(" ".join(phrases).split())))


WORDS: tuple[str, ...] = _vocabulary()
"""The closed vocabulary of captions, without the comma."""
