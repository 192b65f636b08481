"""A random Stable Diffusion 3 in a folder."""

import pytest

from support import tiny_pipelines as tiny


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Sides have to be multiples of 2 here, up to 32 pixels."""
    path = tmp_path_factory.mktemp("models") / "random"
    tiny.sd3(t5=False, patch_size=2).save_pretrained(path)
    return path
