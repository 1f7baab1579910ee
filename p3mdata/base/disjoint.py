"""Things that belong together, found pair by pair."""

from __future__ import annotations

from array import array


class DisjointSets:
    """Numbers from 0 that are joined into sets; the root of each is its smallest member. 8 bytes of memory each."""

    def __init__(self, count: int) -> None:
        self._parent = array("q", range(count))

    def root(self, i: int) -> int:
        """The smallest member of a number's set."""
        while self._parent[i] != i:
            self._parent[i] = self._parent[self._parent[i]]
            i = self._parent[i]
        return i

    def same(self, i: int, j: int) -> bool:
        """Whether two numbers are in one set."""
        return self.root(i) == self.root(j)

    def join(self, i: int, j: int) -> None:
        """Make one set of those of two numbers."""
        low, high = sorted((self.root(i), self.root(j)))
        self._parent[high] = low

    def sets(self) -> list[list[int]]:
        """Sets of two members and more, by smallest member; each is sorted."""
        found: dict[int, list[int]] = {}
        for i in range(len(self._parent)):
            if (root := self.root(i)) != i:
                found.setdefault(root, [root]).append(i)
        return [found[root] for root in sorted(found)]
