"""The card's plots, from figures.json alone: owns how they look. SVG, the same bytes for the same figures."""
import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

BLUE, ORANGE, GREEN, GREY, RED = "#2b6ca3", "#c8691c", "#3c8d5a", "#8a8a8a", "#b5333a"
STYLE = {
    "svg.hashsalt": "tamis", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10, "axes.spines.top": False, "axes.spines.right": False,
    "axes.titlesize": 11, "axes.titlelocation": "left", "figure.facecolor": "white", "savefig.facecolor": "white", "axes.axisbelow": True,
}
# The scores shown in the plot of damage, and what a reader calls them.
SHOWN = {"exact.nll_token": ("exact, nats a token", BLUE), "exact.bpb": ("exact, bits a byte", ORANGE), "strided.nll_token": ("strided, nats a token", GREEN),
         "text.english_function_rate": ("no model: share of function words", GREY)}


def save(figure, path):
    figure.savefig(path, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)


def grammar(pairs, path):
    """Accuracy by phenomenon, BLiMP and Zorro beside each other."""
    sides = {"BLiMP, 20 of its 67 subsets": pairs["blimp"], "Zorro, its 23 paradigms": pairs["zorro"]}
    rows = max(len(s["phenomena"]) for s in sides.values())
    figure, axes = plt.subplots(1, 2, figsize=(10, 0.34 * rows + 1.4))
    for ax, (title, side) in zip(axes, sides.items()):
        found = sorted(side["phenomena"].items(), key=lambda kv: kv[1]["accuracy"])
        for y, (_, f) in enumerate(found):
            ax.barh(y, 100 * f["accuracy"], color=BLUE, height=0.62)
            ax.plot([100 * v for v in f["interval"]], [y, y], color="black", lw=1.2)
        ax.set_yticks(range(len(found)), [name.replace("_", " ") for name, _ in found])
        ax.axvline(50, color=RED, lw=1, ls="--")
        ax.set_xlim(0, 100)
        ax.set_xlabel("pairs right, % (dashed: chance; black: 95% interval)")
        ax.set_title(f"{title}: {100 * side['mean_over_subsets']['accuracy']:.1f}%")
    figure.tight_layout()
    save(figure, path)


def damage(found, path):
    """AUROC of clean against damaged text, by damage and score."""
    figure, axes = plt.subplots(1, len(found), figsize=(10, 3.4), sharex=True)
    for ax, (kind, by_damage) in zip(axes, found.items()):
        names = list(by_damage)[::-1]
        shown = [s for s in SHOWN if s in by_damage[names[0]]]
        if kind.endswith("passages"):
            shown = [s for s in ("strided.nll_token", "strided.bpb", "text.english_function_rate") if s in by_damage[names[0]]]
        for k, signal in enumerate(shown):
            label, colour = SHOWN.get(signal, ("strided, bits a byte", ORANGE))
            offset = 0.16 * (len(shown) - 1) / 2 - 0.16 * k
            for y, name in enumerate(names):
                f = by_damage[name][signal]
                ax.plot(f["interval"], [y + offset] * 2, color=colour, lw=2, solid_capstyle="butt")
                ax.plot(f["auroc"], y + offset, "o", color=colour, ms=5, label=label if y == 0 else None)
        ax.set_yticks(range(len(names)), names)
        ax.axvline(0.5, color=RED, lw=1, ls="--")
        ax.set_xlim(0.3, 1.01)
        ax.grid(axis="x", color="#dddddd")
        ax.set_xlabel("AUROC against the same text undamaged")
        ax.set_title(kind)
        ax.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.4, -0.2), ncol=2)
    figure.tight_layout()
    save(figure, path)


def sources(bits, cuts, path):
    """Bits per byte by source: 5% to 95%, quartiles, median."""
    rows = [(n, f, BLUE) for n, f in bits["clean"].items()] + [(n, f, ORANGE) for n, f in bits["other"].items()]
    figure, ax = plt.subplots(figsize=(9, 0.32 * len(rows) + 1.2))
    for y, (_, f, colour) in enumerate(reversed(rows)):
        p = f["by_text"]
        ax.plot([p["p5"], p["p95"]], [y, y], color=colour, lw=1.2)
        ax.plot([p["p25"], p["p75"]], [y, y], color=colour, lw=6, solid_capstyle="butt")
        ax.plot(p["p50"], y, "o", color="white", ms=4, zorder=3)
    ax.set_yticks(range(len(rows)), [f"{n} ({f['texts']})" for n, f, _ in reversed(rows)])
    for key, label in (("review_above", "review"), ("max", "fail")):
        ax.axvline(cuts[key], color=RED, lw=1, ls="--" if key == "max" else ":")
        ax.text(cuts[key], len(rows) - 0.4, f" {label} {cuts[key]:g}", color=RED, fontsize=8, rotation=45)
    ax.set_xlim(0.8, min(8, max(f["by_text"]["p95"] for _, f, _ in rows) + 0.2))
    ax.grid(axis="x", color="#dddddd")
    ax.set_xlabel("bits a byte of single texts, strided score: 5–95% thin, quartiles thick, median white; blue: clean, orange: not")
    save(figure, path)


def strided(points, found, path):
    """The strided score over the exact one, text by text."""
    figure, axes = plt.subplots(1, len(points), figsize=(9, 4))
    for ax, (name, pairs) in zip(axes, points.items()):
        x, y = zip(*pairs)
        low, high = min(x + y) - 0.2, max(x + y) + 0.2
        ax.plot([low, high], [low, high], color=GREY, lw=1)
        ax.plot(x, y, ".", color=BLUE, ms=4, alpha=0.7)
        f = found[name]["nll_token"]
        ax.set_title(f"{name}: r {f['pearson']:.4f}, shift {f['shift']:+.3f}")
        ax.set_xlabel("exact, nats a token")
        ax.set_ylabel("strided (every 7th masked)")
        ax.set_aspect("equal")
    figure.tight_layout()
    save(figure, path)


def reliability(found, path):
    """How often the first choice was right, by how sure the model was; below, how many tokens that were."""
    figure, (ax, counts) = plt.subplots(2, 1, figsize=(5, 5.6), height_ratios=(4, 1), sharex=True)
    x, y = [b["predicted"] for b in found["bins"]], [b["hit_rate"] for b in found["bins"]]
    ax.plot([0, 1], [0, 1], color=GREY, lw=1)
    ax.plot(x, y, "o-", color=BLUE, ms=5)
    ax.set_ylabel("share that was right")
    ax.set_title(f"{found['tokens']:,} masked tokens; expected calibration error {found['expected_calibration_error']:.3f}")
    counts.bar(x, [b["tokens"] for b in found["bins"]], width=0.05, color=BLUE)
    counts.set_ylabel("tokens")
    counts.set_xlabel("probability of the model's first choice")
    save(figure, path)


def draw(found, out):
    with plt.rc_context(STYLE):
        grammar(found["minimal_pairs"], out / "grammar.svg")
        damage(found["damage"], out / "damage.svg")
        sources(found["bits_per_byte"], found["thresholds"]["chosen"]["web"]["fluent"], out / "sources.svg")
        strided(found["points"]["strided"], found["strided"], out / "strided.svg")
        reliability(found["calibration"], out / "reliability.svg")
