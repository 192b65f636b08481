"""What a new method, family, judge and engine cost: one file, one line in a registry, and what is generated.

Each is added to a copy of the tree, and the contract tests run on it there.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # every command imports the package anew, from the copy
ROOT = Path(__file__).parents[1]


class Tree:
    """A copy of package and tests, to which files and lines are added."""

    def __init__(self, folder):
        self.folder = folder
        ignored = shutil.ignore_patterns("__pycache__")
        for name in ("src", "tests"):
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        shutil.copy(ROOT / "pyproject.toml", folder)

    def write(self, file, text):
        path = self.folder / file
        assert not path.exists()
        path.write_text(text)

    def insert(self, file, before, text):
        """Insert a text in front of the first place that holds `before`."""
        path = self.folder / file
        source = path.read_text()
        at = source.index(before)
        path.write_text(source[:at] + text + source[at:])

    def run(self, *arguments):
        """Run Python on the copy and return what it printed."""
        paths = os.pathsep.join(str(self.folder / name) for name in ("src", "tests"))
        environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, *map(str, arguments)]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def test(self, *arguments):
        """Run tests of the copy; pytest fails where none is selected."""
        self.run("-m", "pytest", "-p", "no:cacheprovider", "-x", *arguments)


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path)


def renamed(file, **names):
    text = (ROOT / file).read_text()
    for old, new in names.items():
        assert old in text
        text = text.replace(old, new)
    return text


def test_a_method_is_a_file_and_a_line(tree):
    source = renamed("src/vsf/guidance/methods/nasa.py", NegativeAwaySteerAttention="Subtraction", nasa="subtraction")
    tree.write("src/vsf/guidance/methods/subtraction.py", source.replace('Fusion("subtraction"', 'Fusion("nasa"'))
    registry = "src/vsf/guidance/__init__.py"
    tree.insert(registry, "from vsf.registry", "from vsf.guidance.methods.subtraction import Subtraction\n")
    tree.insert(registry, '"cfg": ClassifierFreeGuidance', '"subtraction": Subtraction, ')
    tree.run("-m", "vsf.cli.index")
    tree.test("tests/guidance/test_contract.py", "tests/attention/test_control.py", "-k", "subtraction")
    assert "subtraction" in tree.run("-m", "vsf", "list", "methods")
    assert "--methods" in tree.run("-m", "vsf", "compare", "--help")


FAMILY = '''"""A denoiser that no other family knows."""

from vsf.families.auraflow import AuraFlow


class Novel(AuraFlow):
    """A model of yesterday."""

    name = "novel"
    denoisers = ("NovelTransformer2DModel",)
    pipelines = ()
'''
TINY_MODEL = '''"""A model of yesterday, from a few thousand random weights."""

from dataclasses import replace

from diffusers import AuraFlowTransformer2DModel

from families.models import tiny_joint


class NovelTransformer2DModel(AuraFlowTransformer2DModel):
    pass


def transformer():
    model = tiny_joint.auraflow()
    model.__class__ = NovelTransformer2DModel
    return model


CASES = [replace(case, family="novel", model=transformer) for case in tiny_joint.CASES if case.family == "auraflow"]
'''


def test_a_family_is_a_file_its_tiny_model_and_a_line(tree):
    tree.write("src/vsf/families/novel.py", FAMILY)
    tree.write("tests/families/models/tiny_novel.py", TINY_MODEL)
    tree.insert("src/vsf/families/__init__.py", '"sd3.StableDiffusion3"', '"novel.Novel", ')
    tree.test("tests/families/test_every_family.py", "-k", "novel and not one_set_of_graphs")
    assert "NovelTransformer2DModel" in tree.run("-m", "vsf", "list", "families", "--markdown")


JUDGE = '''"""A judge who is content with everything."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vsf.judges.base import Case, JudgeOptions, Verdict
from vsf.options import option


class Content:
    """Answers yes."""

    name, version, batch, waits = "content", "1", 8, False

    def __init__(self, quality: int) -> None:
        self.quality = quality

    def __call__(self, cases: Sequence[Case]) -> list[Verdict]:
        """Answer each case."""
        return [Verdict(1.0, 1.0, self.quality / 100, "") for _ in cases]


@dataclass(frozen=True, kw_only=True)
class ContentOptions(JudgeOptions):
    """Content with everything."""

    praise: int = option("How good every picture is, in per cent.", default=90, low=0, high=100)

    def judge(self, cache: Path | None = None) -> Content:
        """Make the judge."""
        return Content(self.praise)
'''
ENGINE = '''"""An engine that starts with the last job."""

from vsf.engines.base import Engine, EngineOptions


class Backwards:
    """Runs jobs in this process, from the last to the first."""

    def map(self, work, jobs):
        """See `vsf.engines.base.Engine`."""
        return map(work, reversed(jobs))


def backwards(options: EngineOptions) -> Engine:
    """Make the engine."""
    return Backwards()
'''


def test_a_judge_and_an_engine_are_a_file_and_a_line_each(tree):
    tree.write("src/vsf/judges/content.py", JUDGE)
    tree.insert("src/vsf/judges/registry.py", "from vsf.registry", "from vsf.judges.content import ContentOptions\n")
    tree.insert("src/vsf/judges/registry.py", '"scenes": ScenesOptions', '"content": ContentOptions, ')
    tree.write("src/vsf/engines/backwards.py", ENGINE)
    tree.insert("src/vsf/engines/registry.py", "from vsf.registry", "from vsf.engines.backwards import backwards\n")
    tree.insert("src/vsf/engines/registry.py", '"local": local', '"backwards": backwards, ')
    rows = tree.folder / "rows"
    drawn = ("--suite", "tiny-dev", "--limit", "2", "--seeds", "1", "--steps", "2", "--methods", "none")
    tree.run("-m", "vsf", "bench", "run", *drawn, "--engine", "backwards", "--out", rows)
    tree.run("-m", "vsf", "bench", "judge", "--judge", "content", "--praise", "70", "--out", rows)
    verdicts = (rows / "verdicts.jsonl").read_text().splitlines()
    assert len(verdicts) == 2
    assert all('"quality":0.7' in verdict.replace(" ", "") for verdict in verdicts)
    assert "content" in tree.run("-m", "vsf", "list", "judges")
