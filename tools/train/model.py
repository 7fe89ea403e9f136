"""The network: owns the architecture, its initialisation and the masking rule.

A BERT encoder (post-layer-norm, exact GELU, learned positions, decoder tied to the
word embeddings) with a masked-LM head. Runs on CPU and GPU alike.
"""
import math
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F

PAD, CLS, SEP, MASK, UNK = range(5)
FIRST_ORDINARY_ID = 5
LAYER_NORM_EPS = 1e-12
INIT_STD = 0.03


@dataclass(frozen=True)
class Shape:
    vocab: int = 8192
    hidden: int = 256
    layers: int = 4
    heads: int = 4
    feed_forward: int = 1024
    positions: int = 512
    dropout: float = 0.0  # in training alone: 0.1 where the corpus is read more than five times


# By name: what trains on two CPU cores within two hours, the most that 16 MB of fp16 hold, for a GPU, and one to try the scripts with.
SHAPES = {
    "small": Shape(),
    "better": Shape(layers=7, dropout=0.1),
    "tiny": Shape(hidden=64, layers=2, heads=2, feed_forward=128, dropout=0.1),
}


class Layer(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.heads, self.dropout = shape.heads, shape.dropout
        self.qkv = nn.Linear(shape.hidden, 3 * shape.hidden)  # rows: all queries, all keys, all values
        self.attention_out = nn.Linear(shape.hidden, shape.hidden)
        self.attention_norm = nn.LayerNorm(shape.hidden, eps=LAYER_NORM_EPS)
        self.feed_in = nn.Linear(shape.hidden, shape.feed_forward)
        self.feed_out = nn.Linear(shape.feed_forward, shape.hidden)
        self.feed_norm = nn.LayerNorm(shape.hidden, eps=LAYER_NORM_EPS)

    def forward(self, x, bias):
        batch, length, hidden = x.shape
        qkv = self.qkv(x).view(batch, length, 3, self.heads, hidden // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=dropout)
        x = self.attention_norm(x + F.dropout(self.attention_out(attended.transpose(1, 2).reshape(x.shape)), dropout))
        return self.feed_norm(x + F.dropout(self.feed_out(F.gelu(self.feed_in(x))), dropout))


class MaskedLM(nn.Module):
    def __init__(self, shape=Shape()):
        super().__init__()
        self.shape = shape
        self.words = nn.Embedding(shape.vocab, shape.hidden)
        self.positions = nn.Embedding(shape.positions, shape.hidden)
        self.embedding_norm = nn.LayerNorm(shape.hidden, eps=LAYER_NORM_EPS)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.transform = nn.Linear(shape.hidden, shape.hidden)
        self.transform_norm = nn.LayerNorm(shape.hidden, eps=LAYER_NORM_EPS)
        self.decoder_bias = nn.Parameter(torch.zeros(shape.vocab))
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=INIT_STD)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        positional_start(self)

    def encode(self, input_ids, attention_mask=None):
        """Hidden states [B, T, H]. Without a mask every position is real (training never pads)."""
        x = self.embedding_norm(self.words(input_ids) + self.positions.weight[: input_ids.shape[1]])
        if self.training and self.shape.dropout:
            x = F.dropout(x, self.shape.dropout)
        bias = None
        if attention_mask is not None:
            bias = (1.0 - attention_mask[:, None, None, :].to(x.dtype)) * -1e4
        for layer in self.layers:
            x = layer(x, bias)
        return x

    def head(self, hidden):
        """Logits over the vocabulary for any set of hidden states."""
        return F.linear(self.transform_norm(F.gelu(self.transform(hidden))), self.words.weight, self.decoder_bias)

    def forward(self, input_ids, attention_mask):
        return self.head(self.encode(input_ids, attention_mask))


def positional_start(model):
    """Starts layer 0 with heads that look at the neighbouring tokens (-1, +1, -2, +2).

    A small post-LN model given random positions stays on the unigram plateau for
    thousands of steps before it discovers order. Here positions begin as sinusoids
    (still learned afterwards); for a sinusoid a shift by `offset` is a rotation, so
    queries initialised to the rotated key select the neighbour at that offset. The
    random initialisation stays underneath at 0.3 strength.
    """
    generator = torch.Generator().manual_seed(5)
    hidden, heads = model.shape.hidden, model.shape.heads
    head_size = hidden // heads
    fast = 32  # frequencies spread over (0, pi): they tell neighbours apart
    slow = hidden // 2 - fast
    frequencies = torch.cat([
        math.pi * (torch.arange(fast) + torch.rand(fast, generator=generator)) / fast,
        10000 ** (-torch.arange(slow).float() / slow),
    ])
    phase = torch.arange(model.shape.positions).float()[:, None] * frequencies
    amplitude = INIT_STD * math.sqrt(2)
    model.positions.weight.data[:, 0::2] = amplitude * torch.sin(phase)
    model.positions.weight.data[:, 1::2] = amplitude * torch.cos(phase)

    gain = 1.2
    weight = model.layers[0].qkv.weight.data
    for head, offset in enumerate([-1, 1, -2, 2][:heads]):
        query, key = torch.zeros(head_size, hidden), torch.zeros(head_size, hidden)
        for i in range(min(fast, head_size // 2)):
            s, c = 2 * i, 2 * i + 1  # the sine and cosine rows of frequency i
            cos, sin = math.cos(frequencies[i] * offset), math.sin(frequencies[i] * offset)
            key[s, s] = key[c, c] = gain
            query[s, s], query[s, c] = gain * cos, gain * sin
            query[c, c], query[c, s] = gain * cos, -gain * sin
        rows = slice(head * head_size, (head + 1) * head_size)
        key_rows = slice(hidden + head * head_size, hidden + (head + 1) * head_size)
        weight[rows] = query + 0.3 * weight[rows]
        weight[key_rows] = key + 0.3 * weight[key_rows]


def mask_tokens(ids, vocab, generator=None, rate=0.15, begins_word=None):
    """BERT masking: a share `rate` of the ordinary tokens are targets; 80% of them [MASK], 10% random, 10% kept.

    With `begins_word` (a boolean for each id of the vocabulary) whole words are targets together, as many tokens on average.
    Kept and random targets in equal shares are what AUL-B rests on (docs/scores.md). Works on any device.
    Returns the corrupted ids and the boolean target map.
    """
    draw = torch.rand(ids.shape, generator=generator, device=ids.device)
    if begins_word is not None:
        # Every piece takes the draw of the place where its word begins. [CLS] and [SEP] begin words of their own.
        places = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        first = torch.where(begins_word[ids], places, 0).cummax(dim=1).values
        draw = draw.gather(1, first)
    target = (draw < rate) & (ids >= FIRST_ORDINARY_ID)
    fate = torch.rand(ids.shape, generator=generator, device=ids.device)
    random_ids = torch.randint(FIRST_ORDINARY_ID, vocab, ids.shape, generator=generator, device=ids.device)
    corrupted = torch.where(target & (fate < 0.8), MASK, ids)
    return torch.where(target & (fate >= 0.9), random_ids, corrupted), target
