"""The text of REPORT.md, from figures.json alone: owns what is said about the figures, and how they are set in tables."""

MISSING = (
    ("Replaced-token detection (`rtd`), inserted-token detection", "no such head was trained for this model"),
    ("Prompts with verbalizers, embedding heads, classifiers", "no labelled task is part of this card"),
    ("AULA (unmasked, weighed by attention)", "the graph gives out no attentions, and tamis has no such score"),
    ("NPR and other scores by perturbation", "tamis has no such score"),
    ("`word-l2r`, `whole-word`, `sampled`", "how they differ from the exact score is in docs/scores.md; they were not measured here"),
    ("Long windows (over 128 tokens)", "every figure is with the bundled pipelines' window"),
    ("Held-out halves: the other 47 BLiMP subsets, the treebank's test part, the other halves of OCR, SMS and machine text", "not used, so that they stay held out"),
)
NAMES = {
    "exact.nll_token": "exact, nats a token", "exact.bpb": "exact, bits a byte", "exact.nll_word": "exact, nats a word", "exact.log_rank": "exact, log-rank",
    "exact.lrr": "exact, LRR (negated)", "exact.entropy": "exact, entropy", "strided.nll_token": "strided, nats a token", "strided.bpb": "strided, bits a byte",
    "strided.log_rank": "strided, log-rank", "strided.lrr": "strided, LRR (negated)", "strided.entropy": "strided, entropy",
    "unmasked.nll_token": "unmasked (AUL)", "unmasked.aul_b": "unmasked, corrected", "bound.nelbo_token": "NELBO, nats a token", "bound.bpb": "NELBO, bits a byte",
    "text.english_function_rate": "no model: function words (negated)", "text.letter_rate": "no model: letters (negated)",
}


def pct(value):
    return f"{100 * value:.1f}"


def span(interval, scale=100, digits=1):
    low, high = (f"{scale * v:.{digits}f}" for v in interval)
    return f"{low}–{high}"


def table(head, rows, left=1):
    rule = "|".join("---" if i < left else "--:" for i in range(len(head)))
    return "\n".join(["| " + " | ".join(head) + " |", f"|{rule}|", *("| " + " | ".join(map(str, row)) + " |" for row in rows)])


def area(f):
    return f"{f['auroc']:.3f} ({span(f['interval'], 1, 3)})"


def areas(found, label="score"):
    """Signals down, kinds of bad text across."""
    signals = [s for s in NAMES if any(s in by_signal for by_signal in found.values())]
    return table([label, *found], [[NAMES[s], *(area(f[s]) if s in f else "–" for f in found.values())] for s in signals])


def counted(found):
    """How many texts stand behind each column."""
    parts = []
    for name, by_signal in found.items():
        f = next(iter(by_signal.values()))
        parts.append(f"{name} {f['bad']} pairs" if "above_its_original" in f else f"{name} {f['bad']} against {f['clean']}")
    return "; ".join(parts)


def grammar(pairs):
    out = []
    for name, title, note in (
        ("blimp", "BLiMP", "the 20 subsets that this project develops with, all their pairs. The other 47 are held out and were never looked at"),
        ("zorro", "Zorro", "the first pairs of each of 23 paradigms, lower-cased and spaced as they come, which this cased model never saw in training"),
    ):
        f = pairs[name]
        rows = [[p.replace("_", " "), v["subsets"], f"{v['pairs']:,}", pct(v["accuracy"]), span(v["interval"])] for p, v in f["phenomena"].items()]
        mean = f["mean_over_subsets"]
        rows.append(["**mean over subsets**", len(f["subsets"]), f"{sum(v['pairs'] for v in f['phenomena'].values()):,}", f"**{pct(mean['accuracy'])}**", span(mean["interval"])])
        out += [f"### {title}", f"From {note}.", table(["phenomenon", "subsets", "pairs", "right, %", "95% interval"], rows)]
    return "\n\n".join(out)


def ocr(found):
    signals = [s for s in NAMES if s in found["all"]]
    head = ["score", *(f"{name}: pairs, %" for name in found), "all: AUROC"]
    rows = [[NAMES[s], *(f"{pct(f[s]['above_its_original'])} ({span(f[s]['above_its_original_interval'])})" for f in found.values()), area(found["all"][s])] for s in signals]
    return table(head, rows)


def bits(found):
    rows = []
    for group in ("clean", "other"):
        for name, f in found[group].items():
            p = f["by_text"]
            rows.append([name, f["texts"], f"{f['bytes']:,}", f"{f['bits_per_byte']:.3f}", span(f["interval"], 1, 3), *(f"{p[k]:.2f}" for k in ("p5", "p50", "p95", "p99"))])
    return table(["source", "texts", "bytes", "bits a byte, pooled", "95% interval", "5%", "median", "95%", "99%"], rows)


def agreement(found):
    rows = [
        [kind, unit, f["texts"], f"{f['pearson']:.4f}", f"{f['spearman']:.4f}", f"{f['shift']:+.4f} ({span(f['shift_interval'], 1, 4)})", f"{f['shift_sd']:.3f}", f"{f['largest']:.3f}", pct(f["other_side_of_the_median"])]
        for kind, by_unit in found.items() for unit, f in by_unit.items()
    ]
    return table(["texts", "unit", "n", "Pearson", "Spearman", "shift (95% interval)", "sd", "largest", "other side of the median, %"], rows, left=2)


