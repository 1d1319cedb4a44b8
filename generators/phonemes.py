"""English words to the phoneme numbers that AudioLDM 2's speech checkpoints read (those of VITS, Kim et al. 2021).

Knows letters, symbols and espeak-ng. Does not know networks. espeak-ng is a program and not a Python package, so it is looked for,
never installed.
"""

from __future__ import annotations

import os
import re
import shutil
import unicodedata
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

LENGTH = 310  # phonemes; shorter ones are padded, longer ones cut
PAD, END = "_", "⚠"
SYMBOLS = (
    PAD
    + ';:,.!?¡¿—…"«»“” '
    + "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    + "ɑɐɒæɓʙβɔɕçɗɖðʤəɘɚɛɜɝɞɟʄɡɠɢʛɦɧħɥʜɨɪʝɭɬɫɮʟɱɯɰŋɳɲɴøɵɸθœɶʘɹɺɾɻʀʁɽʂʃʈʧʉʊʋⱱʌɣɤʍχʎʏʑʐʒʔʡʕʢǀǁǂǃˈˌːˑʼʴʰʱʲʷˠˤ˞↓↑→↗↘'̩'ᵻ"
    + "♪☎☒☝"
    + END
)
END_ID = SYMBOLS.index(END)  # 182
_NUMBERS = {symbol: number for number, symbol in enumerate(SYMBOLS)}  # the apostrophe stands twice: the later one counts
_SPOKEN = {
    "mrs": "misess",
    "mr": "mister",
    "dr": "doctor",
    "st": "saint",
    "co": "company",
    "jr": "junior",
    "maj": "major",
    "gen": "general",
    "drs": "doctors",
    "rev": "reverend",
    "lt": "lieutenant",
    "hon": "honorable",
    "sgt": "sergeant",
    "capt": "captain",
    "esq": "esquire",
    "ltd": "limited",
    "col": "colonel",
    "ft": "fort",
}


def lacking() -> str:
    """What this machine lacks for speaking words, and how to get it; "" where nothing does."""
    program = shutil.which("espeak-ng") or shutil.which("espeak") or os.environ.get("PHONEMIZER_ESPEAK_LIBRARY")
    wanted = [] if program else ["espeak-ng (apt-get install espeak-ng)"]
    wanted += [] if find_spec("phonemizer") else ["the Python package phonemizer (pip install phonemizer)"]
    return f"words become phonemes through {' and '.join(wanted)}: install {'it' if len(wanted) == 1 else 'them'}" if wanted else ""


def phonemes(words: str) -> str:
    """IPA with stress and punctuation of English words, by espeak-ng; abbreviations are spelt out first."""
    plain = unicodedata.normalize("NFKD", words).encode("ascii", "ignore").decode().lower()
    plain = re.sub(rf"\b({'|'.join(_SPOKEN)})\.", lambda found: _SPOKEN[found[1]], plain)
    phonemize = import_module("phonemizer").phonemize
    said: str = phonemize(plain, language="en-us", backend="espeak", strip=True, preserve_punctuation=True, with_stress=True)
    return re.sub(r"\s+", " ", said)


def numbers(said: str) -> list[int]:
    """Phonemes to ``LENGTH`` numbers: the end symbol behind them, then padding (0); a symbol that is not known counts as padding.

    >>> numbers("hi")[:4], len(numbers("hi"))
    ([50, 51, 182, 0], 310)
    """
    known = [_NUMBERS.get(symbol, 0) for symbol in said + END][:LENGTH]
    return known + [0] * (LENGTH - len(known))


def phoneme_ids(words: str) -> tuple[Tensor, Tensor]:
    """Phoneme numbers [1, LENGTH] of a transcript, and the mask of those that are not padding."""
    import torch

    ids = torch.tensor([numbers(phonemes(words) if words else "")])
    return ids, (torch.arange(LENGTH)[None] < (ids != 0).sum()).long()
