"""Fill in what the package index shows and the repository alone cannot: addresses, once there is a public one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

REPOSITORY = ""
"""The public address, such as https://example.org/vsf, without a slash at the end. Empty until there is one."""

_IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)\n*")
_LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")
_TARGET = re.compile(r"(!?\[[^\]]*\])\(([^)\s]+)\)")


def urls(repository: str) -> dict[str, str]:
    """List the project's addresses; none as long as the repository has none."""
    if not repository:
        return {}
    return {
        "Homepage": repository,
        "Changelog": f"{repository}/blob/main/CHANGELOG.md",
        "Issues": f"{repository}/issues",
    }


def readme_for_index(text: str, repository: str) -> str:
    """Make the links of a README absolute, since paths lead nowhere on a package index.

    Without an address, links become plain words and pictures are left out.
    """
    if not repository:
        return _LINK.sub(_words, _IMAGE.sub("", text))
    pages, files = f"{repository}/blob/main", f"{repository}/raw/main"
    return _TARGET.sub(lambda found: f"{found[1]}({_absolute(found[2], files if found[1][0] == '!' else pages)})", text)


def _words(found: re.Match[str]) -> str:
    return found[0] if _is_absolute(found[2]) else found[1]


def _absolute(target: str, root: str) -> str:
    return target if _is_absolute(target) else f"{root}/{target}"


def _is_absolute(target: str) -> bool:
    return target.startswith(("https://", "http://", "#"))


class AddressHook(MetadataHookInterface):
    """Give hatchling the README and the addresses."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the fields that pyproject.toml declares dynamic."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": readme_for_index(text, REPOSITORY)}
        if REPOSITORY:
            metadata["urls"] = urls(REPOSITORY)