def int8(found, pace):
    rows = [[t, f"{f['pearson']:.5f}", f"{f['shift']:+.4f} ({span(f['shift_interval'], 1, 4)})", f"{f['largest']:.4f}", pct(f["other_side_of_the_median"]), f"{f['moved_with_the_batch']:.4f}"]
            for t, f in found.items() if t != "bytes"]
    size = found["bytes"]
    return (
        table(["score", "Pearson", "shift, nats a token", "largest", "other side of the median, %", "moved with the batch, at most"], rows)
        + f"\n\nFile: {size['int8']:,} bytes against {size['fp32']:,} (embeddings stay fp16 in both). Processor time for"
        f" {pace['texts']} web passages, start included, on the machine that made this card: single precision takes {pace['fp32_over_int8']} times what int8 takes."
    )


def shares(found):
    head = ["text", "n", "fluent: fails, %", "word-order: fails, %", "together: fails, %", "together: fails or review, %"]
    return table(head, [[name, f["together"]["texts"], pct(f["fluent"]["fail"]), pct(f["word-order"]["fail"]), pct(f["together"]["fail"]), pct(f["together"]["fail_or_review"])] for name, f in found.items()])


def thresholds(found):
    rows = [[level, rule, f"{cut['review_above']:g}", cut["before_rounding"]["review_above"], f"{cut['max']:g}", cut["before_rounding"]["max"]]
            for level, cuts in found["chosen"].items() for rule, cut in cuts.items()]
    chosen_on = ", ".join(f"{n} {name}" for name, n in found["chosen_on"].items())
    out = [
        table(["level", "rule", "`review_above`", "before rounding", "`max`", "before rounding"], rows, left=2),
        f"Chosen on half of the clean modern texts ({chosen_on}), each source weighing the same, and rounded up to 0.05. Level `web` (english-web.toml, annotate.toml): 1% of the clean texts lie"
        " above `max`, 5% above `review_above`, by each rule. Level `strict` (demo, files.toml, stdin.toml, the README's example), for edited prose: 5% and 10%. With so few texts the 1% points are"
        " rough. No bad text was looked at in choosing. `no-bad-stretch` only ever asks for review, and only in english-web.toml; stdin, files and demo don't ask for it, nor for review by word-order:"
        " there fewer are reviewed than stands here.",
    ]
    for level in found["chosen"]:
        out += [f"Level `{level}`, clean texts that were not chosen on:", shares(found["clean_not_chosen_on"][level]), f"Level `{level}`, text that should not pass:", shares(found["bad"][level])]
    out.append("These rules look at fluency only. What reads well passes: boilerplate, spam in good English, machine-made text.")
    return "\n\n".join(out)


def crows(found):
    rows = [["all", found["all"]["pairs"], pct(found["all"]["accuracy"]), span(found["all"]["interval"])]]
    rows += [[kind, f["pairs"], pct(f["accuracy"]), span(f["interval"])] for kind, f in found["by_kind"].items()]
    return table(["kind", "pairs", "more stereotyping is likelier, %", "95% interval"], rows)


def machine(found):
    signals = [s for s in NAMES if s in next(iter(found.values()))]
    return table(["data set, generator", "pairs", *(NAMES[s] for s in signals)], [[name, f[signals[0]]["clean"], *(area(f[s]) for s in signals)] for name, f in found.items()], left=1)


