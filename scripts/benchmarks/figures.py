"""The figures of a benchmark, and how they are printed."""

from __future__ import annotations

from dataclasses import dataclass

_ROW = "{:<48}{:>10} {:<10}{:>6}  {}"
HEADER = _ROW.format("figure", "value", "unit", "ratio", "of")


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure: `value` in `unit`, and its `ratio` to the figure that `of` names, if there is one."""

    name: str
    value: float
    unit: str
    ratio: float | None = None
    of: str | None = None

    def row(self) -> str:
        """Format the figure as a row of the table below `HEADER`."""
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        return _ROW.format(self.name, f"{self.value:.1f}", self.unit, ratio, self.of or "")
