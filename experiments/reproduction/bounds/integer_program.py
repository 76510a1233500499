"""Mixed integer programs, solved by HiGHS: min c x subject to rows, 0 <= x <= u, some x whole."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from sllmcore.errors import ControlError

GAP = 1e-6  # relative gap at which HiGHS reports an optimum
NO_LIMIT_S = 1e9


@dataclass(frozen=True, slots=True)
class Term:
    """A column of a row, with its coefficient."""

    column: int
    factor: float = 1.0


@dataclass(frozen=True, slots=True)
class Solved:
    """The result of the solver.

    Args:
        bound: Proven lower bound on the cost.
        cost: Cost of the best point found; None if none was found.
        exact: True if that point is optimal.
        values: The columns of that point; empty if none was found.
    """

    bound: float
    cost: float | None
    exact: bool
    values: tuple[float, ...]


@dataclass(slots=True)
class IntegerProgram:
    """A program to which columns and rows are added one by one.

    Attributes:
        costs, uppers, whole: Cost, upper limit and integrality of each column.
        least, most: Limits of each row.
        rows, columns, factors: Entries of the matrix.
    """

    costs: list[float] = field(default_factory=list)
    uppers: list[float] = field(default_factory=list)
    whole: list[int] = field(default_factory=list)
    least: list[float] = field(default_factory=list)
    most: list[float] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    columns: list[int] = field(default_factory=list)
    factors: list[float] = field(default_factory=list)

    def column(self, *, cost: float = 0.0, upper: float = 1.0, whole: bool = True) -> int:
        """Add a column and return its number."""
        self.costs.append(cost)
        self.uppers.append(upper)
        self.whole.append(int(whole))
        return len(self.costs) - 1

    def at_most(self, terms: Iterable[Term], limit: float) -> None:
        """Add the row: sum of terms <= limit."""
        self._row(terms, -inf, limit)

    def exactly(self, terms: Iterable[Term], value: float) -> None:
        """Add the row: sum of terms = value."""
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
        """Return the optimum, or the bound and the best point found within the limit.

        Raises:
            ControlError: No point is feasible: the program is wrong, since it relaxes a real run.
        """
        shape = (len(self.most), len(self.costs))
        # csr_array adds up several entries for the same row and column.
        matrix = csr_array((self.factors, (self.rows, self.columns)), shape=shape)
        found = milp(
            np.array(self.costs),
            integrality=np.array(self.whole),
            bounds=Bounds(0.0, np.array(self.uppers)),
            constraints=LinearConstraint(matrix, np.array(self.least), np.array(self.most)),
            options={
                "mip_rel_gap": GAP,
                "time_limit": NO_LIMIT_S if time_limit_s is None else time_limit_s,
            },
        )
        if found.status not in (0, 1):
            raise ControlError(f"the integer program has no solution: {found.message}")
        bound = 0.0 if found.mip_dual_bound is None else float(found.mip_dual_bound)
        if found.x is None:
            return Solved(max(0.0, bound), None, exact=False, values=())
        values = tuple(float(value) for value in found.x)
        return Solved(max(0.0, bound), float(found.fun), found.status == 0, values)
