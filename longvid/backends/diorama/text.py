"""diorama's text encoder: a prompt becomes eight tokens, one an attribute, each its values' probabilities.

It is trained alone to name what a caption says, then frozen, so that the denoiser meets a text space that is
linear in what matters, as large models get theirs from a pretrained language model.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from longvid.backends.diorama.captions import VALUES, WORD_IDS, words

SIZES = tuple(len(values) + 1 for values in VALUES.values())
"""Values of each attribute and one for "not said"."""
TOKENS, WIDTH = len(SIZES), sum(SIZES)
MAX_WORDS = 64


def tokenize(prompts: Sequence[str]) -> Tensor:
    """Word ids [p n], 0 for padding; words that are not known are left out, and what is past 64 words."""
    rows = [[WORD_IDS[w] for w in words(prompt) if w in WORD_IDS][:MAX_WORDS] for prompt in prompts]
    ids = torch.zeros(len(rows), max(1, *map(len, rows)) if rows else 1, dtype=torch.long)
    for row, known in zip(ids, rows, strict=True):
        row[: len(known)] = torch.tensor(known, dtype=torch.long)
    return ids


class AttributeEncoder(nn.Module):
    """Words with their neighbours, four convolutions deep; then each attribute attends to the words that
    speak of it. A word sees four to each side: "left" is the camera's in "camera pans to the left"."""

    def __init__(self, width: int = 64, depth: int = 4) -> None:
        super().__init__()
        self.word = nn.Embedding(len(WORD_IDS) + 1, width, padding_idx=0)
        self.dropout = nn.Dropout(0.2)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth))
        self.neighbours = nn.ModuleList(nn.Conv1d(width, width, 3, padding=1) for _ in range(depth))
        self.query = nn.Parameter(torch.randn(TOKENS, width) / width**0.5)
        self.silence = nn.Parameter(torch.zeros(width))
        self.heads = nn.ModuleList(nn.Linear(width, size) for size in SIZES)

    def logits(self, ids: Tensor) -> list[Tensor]:
        """For each attribute, [p values + 1] from word ids [p n]; the last value is "not said". Where an id
        is 0 nothing is heard, at the end or between words, so a prompt is read alike in any batch."""
        heard = ids != 0
        x = self.dropout(self.word(ids))
        for norm, neighbours in zip(self.norms, self.neighbours, strict=True):
            x = x + torch.relu(neighbours((norm(x) * heard[..., None]).mT).mT)
        x = torch.cat([self.silence.expand(len(x), 1, -1), x], 1)
        heard = torch.cat([torch.ones_like(heard[:, :1]), heard], 1)
        scores = torch.einsum("ad,pnd->pan", self.query, x).masked_fill(~heard[:, None], -torch.inf)
        pooled = scores.softmax(-1) @ x
        return [head(pooled[:, a]) for a, head in enumerate(self.heads)]

    def forward(self, ids: Tensor) -> Tensor:
        """Tokens [p 8 44]: token a holds attribute a's probabilities in that attribute's own columns."""
        blocks = []
        for a, logits in enumerate(self.logits(ids)):
            before, after = sum(SIZES[:a]), sum(SIZES[a + 1 :])
            blocks.append(nn.functional.pad(logits.softmax(-1), (before, after)))
        return torch.stack(blocks, 1)
