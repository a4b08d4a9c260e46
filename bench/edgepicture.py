"""The picture of bench/edge: CPU of a proxy to that of plain nginx, by number of tenants; readable on light and dark."""
import html

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 60, 250, 50, 50
COLOURS = ["#888888", "#d0367b", "#8250df", "#2f81c7", "#c77700", "#2a9d5c"]

STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f; }
.title { font-size: 15px; font-weight: 600; }
.grid { stroke: #8c959f; stroke-opacity: .35; }
@media (prefers-color-scheme: dark) { text { fill: #d0d7de; } }
"""


def name_of(count):
    return f"{count // 1000000} M" if count >= 1000000 else f"{count // 1000} k"


class Plot:
    def __init__(self, lines):
        self.lines = lines
        self.counts = sorted({count for points in lines.values() for count, _ in points})
        self.top = max(1.5, max(ratio for points in lines.values() for _, ratio in points) * 1.05)

    def x(self, count):
        steps = max(1, len(self.counts) - 1)
        return LEFT + 20 + (WIDTH - LEFT - RIGHT - 40) * self.counts.index(count) / steps

    def y(self, ratio):
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (ratio - 0.9) / (self.top - 0.9)

    def grid(self):
        parts = []
        ratio = 1.0
        while ratio < self.top:
            y = self.y(ratio)
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{ratio:.2f}</text>')
            ratio += 0.25
        for count in self.counts:
            parts.append(f'<text x="{self.x(count):.1f}" y="{HEIGHT - BOTTOM + 22}" text-anchor="middle">'
                         f'{name_of(count)} tenants</text>')
        return parts

    def labels(self):
        """Each beside the end of its line, moved down where it would lie on another."""
        places = {}
        last = 0
        for name, points in sorted(self.lines.items(), key=lambda item: self.y(item[1][-1][1])):
            last = places[name] = max(self.y(points[-1][1]), last + 17)
        return places

    def line(self, name, points, colour, label_y):
        path = " ".join(f"{self.x(count):.1f},{self.y(ratio):.1f}" for count, ratio in points)
        wide = 3.5 if name.startswith("Bulkhead") else 2
        parts = [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{wide}"/>']
        parts += [f'<circle cx="{self.x(count):.1f}" cy="{self.y(ratio):.1f}" r="{wide + 1}" fill="{colour}">'
                  f'<title>{html.escape(name)}, {name_of(count)} tenants: {ratio:.2f}</title></circle>'
                  for count, ratio in points]
        x = WIDTH - RIGHT + 12
        parts.append(f'<rect x="{x}" y="{label_y - 5:.1f}" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{x + 16}" y="{label_y + 4:.1f}">{html.escape(name.split(":")[0])} '
                     f'{points[-1][1]:.2f}</text>')
        return parts


def draw(path, lines):
    """Write ${lines}, {name: [(tenants, ratio), ...]}, to the SVG file ${path}."""
    plot = Plot(lines)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
             'aria-label="CPU per request of each proxy as a multiple of plain nginx, by number of tenants">',
             f"<style>{STYLE}</style>",
             f'<text class="title" x="{LEFT}" y="26">CPU per request, as a multiple of plain nginx</text>',
             *plot.grid()]
    places = plot.labels()
    for (name, points), colour in zip(lines.items(), COLOURS):
        parts += plot.line(name, points, colour, places[name])
    path.write_text("\n".join([*parts, "</svg>"]) + "\n")
