"""Registries of methods, families and models by name."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import TypeVar

from vsf.errors import RequestError, UnknownNameError

T = TypeVar("T")


class Registry(Mapping[str, T]):
    """A read-only mapping whose lookup error lists the known names and suggests the closest one."""

    def __init__(self, what: str, entries: Mapping[str, T], *, plugins: str | None = None) -> None:
        """Take what errors call an entry, such as "method", and the entries by name.

        Args:
            what: What errors call an entry.
            entries: By name.
            plugins: The group of entry points under which installed packages announce further ones.

        Raises:
            RequestError: A plug-in cannot be imported, or has a name that is taken.
        """
        self.what = what
        self._entries = dict(entries)
        if plugins:
            self._add_plugins(plugins)

    def _add_plugins(self, group: str) -> None:
        from importlib.metadata import entry_points  # takes a while, and most registries have no plug-ins

        for point in entry_points(group=group):
            if point.name in self._entries:
                raise RequestError(
                    f'the plug-in {point.value} calls itself "{point.name}", as another {self.what} does.'
                )
            try:
                self._entries[point.name] = point.load()
            except (ImportError, AttributeError) as error:
                raise RequestError(
                    f'the {self.what} "{point.name}", a plug-in, cannot be imported: {error}.'
                ) from error

    def __getitem__(self, name: str) -> T:
        """Return the entry of this name. Raises UnknownNameError."""
        if name in self._entries:
            return self._entries[name]
        close = get_close_matches(str(name).lower(), self._entries, n=1)
        hint = f' Did you mean "{close[0]}"?' if close else ""
        raise UnknownNameError(f'unknown {self.what} "{name}". Known: {", ".join(self._entries)}.{hint}')

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"Registry({self.what}: {', '.join(self._entries)})"
