"""The pipelines of `make bench-flow`: what tamis is given, and the rules that the Python stage applies, too."""

import json

STRIDE = 7
RULES = [
    {"name": "fluent", "signal": "pll.bpb", "max": 2.6, "review_above": 2.3},
    {"name": "word-order", "signal": "pll.nll_token", "max": 5.9, "review_above": 5.5},
]

BASE = """
name = "{group}"
[source.kafka]
brokers = "{brokers}"
topics = ["{source}"]
group = "{group}"
[routes]
pass = "{target}"
review = "{target}"
fail = "{target}"
dead_letter = "{target}-dead"
[delivery]
commit_interval_ms = {commit_ms}
[cache]
path = "{cache}"
[admin]
listen = "127.0.0.1:0"
"""

MODEL = """
[models.default]
path = "{model}"
device = "cpu"
threads = {threads}
[signals.pll]
kind = "pll"
model = "default"
"""

# Of the score that counts every token by itself. The stage in Python clips alike: what a loss counts for at most is part of what the score is.
CLIP_NATS = 10
# What follows in [signals.pll], by contender. Of documents with a row for each token few are under way at once: a short run would else be made mostly of
# what is under way at its ends.
SCORES = {
    "tamis-model": f'masking = "strided"\nstride = {STRIDE}\n',
    "tamis-before": f'masking = "strided"\nstride = {STRIDE}\n',
    "tamis-single": f'masking = "single"\nclip_nats = {CLIP_NATS}\n',
    "tamis-certified": f'masking = "single"\nclip_nats = {CLIP_NATS}\nstop = "certified"\nstop_key = "the bench\'s"\n',
}


def pipeline(name, **known):
    """The text of the pipeline file of `name`: with the model and RULES, or, for `tamis`, without any signal."""
    text = BASE.format(**known)
    if name in ("tamis-single", "tamis-certified"):
        text = text.replace("[delivery]\n", "[delivery]\nmax_journeys = 16\n")
    if name in SCORES:
        text += MODEL.format(**known) + SCORES[name]
        for rule in RULES:
            text += "[[rules]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in rule.items())
    return text
