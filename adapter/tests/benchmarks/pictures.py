"""Pictures of a run: cost against change rate and against table size, as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from tests.benchmarks.model import AUTO, CONCURRENTLY, DIFFERENTIAL, FULL, HAND, REFRESH, Run

WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 150, 40, 50
COLOURS = {
    DIFFERENTIAL: "#1f6feb",
    AUTO: "#8250df",
    FULL: "#bf8700",
    HAND: "#1a7f37",
    REFRESH: "#cf222e",
    CONCURRENTLY: "#6e7781",
}
Points = Sequence[tuple[float, float]]


def draw(run: Run, directory: Path) -> list[Path]:
    """Write one picture per scenario and scale (cost against change) and per scenario (cost against size).

    Returns:
        The files; only where there are at least three points on the x axis, or two sizes.
    """
    directory.mkdir(parents=True, exist_ok=True)
    made = []
    for (scenario, scale), series in sorted(_by_change(run).items()):
        if max(map(len, series.values())) >= 3:
            path = directory / f"{scenario}-sf{scale:g}-change.svg"
            path.write_text(chart(f"{scenario}, SF {scale:g}", "changed rows", series))
            made.append(path)
    for (scenario, change), series in sorted(_by_size(run).items()):
        if max(map(len, series.values())) >= 2:
            path = directory / f"{scenario}-{change.replace(' ', '-').replace('%', 'pct')}-size.svg"
            path.write_text(chart(f"{scenario}, {change} changed", "scale factor", series))
            made.append(path)
    return made


def _by_change(run: Run) -> dict[tuple[str, float], dict[str, list[tuple[float, float]]]]:
    found: dict[tuple[str, float], dict[str, list[tuple[float, float]]]] = {}
    for measured in run.measurements:
        if measured.ms:
            series = found.setdefault((measured.scenario, measured.scale), {})
            series.setdefault(measured.method, []).append((float(max(measured.rows, 1)), measured.median))
    return found


def _by_size(run: Run) -> dict[tuple[str, str], dict[str, list[tuple[float, float]]]]:
    found: dict[tuple[str, str], dict[str, list[tuple[float, float]]]] = {}
    for measured in run.measurements:
        if measured.ms:
            series = found.setdefault((measured.scenario, measured.change), {})
            series.setdefault(measured.method, []).append((measured.scale, measured.median))
    return found


def chart(title: str, below: str, series: Mapping[str, Points]) -> str:
    """Lines over two logarithmic axes; the y axis is in milliseconds."""
    xs = [x for points in series.values() for x, _ in points]
    ys = [y for points in series.values() for _, y in points]
    across, up = _Axis(xs, LEFT, WIDTH - RIGHT), _Axis(ys, HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif"'
        ' font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="22" font-size="15">{escape(title)}</text>',
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 12}" text-anchor="middle">{escape(below)}</text>',
        f'<text x="16" y="{HEIGHT / 2}" transform="rotate(-90 16 {HEIGHT / 2})" text-anchor="middle">ms</text>',
    ]
    parts += [_tick_x(across.at(value), value) for value in across.ticks]
    parts += [_tick_y(up.at(value), value) for value in up.ticks]
    for place, (name, points) in enumerate((name, series[name]) for name in COLOURS if name in series):
        path = " ".join(f"{across.at(x):.1f},{up.at(y):.1f}" for x, y in sorted(points))
        colour, height = COLOURS[name], TOP + 18 * place + 10
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{across.at(x):.1f}" cy="{up.at(y):.1f}" r="3" fill="{colour}"/>' for x, y in points]
        parts.append(f'<rect x="{WIDTH - RIGHT + 15}" y="{height - 9}" width="12" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{WIDTH - RIGHT + 32}" y="{height}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>\n"])


class _Axis:
    """A logarithmic axis between two pixel positions, with a tick at every power of ten."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self.low = math.floor(math.log10(max(min(values), 1e-3)))
        self.high = max(math.ceil(math.log10(max(max(values), 1e-3))), self.low + 1)
        self.start, self.end = start, end
        self.ticks = [10.0**power for power in range(self.low, self.high + 1)]

    def at(self, value: float) -> float:
        """The pixel of a value."""
        share = (math.log10(max(value, 1e-3)) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def _tick_x(x: float, value: float) -> str:
    line = f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="#d0d7de"/>'
    return f'{line}<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{value:,g}</text>'


def _tick_y(y: float, value: float) -> str:
    line = f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#d0d7de"/>'
    return f'{line}<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:,g}</text>'
