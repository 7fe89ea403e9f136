"""What people write who score by masking: PyTorch, the whole logits of every row, batches as large as pay. And how fast a matrix product is."""

import time

import numpy as np
import torch
import torch.nn.functional as F


class Naive:
    """A BERT with the weights of one of our model.onnx, by hand, since the machine may have no transformers."""

    def __init__(self, arrays, heads, eps, device, dtype):
        self.device, self.heads, self.eps, self.dtype = device, heads, eps, dtype
        taken = iter([torch.from_numpy(array).to(device, dtype) for array in arrays])
        pair = lambda: (next(taken), next(taken))
        # Matrices are stored [in, out].
        linear = lambda: (lambda weight, bias: (weight.T.contiguous(), bias))(*pair())
        self.words, self.places = pair()
        self.first = pair()
        rest = list(taken)
        layers = (len(rest) - 5) // 16
        taken = iter(rest)
        self.layers = []
        for _ in range(layers):
            attention = [linear() for _ in range(4)]
            self.layers.append((attention, pair(), linear(), linear(), pair()))
        self.transform, self.last, self.bias = linear(), pair(), next(taken)

    def norm(self, x, pair):
        return F.layer_norm(x, x.shape[-1:], *pair, self.eps)

    def logits(self, ids):
        x = self.norm(self.words[ids] + self.places[: ids.shape[1]], self.first)
        for (query, key, value, out), norm, wide, narrow, last in self.layers:
            split = lambda part: F.linear(x, *part).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            seen = F.scaled_dot_product_attention(split(query), split(key), split(value)).transpose(1, 2).flatten(2)
            x = self.norm(x + F.linear(seen, *out), norm)
            x = self.norm(x + F.linear(F.gelu(F.linear(x, *wide)), *narrow), last)
        return F.linear(self.norm(F.gelu(F.linear(x, *self.transform)), self.last), self.words, self.bias)

    @torch.inference_mode()
    def nats(self, ids, rows, mask_id):
        """Log-probabilities of the masked positions of some rows, each (a document's place, positions), all of one length."""
        batch = np.stack([ids[place] for place, _ in rows])
        at = [(row, position) for row, (_, positions) in enumerate(rows) for position in positions]
        row, position = (torch.tensor(axis, device=self.device) for axis in zip(*at))
        batch = torch.from_numpy(batch).to(self.device)
        targets = batch[row, position].clone()
        batch[row, position] = mask_id
        picked = self.logits(batch)[row, position].float()
        return (picked.gather(1, targets[:, None])[:, 0] - picked.logsumexp(1)).cpu()


def sync(device):
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def passes(length, stride):
    """The positions of each pass over a row: one at a time, or one in `stride`."""
    content = range(1, length - 1)
    return [[position] for position in content] if stride is None else [list(content[first::stride]) for first in range(stride)]


def scores(model, ids, stride, mask_id, budget):
    """Nats a token of each document."""
    groups = passes(ids.shape[1], stride)
    found = []
    for place in range(len(ids)):
        rows, total, step = [(place, group) for group in groups], 0.0, max(1, budget // ids.shape[1])
        for start in range(0, len(rows), step):
            total -= float(model.nats(ids, rows[start:start + step], mask_id).double().sum())
        found.append(total / (ids.shape[1] - 2))
    return found


def pace(model, ids, stride, mask_id, budgets, seconds, device):
    """(row tokens a second, targets a second, tokens of a batch) with the batch size that pays best."""
    length, best = ids.shape[1], None
    rows = [(place, group) for place in range(len(ids)) for group in passes(length, stride)]
    for budget in budgets:
        step = max(1, budget // length)
        try:
            model.nats(ids, rows[:step], mask_id)
            sync(device)
            start, done, targets, at = time.monotonic(), 0, 0, 0
            while time.monotonic() - start < seconds:
                some = [rows[(at + n) % len(rows)] for n in range(step)]
                targets += len(model.nats(ids, some, mask_id))
                done, at = done + step, at + step
            sync(device)
        except getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError):
            torch.cuda.empty_cache()
            break
        spent = time.monotonic() - start
        best = max(best or (0, 0, 0), (done * length / spent, targets / spent, budget))
    if best is None:
        raise RuntimeError("PyTorch has not the memory for one batch of any size")
    return best


@torch.inference_mode()
def ceiling(device, dtype, small):
    """FLOP/s of the fastest of some matrix products, shapes of a transformer's among them."""
    sizes = [(512, 512, 512), (1024, 1024, 1024)] if small else [(8192, 8192, 8192), (16384, 768, 3072), (16384, 4096, 4096)]
    best = 0.0
    for m, k, n in sizes:
        a, b = torch.randn(m, k, device=device, dtype=dtype), torch.randn(k, n, device=device, dtype=dtype)
        for _ in range(3):
            a @ b
        sync(device)
        start, runs = time.monotonic(), 0
        while time.monotonic() - start < 1.0:
            for _ in range(10):
                a @ b
            sync(device)
            runs += 10
        best = max(best, runs * 2.0 * m * k * n / (time.monotonic() - start))
    return best