def text(found, model):
    made, sizes = found["made_by"], found["sizes"]
    sections = [
        f"# What {model.name} can do, measured",
        f"Made by `make model-card EVAL=FOLDER` from [figures.json](figures.json), which holds every number in full. Scores are those that {made['program']} printed, with windows of"
        f" 128 tokens, but for two sections that need single tokens and say so. The model is the one whose `model.onnx` has sha256 `{made['model_sha256']}`."
        f" Intervals are 95% bootstraps ({found['resamples']} resamples over texts or pairs, seed {found['seed']}); samples are drawn with that seed. The evaluation texts are not part of the"
        " repository ([which, from where, under what licences](../../tools/card/README.md)). AUROC is the chance that a bad text scores above a clean one: 0.5 is chance. Where scores are"
        " \"negated\", less is worse.",
        "## Grammar: minimal pairs",
        "Share of pairs in which the acceptable sentence has the smaller sum of surprisals (exact score). Chance is 50%.",
        "![Accuracy by phenomenon](grammar.svg)",
        grammar(found["minimal_pairs"]),
        "## Damage: shuffled words and noise",
        f"{sizes['sentences']} sentences of web text (English Web Treebank, development part, 6 to 40 words) and whole web documents (40 to 250 words), each against a damaged copy of itself."
        " Noise replaces characters by random lower-case letters, digits and signs. The last rows are what costs no model at all.",
        "![AUROC by damage](damage.svg)",
        *(f"### {kind[0].upper() + kind[1:]}\n\n{areas(by_damage)}\n\nn: {counted(by_damage)}." for kind, by_damage in found["damage"].items()),
        "## Real OCR",
        "Readings of scanned newspapers and books against their ground truth, most of them a line or a few: in how many pairs the reading scores worse than the truth, and how well one"
        " threshold would tell the two groups. Some pairs differ in one hyphen.",
        ocr(found["ocr"]),
        "## Boilerplate, spam, and the demo's other kinds",
        "Spam against ham of the same medium, and against web sentences. That ham itself stands far from web sentences shows how much of the latter is the medium, not the spam.",
        areas(found["spam"]) + f"\n\nn: {counted(found['spam'])}.",
        "The demo's own kinds against its prose (older books and government pages, 60 to 220 words):",
        areas(found["demo"]) + f"\n\nn: {counted(found['demo'])}.",
        "## Machine-made text",
        "Above 0.5: the machine's passages are the less likely ones; below: the more likely. A filter by fluency is no detector of machines, and the better the generator, the less it is one.",
        machine(found["machine"]),
        "## Bits per byte by source",
        "Strided score, the one to compare between models with other tokenizers.",
        "![Bits per byte by source](sources.svg)",
        bits(found["bits_per_byte"]),
        "## Strided against exact",
        "![Strided over exact](strided.svg)",
        agreement(found["strided"]),
        "## int8 against single precision",
        f"`python tools/train/quantize.py models/{model.name} FOLDER` makes the int8 copy, `models/{model.name}-int8`. {sizes['sentences']} web sentences:",
        int8(found["int8"], found["pace"]),
        "## Calibration per token",
        f"By ONNX Runtime alone (tools/card/tokens.py), because `tamis score` prints no single tokens; its means differ from tamis's by at most"
        f" {found['calibration']['largest_difference_from_tamis']:g} nats a token. Each token of the {sizes['sentences']} web sentences, masked alone: the model's first choice had probability"
        f" {found['calibration']['mean_predicted']:.3f} on average and was right in {pct(found['calibration']['hit_rate'])}%. Mean entropy of its predictions"
        f" {found['calibration']['mean_entropy']:.3f} nats, mean surprisal {found['calibration']['nats_per_token']:.3f}: the second above the first is how overconfident it is on web text.",
        "![Reliability](reliability.svg)",
        "## CrowS-Pairs",
        "In how many pairs the more stereotyping sentence is the likelier, over the tokens that both share (the metric of Nangia et al. 2020; by ONNX Runtime, as above). 50% would be"
        " indifference by this metric. The set is in American English of 2020, many of its pairs were found unsound (Blodgett et al. 2021), and a model this weak is indifferent to"
        " much for want of understanding: a figure near 50% is no certificate.",
        crows(found["crows_pairs"]),
        "## Thresholds of the bundled pipelines",
        thresholds(found["thresholds"]),
        "## Not measured",
        table(["what", "why"], MISSING, left=2),
    ]
    return "\n\n".join(sections) + "\n"


def summary(found, model):
    """The few lines that stand in the model card itself."""
    pairs, sentences = found["minimal_pairs"], found["damage"]["web sentences"]
    noise = "10% of characters replaced"
    cut = found["thresholds"]["chosen"]["web"]
    web = found["bits_per_byte"]["clean"]
    means = {name: f"{name} {pct(pairs[name]['mean_over_subsets']['accuracy'])}% ({span(pairs[name]['mean_over_subsets']['interval'])})" for name in pairs}
    return f"""Measured by `make model-card` with tamis itself; tables, plots and every number: [the report](../{model.name}.report/REPORT.md). In brackets 95% intervals.

* Minimal pairs (chance is 50%): {means['blimp'].replace('blimp', 'BLiMP, 20 of 67 subsets,')}; {means['zorro'].replace('zorro', 'Zorro')}. It knows what English looks like, and little grammar.
* AUROC against clean web sentences: words shuffled {area(sentences['words shuffled']['exact.nll_token'])} per token; {noise} {area(sentences[noise]['exact.bpb'])} per byte.
  Real OCR against its ground truth {area(found['ocr']['all']['exact.bpb'])} per byte; spam against ham {area(found['spam']['spam against ham']['exact.bpb'])} per byte.
* Bits per byte, strided score: {'; '.join(f"{name} {f['bits_per_byte']:.2f}" for name, f in web.items())}.
* Strided (7 passes) against exact, whole web documents: Pearson {found['strided']['web passages']['nll_token']['pearson']:.4f}, {found['strided']['web passages']['nll_token']['shift']:+.3f} nats a token.
* Calibration on web sentences: expected error {found['calibration']['expected_calibration_error']:.3f}.
* int8 (an option, [{model.name}-int8](../{model.name}-int8/MODEL_CARD.md)): {found['int8']['bytes']['int8']:,} bytes, {found['int8']['exact']['shift']:+.4f} nats a token.
* Thresholds of the bundled pipelines: `bpb` {cut['fluent']['max']:g} and `nll_token` {cut['word-order']['max']:g} fail, {cut['fluent']['review_above']:g} and {cut['word-order']['review_above']:g} ask for review."""
