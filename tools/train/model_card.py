"""The text of MODEL_CARD.md: owns what is said about the model, from figures measured elsewhere."""
import re

from train import BETAS, CLIP, LONG_WINDOW, P_FRAGMENT, P_LONG, P_SENTENCE, SENTENCE_TOKENS, WEIGHT_DECAY, WINDOW


# Between these, `make model-card` puts its summary.
REPORT_BEGINS, REPORT_ENDS = "<!-- report -->", "<!-- /report -->"

# What began other runs (`train.py --start`), by the SHA-256 of the model.onnx: how it was made, and its minutes.
STARTS = {
    "d97833f02c65f796118d0e9ec0fbe7f7d97c818320e56dd6547140c6241ce6c1": (
        "the project's first model: 4,081 steps of 2,600 positions, 10.6M in all, in 74 minutes on two shared CPU cores; AdamW for all weights, 300"
        " warm-up steps to 0.001, 2,031 constant ones, 1,750 of linear decay; the rest as here",
        74,
    ),
}


def section(markdown, title):
    """The body of the `## title...` section of the corpus manifest."""
    match = re.search(rf"^## {re.escape(title)}[^\n]*\n(.*?)(?=^## |\Z)", markdown, re.M | re.S)
    return match.group(1).strip()


def lines_starting(text, prefix):
    return "\n".join(line for line in text.splitlines() if line.startswith(prefix))


def evaluation(metrics, checks):
    out = [
        f"* Held-out documents of the training corpus, 128-token windows, 15% masked: {checks['dev_nats_onnx']:.3f} nats per masked token"
        f" (before rounding the weights to fp16: {checks['dev_nats_fp32']:.3f}).",
        f"* ONNX Runtime against PyTorch, padded batches included: logits differ by at most {checks['max_logit_difference']:.1e}.",
    ]
    if not metrics:
        return "\n".join(out + ["* The other figures have not been measured for this export."])
    ewt = metrics["ewt"]
    out += [
        f"* English Web Treebank (development part, sentences of 6 to 40 words), exact pseudo-log-likelihood:"
        f" {ewt['clean']['nats_per_token']:.3f} nats per token, {ewt['clean']['bits_per_byte']:.3f} bits per byte.",
        "* Telling clean sentences from damaged copies of the same sentences (AUROC; 0.5 is chance):",
        "",
        "| damage | mean score per token | mean score per byte |",
        "|---|--:|--:|",
    ]
    for key, label in (("shuffled", "words shuffled"), ("noised", "10% of the characters replaced")):
        out.append(f"| {label} | {ewt[key]['auroc_per_token']:.3f} | {ewt[key]['auroc_per_byte']:.3f} |")
    if "blimp" in metrics:
        blimp = metrics["blimp"]
        out += [
            "",
            f"* BLiMP minimal pairs (20 of its 67 subsets, {blimp['pairs_per_subset']} pairs each): {100 * blimp['mean']:.1f}% (chance is 50%)."
            " The model knows little grammar; it knows what English looks like.",
        ]
    if "windows" in metrics:
        out += [
            "",
            "Mean nats per token of single windows of 128 content tokens (exact score, one token masked at a time), to set thresholds by:",
            "",
            "| text | windows | 5% | 25% | median | 75% | 95% | bits per byte: 5% | median | 95% |",
            "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
        ]
        for name, w in metrics["windows"].items():
            cells = " | ".join(
                [f"{w['exact'][p]:.2f}" for p in ("p5", "p25", "p50", "p75", "p95")]
                + [f"{w['bits_per_byte'][p]:.2f}" for p in ("p5", "p50", "p95")]
            )
            out.append(f"| {name} | {w['windows']} | {cells} |")
    return "\n".join(out)


def training(run, settings, shape, device):
    """What was done, from what the run recorded."""
    corpus = run["legs"][-1]["corpus_tokens"]
    stable = run["step"] if run["decay_start"] is None else run["decay_start"]
    masking = f"{settings.mask_rate:.0%} of tokens are targets"
    if settings.mask_rate_end != settings.mask_rate:
        masking += f" until the decay, falling to {settings.mask_rate_end:.0%} with it"
    words = f"; in {settings.whole_word:.0%} of the batches all pieces of a word together" if settings.whole_word else ""
    dropout = f"Dropout {shape.dropout}" if shape.dropout else "No dropout"
    seen = {g: run["tokens"] * share / corpus[g] for g, share in (("modern", settings.modern_share), ("books", 1 - settings.modern_share))}
    matrices = f"AdamW {BETAS}"
    if settings.optimizer == "muon":
        matrices = f"Muon (momentum 0.95; updates scaled to AdamW's size) for the layers' matrices, AdamW {BETAS} for embeddings, vectors"
    began = ""
    if run["start"]:
        how, _ = STARTS[run["start"]]
        began = f"* Begun with the weights of {how} (`model.onnx` with SHA-256 {run['start'][:12]}…, in the repository's history). All that follows is the second run.\n"
    return f"""{began}* {run['step']:,} steps, {run['tokens'] / 1e6:,.1f}M token positions, {run['seconds'] / 60:.0f} minutes on {device}, in {len(run['legs'])} leg(s): {stable:,} stable
  steps (warm-up included) and {run['step'] - stable:,} decay steps.
* {settings.batches_per_step} batch(es) of about {settings.tokens_per_batch:,} positions a step, one length per batch, no padding: windows of {WINDOW} content tokens;
  {P_SENTENCE:.0%} of batches are single sentences of {SENTENCE_TOKENS[0]} to {SENTENCE_TOKENS[1]} tokens; {P_FRAGMENT:.0%} are windows of a random shorter length; late in the run
  {P_LONG:.0%} have all {shape.positions} positions.
* {masking} (80% `[MASK]`, 10% random, 10% kept){words}.
* {dropout}. The modern texts ({corpus['modern'] / 1e6:.1f}M tokens) were read about {seen['modern']:.1f} times, the older ones ({corpus['books'] / 1e6:.1f}M) {seen['books']:.1f} times.
* {matrices}; weight decay {WEIGHT_DECAY}, gradient norm clipped at {CLIP}, {settings.warmup_steps} warm-up steps to {settings.peak_lr:g}, constant, then linear
  to zero; bf16 autocast over fp32 weights.
* Positions start as sinusoids and the first layer's heads start out looking at the neighbouring tokens; without this
  so short a run does not get past word frequencies."""


