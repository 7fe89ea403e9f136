"""The exact score token by token, by ONNX Runtime alone: owns what `tamis score` does not print, and a check of it.

`score` pools a document's tokens, and the card needs some figures of single ones: how sure the model's first choice is and how often it is right
(calibration), and sums over chosen tokens (CrowS-Pairs). They come from the same model file and tokenizer, one masked token a
row, and the card compares this module's means with tamis's: they must agree to 0.0001 nats a token.
"""
import numpy as np
import onnxruntime
import tokenizers

POSITIONS = 4096  # of one batch, about: logits of all of them are in memory at once, 8,192 numbers each


class Reference:
    def __init__(self, model, threads):
        self.tokenizer = tokenizers.Tokenizer.from_file(str(model / "tokenizer.json"))
        self.cls, self.sep, self.mask = (self.tokenizer.token_to_id(t) for t in ("[CLS]", "[SEP]", "[MASK]"))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(str(model / "model.onnx"), options, providers=["CPUExecutionProvider"])

    def ids(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def masked(self, ids, positions=None):
        """For each position (all unless given), masked alone: surprisal in nats, the first choice's probability, whether it was right."""
        window = np.array([self.cls, *ids, self.sep], np.int64)
        at = np.arange(len(ids)) if positions is None else np.asarray(positions, int)
        parts = []
        step = max(1, POSITIONS // len(window))
        for start in range(0, len(at), step):
            columns = at[start : start + step] + 1
            rows = np.repeat(window[None], len(columns), axis=0)
            picked = np.arange(len(columns))
            rows[picked, columns] = self.mask
            logits = self.session.run(["logits"], {"input_ids": rows, "attention_mask": np.ones_like(rows)})[0][picked, columns].astype(np.float64)
            top = logits.max(axis=1)
            log_sum = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
            target = window[columns]
            parts.append(np.stack([log_sum - logits[picked, target], np.exp(top - log_sum), logits.argmax(axis=1) == target]))
        return np.concatenate(parts, axis=1) if parts else np.zeros((3, 0))


def shared_positions(one, other):
    """Positions of the tokens that two sequences share, in each, by difflib's matching blocks: the pair's unmodified tokens (Nangia et al. 2020)."""
    import difflib

    first, second = [], []
    for block in difflib.SequenceMatcher(None, one, other, autojunk=False).get_matching_blocks():
        first += range(block.a, block.a + block.size)
        second += range(block.b, block.b + block.size)
    return first, second
