"""The reader of requests: what each word of one is there for, and which decision it asks for, in five languages at once.

Character n-grams in hashed buckets (Bojanowski et al. 2017), a bidirectional LSTM over words (Graves and Schmidhuber 2005), and heads
over words and over the whole, taught together (Liu and Lane 2016). Taught by `training/reading.py` on marked requests of our own.
Knows no dictionary, no tools' arguments and nothing of the conversation but which kinds of media are in it.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

# What a word is there for: Other, the Wish itself, what shall Not be there, what shall be Spoken, a Parameter, a Reference to
# something that is there, something Taken back, an Aside.
MARKS = "OWNSPRTA"
LANGUAGES = ("en", "de", "fr", "es", "zh")
DECISIONS = (
    "generate_audio", "edit_audio", "soundtrack_video", "compare", "describe_media", "export_audio", "generate_image",
    "generate_video", "talk", "ask",
)  # fmt: skip
OWN_SOUND = ("unsaid", "keep", "drop")  # of a video
KINDS = ("variation", "style", "inpaint", "extend", "remove", "restore")  # of an edit
CONTEXT = ("image", "audio", "video", "a sound before", "sounds before", "a video before", "a comparison before", "an image before")
BUCKETS = 1 << 15
MOST = 160  # words that are read; a longer request is read up to there
_WORD = re.compile(r"[\u3400-\u9fff]|[^\W_]+(?:[-'’][^\W_]+)*|[^\w\s]|_")


def words(text: str) -> list[tuple[int, int]]:
    """Where the words, Chinese characters and signs of ``text`` begin and end.

    >>> [ "it's 5 s, 雨"[a:b] for a, b in words("it's 5 s, 雨") ]
    ["it's", '5', 's', ',', '雨']
    """
    return [m.span() for m in _WORD.finditer(text)]


def context(attached: Collection[str], before: Collection[str]) -> tuple[float, ...]:
    """CONTEXT as numbers. ``attached``: kinds of media; ``before``: as a routing row's ``history`` names them."""
    sounds = [name for name in before if name.startswith("audio")]
    told = (
        "image" in attached, "audio" in attached, "video" in attached, bool(sounds), any(name != "audio" for name in sounds),
        "video" in before, "compare" in before, "image" in before,
    )  # fmt: skip
    return tuple(float(one) for one in told)


@dataclass(frozen=True)
class Reading:
    """``marks``: one of MARKS for each of ``spans``, ``sure``: their shares. The shares of each of the others sum to 1."""

    spans: tuple[tuple[int, int], ...]
    marks: str
    sure: tuple[float, ...]
    decisions: dict[str, float]
    kinds: dict[str, float]
    own_sound: dict[str, float]

    def stretches(self, mark: str) -> list[tuple[int, int, float]]:
        """Where words of ``mark`` stand side by side: begin, end, and the least sure of them."""
        found: list[tuple[int, int, float]] = []
        last = -2
        for k, (begin, end) in enumerate(self.spans[: len(self.marks)]):
            if self.marks[k] == mark:
                if last == k - 1:
                    found[-1] = (found[-1][0], end, min(found[-1][2], self.sure[k]))
                else:
                    found.append((begin, end, self.sure[k]))
                last = k
        return found


@lru_cache(maxsize=20_000)
def grams(word: str) -> tuple[int, ...]:
    """Buckets of the word and of its stretches of two to five letters."""
    framed = f"<{word.lower()}>"
    found = [framed, *(framed[i : i + n] for n in (2, 3, 4, 5) for i in range(len(framed) - n + 1))]
    return tuple(zlib.crc32(gram.encode()) % BUCKETS for gram in dict.fromkeys(found))


def form(word: str) -> int:
    """0 a word, 1 a number, 2 a word that begins with a capital, 3 a sign."""
    return 1 if word.isdecimal() else 2 if word[0].isupper() else 0 if word[0].isalnum() else 3


