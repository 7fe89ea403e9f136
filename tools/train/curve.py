"""The loss curve as a picture: owns curve.svg, drawn from curve.csv with nothing but the standard library.

usage: curve.py CURVE.csv OUT.svg
"""
import csv
import math
import sys

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 720, 360, 56, 44, 20, 110
COLOURS = {"train": "#8a8a8a", "dev": "#2b6ca3", "dev_modern": "#c8691c"}


def write_svg(source, out):
    with open(source, newline="") as file:
        rows = list(csv.DictReader(file))
    lines = {name: [(int(r["step"]), float(r[name])) for r in rows if r.get(name)] for name in COLOURS}
    lines = {name: points for name, points in lines.items() if points}
    points = [p for line in lines.values() for p in line]
    last = max(step for step, _ in points) or 1
    low, high = math.floor(min(v for _, v in points)), math.ceil(max(v for _, v in points))

    def x(step):
        return LEFT + (WIDTH - LEFT - RIGHT) * step / last

    def y(value):
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / max(1, high - low)

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
             f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>']
    for value in range(low, high + 1):
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value}</text>')
    for i in range(5):
        step = last * i // 4
        parts.append(f'<text x="{x(step):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{step:,}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">steps</text>')
    parts.append(f'<text x="14" y="{HEIGHT / 2}" transform="rotate(-90 14 {HEIGHT / 2})" text-anchor="middle">nats a masked token</text>')
    for name, line in lines.items():
        path = " ".join(f"{x(s):.1f},{y(v):.1f}" for s, v in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{COLOURS[name]}" stroke-width="1.5"/>')
    below = TOP
    for name, line in sorted(lines.items(), key=lambda item: -item[1][-1][1]):  # labels in the order of the ends, not on top of one another
        below = max(below + 14, y(line[-1][1]) + 4)
        parts.append(f'<text x="{WIDTH - RIGHT + 6}" y="{below:.1f}" fill="{COLOURS[name]}">{name} {line[-1][1]:.2f}</text>')
    out.write_text("\n".join([*parts, "</svg>"]) + "\n")


if __name__ == "__main__":
    from pathlib import Path

    write_svg(Path(sys.argv[1]), Path(sys.argv[2]))
