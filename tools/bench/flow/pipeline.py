"""The pipelines of `make bench-flow`: what tamis is given, and the rules that the Python stage applies, too."""

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
masking = "strided"
stride = {stride}
"""


def pipeline(scores, **known):
    """The text of a pipeline file; `scores`: with the model and RULES, or without any signal."""
    text = BASE.format(**known)
    if scores:
        text += MODEL.format(stride=STRIDE, **known)
        for rule in RULES:
            text += "[[rules]]\n" + "".join(f"{key} = {value!r}\n" for key, value in rule.items())
    return text.replace("'", '"')
