"""Small pictures for the report, as SVG without external references."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import log10

from experiments.comparison.curves import Curve

BAR_WIDTH, BAR_HEIGHT, LABEL_WIDTH = 520, 22, 130
PANEL_WIDTH, PANEL_HEIGHT, MARGIN = 300, 160, 44


@dataclass(frozen=True, slots=True)
class SvgPart:
    """A part of a stacked bar.

    Args:
        shown: Text of its amount.
    """

    name: str
    amount: float
    shown: str
    colour: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A stacked bar of a policy."""

    label: str
    parts: tuple[SvgPart, ...]

    @property
    def total(self) -> float:
        """Sum of the amounts of its parts."""
        return sum(part.amount for part in self.parts)


def stacked_bars(bars: Sequence[Bar]) -> str:
    """Return horizontal bars on a common scale, with a key above them."""
    longest = max((bar.total for bar in bars), default=0.0) or 1.0
    height = (BAR_HEIGHT + 6) * len(bars) + 26
    pieces = [_key(bars[0].parts)] if bars else []
    for row, bar in enumerate(bars):
        y = 26 + row * (BAR_HEIGHT + 6)
        pieces.append(_text(LABEL_WIDTH - 8, y + 15, bar.label, "end"))
        pieces += _pieces(bar, y, BAR_WIDTH / longest)
    return _svg(LABEL_WIDTH + BAR_WIDTH + 10, height, pieces)


def _pieces(bar: Bar, y: float, scale: float) -> list[str]:
    pieces, x = [], float(LABEL_WIDTH)
    for part in bar.parts:
        width = part.amount * scale
        pieces.append(
            f'<rect x="{x:.1f}" y="{y:g}" width="{width:.1f}" height="{BAR_HEIGHT}" '
            f'fill="{part.colour}"><title>{escape(f"{part.name}: {part.shown}")}</title></rect>'
        )
        if width > 8 * len(part.shown):
            pieces.append(
                _text(x=x + width / 2, y=y + 15, text=part.shown, anchor="middle", kind="onbar")
            )
        x += width
    return pieces


def _key(parts: Sequence[SvgPart]) -> str:
    pieces, x = [], LABEL_WIDTH
    for part in parts:
        pieces.append(f'<rect x="{x}" y="4" width="11" height="11" fill="{part.colour}"/>')
        pieces.append(_text(x + 16, 14, part.name, "start"))
        x += 34 + 7 * len(part.name)
    return "".join(pieces)


def cdf_panel(curve: Curve, colour: str, left_s: float, right_s: float) -> str:
    """Return the CDF of a policy over a logarithmic axis."""
    decades = log10(right_s / left_s)

    def x(latency_s: float) -> float:
        share = log10(max(latency_s, left_s) / left_s) / decades
        return MARGIN + share * (PANEL_WIDTH - MARGIN - 8)

    def y(share: float) -> float:
        return PANEL_HEIGHT - 24 - share * (PANEL_HEIGHT - 48)

    pieces = [_text(x=MARGIN, y=14, text=curve.label, anchor="start", kind="name")]
    for share in (0.0, 0.5, 1.0):
        pieces.append(_line(MARGIN, y(share), PANEL_WIDTH - 8, y(share)))
        pieces.append(_text(MARGIN - 4, y(share) + 4, f"{100 * share:.0f} %", "end"))
    for power in range(round(log10(left_s)), int(log10(right_s)) + 1):
        at_x = x(10.0**power)
        pieces.append(_line(at_x, y(1), at_x, y(0)))
        pieces.append(_text(at_x, PANEL_HEIGHT - 8, f"{10.0**power:g} s", "middle"))
    points, last = [f"{MARGIN},{y(0):.1f}"], 0.0
    for latency_s, share in zip(curve.latency_s, curve.shares, strict=True):
        points += [f"{x(latency_s):.1f},{y(last):.1f}", f"{x(latency_s):.1f},{y(share):.1f}"]
        last = share
    pieces.append(
        f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="2"/>'
    )
    return _svg(PANEL_WIDTH, PANEL_HEIGHT, pieces)


def _svg(width: float, height: float, pieces: Sequence[str]) -> str:
    box = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"'
    return f'<svg {box} role="img">{"".join(pieces)}</svg>'


def _text(x: float, y: float, text: str, anchor: str, kind: str = "label") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}"'
    return f"<text {place}>{escape(text)}</text>"


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="grid"/>'
