"""Draw the paper's figures from the results in `results/figures`.

    python -m paper_figures all                 every figure and comparison.csv
    python -m paper_figures fig8 fig10

Writes a PDF, a PNG and a page of each figure into --out, and comparison.csv: each published number
beside ours. A figure is not drawn again if its results and this program are unchanged. Nothing is
simulated here: `python -m experiments.figures` makes the results.

Exit codes: 0 done, 1 results are missing (the other figures are drawn), 2 unknown name.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from paper_figures.catalogue import PICTURES
from paper_figures.comparison import compared_numbers, csv_text
from paper_figures.picture import Picture, page
from paper_figures.results import RESULTS, read_results
from paper_figures.style import FORMATS, save_figure
from sllmcore.code_text import code_text

HERE = Path(__file__).resolve().parent
OUT = HERE / "out"


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the named figures and return the exit code."""
    arguments = _arguments(argv)
    by_stem = {picture.stem: picture for picture in PICTURES}
    stems = list(by_stem) if "all" in arguments.names else arguments.names
    unknown = [stem for stem in stems if stem not in by_stem]
    if unknown:
        known = ", ".join(by_stem)
        print(f"error: no figure {unknown[0]!r}; give all, or some of {known}", file=sys.stderr)
        return 2
    missing = [
        stem for stem in stems if not _drawn(by_stem[stem], arguments.results, arguments.out)
    ]
    _compare(arguments.results, arguments.out)
    for stem in missing:
        name = by_stem[stem].results
        print(
            f"error: {stem} has no results; run python -m experiments.figures {name}",
            file=sys.stderr,
        )
    return 1 if missing else 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m paper_figures",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="+", help="names of figures, or all")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="folder (default results/figures)"
    )
    parser.add_argument(
        "--out", type=Path, default=OUT, help="folder to write to (default paper_figures/out)"
    )
    return parser.parse_args(argv)


def _drawn(picture: Picture, folder: Path, out: Path) -> bool:
    """Draw a figure, unless it is up to date; return False if it has no results."""
    results = read_results(picture.results, folder)
    if results is None:
        return False
    out.mkdir(parents=True, exist_ok=True)
    stamps_path = out / "drawn.json"
    stamps = json.loads(stamps_path.read_text()) if stamps_path.is_file() else {}
    stamp = _stamp(folder / f"{picture.results}.json")
    files = [out / f"{picture.stem}.{kind}" for kind in (*FORMATS, "md")]
    if stamps.get(picture.stem) == stamp and all(path.is_file() for path in files):
        return True
    save_figure(picture.draw(results), picture.stem, out)
    (out / f"{picture.stem}.md").write_text(page(picture, results))
    stamps_path.write_text(json.dumps({**stamps, picture.stem: stamp}, indent=1) + "\n")
    print(out / f"{picture.stem}.png")
    return True


def _stamp(results: Path) -> str:
    """Return a hash of the results and of this program."""
    total = sha256(results.read_bytes())
    for path in sorted(HERE.glob("*.py")):
        total.update(code_text(path.read_text()).encode())
    return total.hexdigest()[:16]


def _compare(folder: Path, out: Path) -> None:
    text = csv_text(compared_numbers(folder))
    path = out / "comparison.csv"
    if not path.is_file() or path.read_text() != text:
        out.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        print(path)


if __name__ == "__main__":
    sys.exit(main())
