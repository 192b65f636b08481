"""What `import vsf` brings along, and what it does not."""

import subprocess
import sys
from importlib import import_module
from types import ModuleType

import pytest

import vsf

HEAVY = {"torch", "numpy", "diffusers", "transformers", "PIL", "rich", "typer"}
FIRST = """
import sys, vsf
print(*sorted({heavy} & set(sys.modules)), "heavy")
vsf.Schedule(end=0.5), vsf.Prompt("a car"), vsf.KnobError
print(*sorted({heavy} & set(sys.modules)), "heavy")
vsf.ValueSignFlip(), vsf.guide, vsf.Request("a car")
print(*sorted({heavy} & set(sys.modules)), "heavy")
"""
SUBMODULES = """
import sys
{imports}
import vsf
print(callable(vsf.generate), callable(vsf.encode), vsf.encode is vsf.patch.encode)
"""


WITHOUT = """
import sys
sys.modules[{package!r}] = None
import vsf.tiny
try:
    vsf.tiny.load()
except vsf.MissingExtraError as error:
    print(error)
"""


EACH = """
import os, sys
import diffusers, torch, transformers
for script in {scripts!r}:
    if not os.fork():
        exec(script)
        sys.stdout.flush()
        os._exit(0)
    os.wait()
"""


def printed(script):
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return run.stdout.splitlines()


def test_importing_loads_nothing_heavy_and_names_load_what_they_need():
    assert printed(FIRST.format(heavy=HEAVY)) == ["heavy", "heavy", "numpy torch heavy"]


def test_no_function_is_hidden_behind_the_module_of_its_name():
    ways = [
        "import vsf.generation, vsf.text.embeddings",
        "import vsf.generation.sheet",
        "import vsf; vsf.generate; vsf.encode; import vsf.generation.sheet, vsf.text.embeddings",
        "from vsf.generation import Request; from vsf.text.embeddings import Negative",
        "from vsf import generate, encode",
        "import vsf.patch",
    ]
    # One process for each way, forked off one that has imported all that is not ours, which takes most of the time.
    scripts = [SUBMODULES.format(imports=imports) for imports in ways]
    assert printed(EACH.format(scripts=scripts)) == ["True True True"] * len(ways)


def test_every_public_name_is_there_and_is_no_module():
    assert [name for name in vsf.__all__ if isinstance(getattr(vsf, name), ModuleType)] == []


def test_only_public_names_are_listed():
    assert dir(vsf) == sorted(vsf.__all__)
    used = "import vsf; vsf.guide, vsf.generate, vsf.Prompt, vsf.guidance; import vsf.tiny; print(*dir(vsf))"
    assert printed(used)[0].split() == sorted(vsf.__all__)


def test_a_public_name_is_what_its_module_has():
    for home, names in {
        "vsf.errors": ("VsfError", "KnobError"),
        "vsf.text.embeddings": ("Negative", "Share"),
        "vsf.guidance": ("method", "ValueSignFlip", "Guidance"),
        "vsf.patch": ("guide", "attach", "detach", "encode", "unread"),
        "vsf.generation": ("Request", "generate"),
        "vsf.text.prompt": ("Prompt",),
        "vsf.controls.schedule": ("Schedule",),
    }.items():
        for name in names:
            assert getattr(vsf, name) is getattr(import_module(home), name)


def test_modules_need_no_import_of_their_own():
    assert printed("import vsf; print(vsf.guidance.convert_nag(3), vsf.registry.Registry.__name__)") == ["4 Registry"]


@pytest.mark.parametrize("name", ["gide", "_gide", "__wrapped__"])
def test_an_unknown_name_is_an_attribute_error(name):
    with pytest.raises(AttributeError, match=f"module 'vsf' has no attribute '{name}'"):
        getattr(vsf, name)


@pytest.mark.parametrize("package", ["diffusers", "transformers"])
def test_the_embedded_model_without_its_extra_says_which_one_it_needs(package):
    message = f"{package} is not installed; this needs: pip install 'vsf-guidance[diffusers]'"
    assert printed(WITHOUT.format(package=package)) == [message]
