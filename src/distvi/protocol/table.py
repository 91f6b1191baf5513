"""An immutable table of numbered things that shares what did not change with its next version."""

from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar, overload

V = TypeVar("V")
D = TypeVar("D")

_BITS = 5  # pages of 32 numbers: at 1,000 entries a change copies two dicts of 32


class Table(Mapping[int, V], Generic[V]):
    """A mapping from whole numbers, changed by making a new one.

    Entries lie in pages of consecutive numbers; a new table has one page copied and all others in
    common with the old. A change among a thousand entries costs about as much as among ten, where
    copying a dict would make every event cost O(workers) (docs/decisions/0101-state-tables.md).

    Example:
        >>> one = Table().set(7, "seven")
        >>> two = one.set(8, "eight").without(7)
        >>> dict(one), dict(two)
        ({7: 'seven'}, {8: 'eight'})
    """

    __slots__ = ("_length", "_pages")

    def __init__(self) -> None:
        self._pages: dict[int, dict[int, V]] = {}
        self._length = 0

    def set(self, key: int, value: V) -> "Table[V]":
        """The table with an entry added or replaced."""
        page = self._pages.get(key >> _BITS, {})
        grown = key not in page
        return self._with_page(key, {**page, key: value}, self._length + grown)

    def without(self, key: int) -> "Table[V]":
        """The table less an entry; the table itself where there is none."""
        if key not in self:
            return self
        page = self._pages[key >> _BITS].copy()
        del page[key]
        return self._with_page(key, page, self._length - 1)

    def _with_page(self, key: int, page: dict[int, V], length: int) -> "Table[V]":
        changed = Table.__new__(Table)
        changed._pages = self._pages.copy()
        changed._length = length
        if page:
            changed._pages[key >> _BITS] = page
        else:
            del changed._pages[key >> _BITS]
        return changed

    def __getitem__(self, key: int) -> V:
        return self._pages[key >> _BITS][key]

    @overload
    def get(self, key: int, /) -> V | None: ...
    @overload
    def get(self, key: int, /, default: V | D) -> V | D: ...
    def get(self, key: int, /, default: object = None) -> object:
        """An entry, or the default where there is none."""
        page = self._pages.get(key >> _BITS)
        return default if page is None else page.get(key, default)

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, int):
            return False
        page = self._pages.get(key >> _BITS)
        return page is not None and key in page

    def __iter__(self) -> Iterator[int]:
        for page in self._pages.values():
            yield from page

    def __len__(self) -> int:
        return self._length

    def __repr__(self) -> str:
        return f"Table({dict(self)})"