class Reader(nn.Module):
    """The network. Shapes: B requests of at most T words."""

    def __init__(self, width: int = 64, inner: int = 128, dropout: float = 0.3) -> None:
        super().__init__()
        self.grams = nn.EmbeddingBag(BUCKETS, width, mode="sum")
        nn.init.normal_(self.grams.weight, 0, 0.05)
        self.form, self.language, self.context = nn.Embedding(4, 8), nn.Embedding(len(LANGUAGES), 8), nn.Linear(len(CONTEXT), 16)
        self.entry = nn.Linear(width + 32, inner)
        self.along = nn.LSTM(inner, inner, num_layers=2, bidirectional=True, batch_first=True, dropout=dropout)
        self.mark, self.weight = nn.Linear(2 * inner, len(MARKS)), nn.Linear(2 * inner, 1)
        self.whole = nn.Linear(4 * inner + 16, inner)
        self.decision, self.kind = nn.Linear(inner, len(DECISIONS)), nn.Linear(inner, len(KINDS))
        self.own_sound = nn.Linear(inner, len(OWN_SOUND))
        self.drop = nn.Dropout(dropout)

    def forward(
        self, grams: Tensor, offsets: Tensor, forms: Tensor, languages: Tensor, contexts: Tensor, lengths: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Scores of marks [B, T, 8], decisions [B, 10], kinds [B, 6] and of a video's own sound [B, 3].

        Args:
            grams: buckets of all words, one after the other; offsets [B * T]: where each word's begin.
            forms: [B, T]; languages [B]: places in LANGUAGES; contexts [B, 8]; lengths [B]: words of each request.
        """
        rows, most = forms.shape
        around = self.context(contexts)
        parts = (
            self.grams(grams, offsets).view(rows, most, -1),
            self.form(forms),
            self.language(languages)[:, None].expand(rows, most, 8),
            around[:, None].expand(rows, most, 16),
        )
        into = self.drop(torch.relu(self.entry(self.drop(torch.cat(parts, -1)))))
        packed = nn.utils.rnn.pack_padded_sequence(into, lengths, batch_first=True, enforce_sorted=False)
        along, _ = nn.utils.rnn.pad_packed_sequence(self.along(packed)[0], batch_first=True, total_length=most)
        along = self.drop(along)
        there = torch.arange(most)[None] < lengths[:, None]
        share = self.weight(along)[..., 0].masked_fill(~there, -torch.inf).softmax(-1)
        pooled = (share[..., None] * along).sum(1), along.masked_fill(~there[..., None], -torch.inf).amax(1), around
        whole = self.drop(torch.relu(self.whole(torch.cat(pooled, -1))))
        return self.mark(along), self.decision(whole), self.kind(whole), self.own_sound(whole)

    @torch.inference_mode()
    def read(self, text: str, language: str, around: Sequence[float]) -> Reading | None:
        """What ``text`` says; None where there is no word in it. ``around``: of ``context``."""
        spans = tuple(words(text)[:MOST])
        if not spans:
            return None
        said = [text[a:b] for a, b in spans]
        marks, decision, kind, own = self(*inputs([said], [language], [around]))
        shares, best = marks[0].softmax(-1).max(-1)
        return Reading(
            spans,
            "".join(MARKS[k] for k in best.tolist()),
            tuple(shares.tolist()),
            dict(zip(DECISIONS, decision[0].softmax(-1).tolist(), strict=True)),
            dict(zip(KINDS, kind[0].softmax(-1).tolist(), strict=True)),
            dict(zip(OWN_SOUND, own[0].softmax(-1).tolist(), strict=True)),
        )


def inputs(
    requests: Sequence[Sequence[str]], languages: Sequence[str], contexts: Sequence[Sequence[float]], dropped: float = 0.0
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """What the network reads of requests in words. ``dropped``: share of n-grams that are left out, by chance, for teaching."""
    most = max(map(len, requests))
    buckets: list[int] = []
    offsets: list[int] = []
    forms = torch.zeros(len(requests), most, dtype=torch.long)
    for row, said in enumerate(requests):
        for place in range(most):
            offsets.append(len(buckets))
            if place < len(said):
                buckets += grams(said[place])
                forms[row, place] = form(said[place])
    kept = torch.rand(len(buckets)) >= dropped if dropped else torch.ones(len(buckets), dtype=torch.bool)  # reading draws nothing
    return (
        torch.tensor(buckets)[kept],
        F.pad(kept.cumsum(0), (1, 0))[torch.tensor(offsets)],
        forms,
        torch.tensor([LANGUAGES.index(language) if language in LANGUAGES else 0 for language in languages]),
        torch.tensor([list(one) for one in contexts], dtype=torch.float32),
        torch.tensor([len(said) for said in requests]),
    )


def load(path: Path) -> Reader:
    """The network with the weights of ``path``."""
    reader = Reader()
    reader.load_state_dict({name: weight.float() for name, weight in load_file(path).items()})
    return reader.eval()
