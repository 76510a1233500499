"""A picture: a figure of the paper drawn from stored results, and its page."""

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure

from paper_figures.results import Results


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure to draw.

    Args:
        stem: Name of its files without the ending.
        title: Heading of its page.
        results: Name of the results that it draws.
        draw: Draws it from these results.
    """

    stem: str
    title: str
    results: str
    draw: Callable[[Results], Figure]


def page(picture: Picture, results: Results) -> str:
    """Return the page of a picture in Markdown: the picture, and how to make it again."""
    plain = results.plain
    lines = [f"# {picture.title}", "", f"![{picture.title}]({picture.stem}.png)", ""]
    lines += [f"Vector: [{picture.stem}.pdf]({picture.stem}.pdf)", ""]
    rows = {
        "results": f"`results/figures/{picture.results}.json`",
        "run": f"`python -m experiments.figures {picture.results}`",
        "draw": f"`python -m paper_figures {picture.stem}`",
        "commit": f"`{plain['commit']}`",
    }
    if "runs" in plain:
        rows |= {
            "one cell with all files": f"`{plain['command']}` and the overrides of the cell",
            "config of all cells": " ".join(f"`{each}`" for each in plain["shared"]),
            "seeds": ", ".join(map(str, plain["seeds"])),
            "runs": str(len(plain["runs"])),
            "minutes of one core": f"{results.wall_minutes:.1f}",
        }
    else:
        rows |= {
            "code": "`experiments/reproduction/figures/standalone.py`",
            "minutes of one core": "below 0.1",
            "seeds": "none: the results are not random",
        }
    lines += ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())]
    if "runs" in plain:
        lines += ["", "Bars and points are medians over the seeds, with 95 % intervals."]
    return "\n".join(lines) + "\n"
