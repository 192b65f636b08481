"""What `import vsf` brings along, and what it does not."""

import subprocess
import sys

import vsf

SCRIPT = """
import sys, vsf.generate, vsf.encode, vsf
print(*sorted({"diffusers", "transformers", "PIL", "rich", "typer"} & set(sys.modules)), "heavy")
print(callable(vsf.generate), callable(vsf.encode))
"""


def test_importing_loads_no_heavy_package_and_hides_no_function_behind_the_module_of_its_name():
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert run.stdout.split("\n")[:2] == ["heavy", "True True"]


def test_every_public_name_is_there():
    assert [name for name in vsf.__all__ if not hasattr(vsf, name)] == []
