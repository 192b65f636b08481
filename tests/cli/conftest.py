"""A random Stable Diffusion 3 in a folder, and the real command run in this process."""

import pytest

from support import tiny_pipelines as tiny
from vsf.cli import main


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Sides have to be multiples of 2 here, up to 32 pixels."""
    path = tmp_path_factory.mktemp("models") / "random"
    tiny.sd3(t5=False, patch_size=2).save_pretrained(path)
    return path


@pytest.fixture
def vsf(capsys, tmp_path, monkeypatch):
    """Run the command with these words; returns its exit code, stdout and stderr on one line each."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")

    def run(*words):
        with pytest.raises(SystemExit) as exit_:
            main([str(word) for word in words])
        out, err = capsys.readouterr()
        return exit_.value.code, out, err

    return run


@pytest.fixture
def draw(vsf, folder):
    """Run `vsf generate` with the random model, small and short unless the words say otherwise."""

    def run(*words):
        return vsf("generate", "a red car", "--model", folder, "--size", 16, "--steps", 2, *words)

    return run
