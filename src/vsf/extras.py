"""Optional packages, and which extra of the distribution brings them."""

from collections.abc import Iterator
from contextlib import contextmanager

from vsf.errors import MissingExtraError


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Name the extra to install when an import in a block fails.

    Raises:
        MissingExtraError: a package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{error.name} is not installed; this needs: pip install 'vsf-guidance[{extra}]'", name=error.name
        ) from error
