"""The judges by name. Adding one takes a module with its options and its class, and a line here."""

from vsf.judges.base import JudgeOptions
from vsf.judges.local import LocalOptions
from vsf.judges.openai import OpenAIOptions
from vsf.judges.scenes.embedded import ScenesOptions
from vsf.registry import Registry

JUDGES: Registry[type[JudgeOptions]] = Registry(
    "judge", {"scenes": ScenesOptions, "openai": OpenAIOptions, "local": LocalOptions}, plugins="vsf.judges"
)
"""The options of each judge; `JUDGES[name](...).judge()` makes the judge.

An installed package adds one with an entry point of the group "vsf.judges" that names its options.
"""
