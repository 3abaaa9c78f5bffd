"""A table of the page: a section's rows, and of its columns those that say something."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from neftune_cli.reporting.cells import Section
from neftune_cli.reporting.differences import DASH, Difference


@dataclass(frozen=True)
class PageTable:
    """One table. Columns that would be empty from top to bottom are left out."""

    section: Section

    @property
    def has_spread(self) -> bool:
        """Return whether any value has a standard deviation."""
        return any(cell.spread for block in self.section.blocks for cell in block.values)

    @property
    def compares(self) -> bool:
        """Return whether any value is compared."""
        return any(block.differences for block in self.section.blocks)

    @property
    def has_p(self) -> bool:
        """Return whether anything is said of the method: without that there are no p-values."""
        return any(one.p not in ("", DASH) for one in self._differences())

    @property
    def has_detectable(self) -> bool:
        """Return whether any comparison says what it would have found."""
        return any(one.detectable not in ("", DASH) for one in self._differences())

    @property
    def width(self) -> int:
        """Return the number of columns: arm and mean, then what there is."""
        return 2 + self.has_spread + 3 * self.compares + self.has_p

    def only(self, key: str) -> "PageTable | None":
        """Return the table of one metric alone, None where it isn't in this one."""
        if key not in self.section.keys:
            return None
        place = self.section.keys.index(key)
        return PageTable(replace(self.section, keys=(key,), blocks=(self.section.blocks[place],)))

    def _differences(self) -> Iterator[Difference]:
        return (one for block in self.section.blocks for one in block.differences or ())
