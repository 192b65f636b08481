"""Errors for optional packages that are not installed."""

from collections.abc import Iterator
from contextlib import contextmanager

from vsf.errors import MissingExtraError


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Turn a failed import in the block into an error that names the extra to install.

    Args:
        extra: of this distribution, such as "bench".

    Raises:
        MissingExtraError: a package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{error.name} is not installed; this needs: pip install 'vsf-guidance[{extra}]'", name=error.name
        ) from error
