"""The numbers of a comparison: a row per cell, and the medians of each policy over its seeds."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, TypeAlias

from experiments.comparison.cells import ComparisonCell
from sllmcore.errors import ControlError

Figures: TypeAlias = dict[str, float | str | None]  # {"startup_latency_s.p99": 1.5}


@dataclass(frozen=True, slots=True)
class CellResult:
    """The numbers of a cell that is done."""

    cell: ComparisonCell
    figures: Figures


@dataclass(frozen=True, slots=True)
class PolicyResult:
    """The results of a policy: its cells, one per seed, and the medians of their numbers."""

    label: str
    cells: tuple[CellResult, ...]
    figures: Figures

    @property
    def real(self) -> bool:
        """True for results of a real cluster, False for simulated ones."""
        return self.cells[0].cell.real

    def number(self, name: str) -> float:
        """Return a number; 0 if there are no samples, or this kind of run has no such number."""
        value = self.figures.get(name)
        return value if isinstance(value, int | float) else 0.0


def policy_results(cells: Iterable[ComparisonCell]) -> list[PolicyResult]:
    """Return the results of each policy, in the order of their first cells.

    Raises:
        ControlError: The policies did not meet the same number of requests.
    """
    by_label: dict[str, list[CellResult]] = {}
    for cell in cells:
        by_label.setdefault(cell.label, []).append(CellResult(cell, flat(cell.summary())))
    _check_same_requests(by_label.values())
    return [
        PolicyResult(label, tuple(results), _medians([result.figures for result in results]))
        for label, results in by_label.items()
    ]


def flat(plain: Mapping[str, Any], prefix: str = "") -> Figures:
    """Return a flat mapping; nested keys are joined by dots."""
    figures: Figures = {}
    for key, value in plain.items():
        if isinstance(value, Mapping):
            figures |= flat(value, f"{prefix}{key}.")
        else:
            figures[f"{prefix}{key}"] = value
    return figures


def csv_text(results: Sequence[PolicyResult]) -> str:
    """Return CSV text with a row per cell."""
    rows = [
        {
            "label": result.label,
            "driver": cell.cell.config.driver.kind,
            "folder": cell.cell.folder.name,
            **cell.figures,
        }
        for result in results
        for cell in result.cells
    ]
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def plain_results(name: str, results: Sequence[PolicyResult]) -> dict[str, Any]:
    """Return plain data for JSON."""
    return {
        "name": name,
        "policies": [
            {
                "label": result.label,
                "seeds": [cell.cell.config.seed for cell in result.cells],
                "median": result.figures,
                "cells": [
                    {"folder": f"cells/{cell.cell.folder.name}", **cell.cell.summary()}
                    for cell in result.cells
                ],
            }
            for result in results
        ],
    }


def _medians(rows: Sequence[Figures]) -> Figures:
    merged: Figures = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        numbers = [value for value in values if isinstance(value, int | float)]
        if numbers:
            merged[name] = median(numbers)
        else:
            merged[name] = values[0]
    return merged


def _check_same_requests(results: Iterable[Sequence[CellResult]]) -> None:
    counts: dict[int, float | str | None] = {}
    for result in (result for group in results for result in group):
        seed, requests = result.cell.config.seed, result.figures["requests"]
        if counts.setdefault(seed, requests) != requests:
            raise ControlError(
                f"policies met different requests under seed {seed}: {counts[seed]} and "
                f"{requests} ({result.cell.label})"
            )
