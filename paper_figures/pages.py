"""A page per figure: the picture, and what it takes to make it again."""

from paper_figures.catalogue import Picture
from paper_figures.results import Results


def page(picture: Picture, results: Results) -> str:
    """In Markdown."""
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
            "one cell, all files": f"`{plain['command']}` and the cell's overrides",
            "shared config": " ".join(f"`{each}`" for each in plain["shared"]),
            "seeds": ", ".join(map(str, plain["seeds"])),
            "runs": str(len(plain["runs"])),
            "minutes of one core": f"{results.wall_minutes:.1f}",
        }
    else:
        rows |= {
            "config": "`experiments/reproduction/figures/standalone.py`",
            "minutes of one core": "below 0.1",
        }
        rows["seeds"] = "none: nothing in it is random"
    lines += ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())]
    if "runs" in plain:
        lines += ["", "Bars and points: medians over the seeds, with their 95 % intervals."]
    return "\n".join(lines) + "\n"
