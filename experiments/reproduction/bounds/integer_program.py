"""min c x subject to rows over columns 0 <= x <= u, some of them whole, solved by HiGHS."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from sllmcore.errors import ControlError

GAP = 1e-6  # relative, at which HiGHS calls a solution optimal
FOR_EVER_S = 1e9


@dataclass(frozen=True, slots=True)
class Term:
    """One column of a row, with its coefficient."""

    column: int
    factor: float = 1.0


@dataclass(frozen=True, slots=True)
class Solved:
    """What is known when the solver ends.

    Args:
        bound: No feasible point costs less.
        cost: Of the best point found; None: none was.
        exact: That point is optimal.
    """

    bound: float
    cost: float | None
    exact: bool
    values: tuple[float, ...]


@dataclass(slots=True)
class IntegerProgram:
    """Columns and rows, added one by one."""

    costs: list[float] = field(default_factory=list)
    uppers: list[float] = field(default_factory=list)
    whole: list[int] = field(default_factory=list)
    least: list[float] = field(default_factory=list)
    most: list[float] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    columns: list[int] = field(default_factory=list)
    factors: list[float] = field(default_factory=list)

    def column(self, *, cost: float = 0.0, upper: float = 1.0, whole: bool = True) -> int:
        """A new column; returns its number."""
        self.costs.append(cost)
        self.uppers.append(upper)
        self.whole.append(int(whole))
        return len(self.costs) - 1

    def at_most(self, terms: Iterable[Term], limit: float) -> None:
        self._row(terms, -inf, limit)

    def exactly(self, terms: Iterable[Term], value: float) -> None:
        self._row(terms, value, value)

    def _row(self, terms: Iterable[Term], least: float, most: float) -> None:
        row = len(self.most)
        self.least.append(least)
        self.most.append(most)
        for term in terms:
            self.rows.append(row)
            self.columns.append(term.column)
            self.factors.append(term.factor)

    def solve(self, time_limit_s: float | None) -> Solved:
        """The optimum, or what is proven of it within the limit.

        Raises:
            ControlError: No point is feasible, which a relaxation of something that ran cannot be.
        """
        shape = (len(self.most), len(self.costs))
        # Of entries for one place, csr keeps the sum.
        matrix = csr_array((self.factors, (self.rows, self.columns)), shape=shape)
        found = milp(
            np.array(self.costs),
            integrality=np.array(self.whole),
            bounds=Bounds(0.0, np.array(self.uppers)),
            constraints=LinearConstraint(matrix, np.array(self.least), np.array(self.most)),
            options={
                "mip_rel_gap": GAP,
                "time_limit": FOR_EVER_S if time_limit_s is None else time_limit_s,
            },
        )
        if found.status not in (0, 1):
            raise ControlError(f"the integer program has no solution: {found.message}")
        bound = 0.0 if found.mip_dual_bound is None else float(found.mip_dual_bound)
        if found.x is None:
            return Solved(max(0.0, bound), None, exact=False, values=())
        values = tuple(float(value) for value in found.x)
        return Solved(max(0.0, bound), float(found.fun), found.status == 0, values)