def card(shape, parameters, run, settings, device, finished, checks, metrics, corpus_manifest):
    minutes = run["seconds"] / 60 + (STARTS[run["start"]][1] if run["start"] else 0)
    where = "two shared CPU cores" if device == "cpu" else "one GPU"
    status = "" if finished else "\n> **Interim export**, taken while training was still running. Not for release.\n"
    return f"""---
language: en
license: apache-2.0
tags: [masked-lm, bert, text-quality]
---
# tamis-en

A small English masked language model that scores how likely a text is, token by token (pseudo-log-likelihood).
It is the default model of tamis, a streaming corpus filter: well-formed modern prose scores low, shuffled,
garbled and machine-damaged text scores high. Trained on {where} in {minutes:.0f} minutes.
{status}
## Model

BERT encoder (post-layer-norm, exact GELU, learned positions, decoder tied to the word embeddings):
{shape.layers} layers, hidden size {shape.hidden}, {shape.heads} heads, feed-forward {shape.feed_forward}, {shape.positions} positions, {parameters:,} parameters.

Tokenizer: byte-level BPE, cased, {shape.vocab:,} pieces, NFC, a space put before the first word; `[PAD]` 0, `[CLS]` 1,
`[SEP]` 2, `[MASK]` 3, `[UNK]` 4. Every byte sequence can be encoded, so `[UNK]` never occurs.

`model.onnx` (opset 17): inputs `input_ids` and `attention_mask`, int64 [batch, sequence]; output `logits`, float32
[batch, sequence, {shape.vocab}]; batch and sequence are dynamic, up to {shape.positions} positions. Matrices are stored in fp16 and
cast to fp32 at load; all computation is fp32. `manifest.json` gives each file's size and SHA-256.

The usual window is {WINDOW} content tokens between `[CLS]` and `[SEP]`. Longer windows, up to {LONG_WINDOW} content tokens,
were trained on less.

## Training

{training(run, settings, shape, where)}

The scripts are in `tools/train`.

## Evaluation

{REPORT_BEGINS}
The report (`make model-card`) has not been made for this export.
{REPORT_ENDS}

Measured at export:

{evaluation(metrics, checks)}

## Limits

* English only. Other languages, code, tables and markup score as unlikely text; that is a statement about the model,
  not about their quality.
* Undertrained: names, rare words, jargon and figures raise the score. Compare scores within one kind of text, or set
  thresholds on a sample of your own.
* {1 - settings.modern_share:.0%} of the batches are older books, the rest mostly textbooks, government and technical prose: chat, dialect
  and other informal English are under-represented and score higher. A filter built on any such score removes more of the
  text of people who write differently from the corpus. Check what it removes.
* The score knows form, not truth: fluent falsehood, spam in good English and fluent machine-generated prose are not
  what it detects.
* Figures above rest on small samples (see the counts): take percentiles near the ends as rough.
* Sums over tokens grow with length; use means per token or per byte.

## Data

{sum(run['legs'][-1]['corpus_tokens'].values()) / 1e6:.0f} million tokens of English; batches drawn {settings.modern_share:.0%} from modern prose (textbooks, US government, technical) and {1 - settings.modern_share:.0%} from
older books and speeches. Only text under licences that permit this use. Markup, code, tables, formulas, exercises and
references were removed, and short, non-prose and duplicate paragraphs dropped.

{lines_starting(section(corpus_manifest, "Sources"), "|")}

Public domain means the United States; other countries were not checked. US government works are dedicated with CC0 1.0
elsewhere. PEPs: only those with a public domain or CC0 notice. MASC: its licence permits any research and development
use, commercial included. OpenStax titles were taken at commits published under CC BY 4.0. Texts under CC BY may carry
quotations by third parties.

## Attribution

Changes made to all: markup, code, tables, formulas, exercises and references removed; short, non-prose and duplicate
paragraphs dropped.

{lines_starting(section(corpus_manifest, "Attribution"), "* ")}
"""


def write_card(path, **values):
    path.write_text(card(**values), encoding="utf-8")
