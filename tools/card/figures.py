"""The card's arithmetic: owns accuracies, areas under curves, correlations and their intervals. It knows numbers, not texts.

Intervals are 95% and percentile bootstraps over what was sampled: pairs for pairs, texts for texts (clean and damaged copies of one text together).
"""
import numpy as np

SEED = 6
RESAMPLES = 500
PERCENTILES = (1, 5, 25, 50, 75, 95, 99)


def interval(statistic, size, resamples=RESAMPLES):
    """[low, high] of statistic(indices) over resampled indices of `size` things."""
    rng = np.random.default_rng(SEED)
    values = [statistic(rng.integers(0, size, size)) for _ in range(resamples)]
    return [round(float(v), 4) for v in np.percentile(values, (2.5, 97.5))]


def auroc(clean, bad):
    """The chance that a bad text scores above a clean one; ties count half. 0.5 is chance."""
    clean, bad = np.sort(np.asarray(clean, float)), np.asarray(bad, float)
    below, upto = np.searchsorted(clean, bad, "left"), np.searchsorted(clean, bad, "right")
    return float((below + upto).mean() / 2 / len(clean))


def separation(clean, bad, paired):
    """AUROC with its interval; `paired` when bad[i] is a damaged copy of clean[i], which adds how often it scores above its original."""
    clean, bad = np.asarray(clean, float), np.asarray(bad, float)
    if paired:
        low_high = interval(lambda at: auroc(clean[at], bad[at]), len(clean))
    else:
        rng = np.random.default_rng(SEED)
        values = [
            auroc(clean[rng.integers(0, len(clean), len(clean))], bad[rng.integers(0, len(bad), len(bad))]) for _ in range(RESAMPLES)
        ]
        low_high = [round(float(v), 4) for v in np.percentile(values, (2.5, 97.5))]
    out = {"clean": len(clean), "bad": len(bad), "auroc": round(auroc(clean, bad), 4), "interval": low_high}
    if paired:
        higher = (bad > clean) + 0.5 * (bad == clean)
        out["above_its_original"] = round(float(higher.mean()), 4)
        out["above_its_original_interval"] = interval(lambda at: higher[at].mean(), len(clean))
    return out


def accuracy(hits):
    """Share of hits with its interval; `hits` holds 1, 0, or a half for a tie."""
    hits = np.asarray(hits, float)
    # A percentile bootstrap of a share needs only how often each value occurs.
    rng = np.random.default_rng(SEED)
    values, counts = np.unique(hits, return_counts=True)
    means = rng.multinomial(len(hits), counts / len(hits), RESAMPLES) @ values / len(hits)
    low, high = np.percentile(means, (2.5, 97.5))
    return {"pairs": len(hits), "accuracy": round(float(hits.mean()), 4), "interval": [round(float(low), 4), round(float(high), 4)]}


def mean_accuracy(groups):
    """The mean of the groups' accuracies, each weighing the same; the interval resamples pairs within groups."""
    rng = np.random.default_rng(SEED)
    total = np.zeros(RESAMPLES)
    for hits in groups:
        values, counts = np.unique(np.asarray(hits, float), return_counts=True)
        total += rng.multinomial(len(hits), counts / len(hits), RESAMPLES) @ values / len(hits)
    low, high = np.percentile(total / len(groups), (2.5, 97.5))
    mean = float(np.mean([np.mean(hits) for hits in groups]))
    return {"accuracy": round(mean, 4), "interval": [round(float(low), 4), round(float(high), 4)]}


def percentiles(values):
    return {f"p{p}": round(float(v), 3) for p, v in zip(PERCENTILES, np.percentile(values, PERCENTILES))}


def ranks(values):
    """Ranks from 0, ties sharing their mean."""
    values = np.asarray(values, float)
    order = np.sort(values)
    return (np.searchsorted(order, values, "left") + np.searchsorted(order, values, "right") - 1) / 2


def agreement(truth, other):
    """How near one score is to another: correlations, shift, and how many texts change sides of a cut at the truth's median."""
    truth, other = np.asarray(truth, float), np.asarray(other, float)
    moved = other - truth
    cut = np.median(truth)
    return {
        "texts": len(truth),
        "pearson": round(float(np.corrcoef(truth, other)[0, 1]), 4),
        "spearman": round(float(np.corrcoef(ranks(truth), ranks(other))[0, 1]), 4),
        "shift": round(float(moved.mean()), 4),
        "shift_interval": interval(lambda at: moved[at].mean(), len(moved)),
        "shift_sd": round(float(moved.std()), 4),
        "largest": round(float(np.abs(moved).max()), 4),
        "other_side_of_the_median": round(float(((truth > cut) != (other > cut)).mean()), 4),
        "other_side_of_its_own_median": round(float(((truth > cut) != (other > np.median(other))).mean()), 4),
    }


def bits_per_byte(bits, sizes):
    """Pooled bits over pooled bytes, with the interval over texts."""
    bits, sizes = np.asarray(bits, float), np.asarray(sizes, float)
    return {
        "texts": len(bits),
        "bytes": int(sizes.sum()),
        "bits_per_byte": round(float(bits.sum() / sizes.sum()), 4),
        "interval": interval(lambda at: bits[at].sum() / sizes[at].sum(), len(bits)),
        "by_text": percentiles(bits / sizes),
    }


def reliability(confidence, hit, bins=15):
    """How often the model's first choice was right, by how sure it was: equal-width bins, and the expected calibration error."""
    confidence, hit = np.asarray(confidence, float), np.asarray(hit, float)
    at = np.minimum((confidence * bins).astype(int), bins - 1)
    rows, error = [], 0.0
    for b in range(bins):
        inside = at == b
        if inside.any():
            sure, right = confidence[inside].mean(), hit[inside].mean()
            error += inside.mean() * abs(sure - right)
            rows.append({"from": round(b / bins, 4), "tokens": int(inside.sum()), "predicted": round(float(sure), 4), "hit_rate": round(float(right), 4)})
    return {"tokens": len(hit), "expected_calibration_error": round(float(error), 4), "mean_predicted": round(float(confidence.mean()), 4),
            "hit_rate": round(float(hit.mean()), 4), "bins": rows}
