"""What the reader of requests (encoders/reader.py) saw in one, put to use: asides left out, words to be spoken, wishes not lost.

Pure functions over a text and its ``Reading``. The rules stay exact where they are: a reading only takes away what is no wish, and
gives what the rules left empty.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from orchestrator.corrections import LENGTH
from orchestrator.languages import detect, gloss
from orchestrator.parsing import QUOTES
from orchestrator.wishes import content

if TYPE_CHECKING:
    from encoders.reader import Reading

# Least shares, measured on requests that taught nothing.
SHORT = 7  # words and signs: below, the rules alone read what is wished
SURE_ASIDE, SURE_SPOKEN, SURE_WISH, SURE_KIND, SURE_OWN_SOUND = 0.85, 0.7, 0.5, 0.85, 0.7


def without_asides(text: str, reading: Reading) -> str:
    """``text`` without what was taken back and what is beside the wish; as it is where no wish would be left, or it is quoted."""
    if not reading.stretches("W") or any(quote in text for quote in QUOTES):
        return text
    gone = [(begin, end) for begin, end, sure in reading.stretches("T") if sure >= SURE_ASIDE and _numberless(text[begin:end])]
    gone += [(begin, end) for begin, end, sure in reading.stretches("A") if sure >= SURE_ASIDE and _apart(text, begin, end)]
    gone = gone if len(reading.spans) >= SHORT else []
    kept = text
    for begin, end in sorted(gone, reverse=True):
        kept = f"{kept[:begin].rstrip()} {kept[end:].lstrip(' ,;:!?.，。！？；：')}"
    kept = kept.strip(" ,;:，；：")
    return kept if any(sign.isalnum() for sign in kept) else text


def _numberless(taken_back: str) -> bool:
    """Numbers are put right by rules (corrections.py), which know that "ten seconds, no, twelve" are seconds."""
    return not LENGTH.search(taken_back) and not any(sign.isdigit() for sign in taken_back)


def _apart(text: str, begin: int, end: int) -> bool:
    """Whether signs or the text's own ends stand on both sides: an aside in the midst of a clause is not trusted."""
    before, after = text[:begin].rstrip(), text[end:].lstrip()
    left = not before or not before[-1].isalnum() or text[begin : begin + 1] in "(-–—"
    right = not after or not after[0].isalnum() or not text[end - 1].isalnum()
    return left and right


def wish(text: str, reading: Reading) -> str:
    """What shall be heard or done, as English; "" where nothing is."""
    return _english("W", SURE_WISH, text, reading)


def _english(mark: str, sure: float, text: str, reading: Reading) -> str:
    language = detect(text)
    parts = [text[begin:end] for begin, end, least in reading.stretches(mark) if least >= sure]
    english = [part if language == "en" else gloss(part, language) for part in parts]
    return ", ".join(part.strip(" ,.;:!?") for part in english if content(part))


def spoken(text: str, reading: Reading) -> str:
    """The words that shall be spoken: what is quoted alone, else what stands together and is told apart surely; or ""."""
    found = reading.stretches("S")
    if not found:
        return ""
    quoted = _QUOTED.findall(text)
    if len(quoted) == 1:
        return str(quoted[0]).strip()
    begin, end = found[0][0], found[-1][1]
    inside = [k for k, (a, b) in enumerate(reading.spans[: len(reading.marks)]) if a >= begin and b <= end]
    sure = sum(reading.sure[k] for k in inside) / len(inside)
    whole = all(reading.marks[k] == "S" or not text[slice(*reading.spans[k])].isalnum() for k in inside)
    return text[begin:end].strip(f" ,:;{QUOTES}") if whole and sure >= SURE_SPOKEN and len(inside) > 1 else ""


_QUOTED = re.compile(rf"[{QUOTES}]\s*([^{QUOTES}]+?)\s*[{QUOTES}]")


def completed(arguments: dict[str, Any], tool: str, text: str, reading: Reading) -> dict[str, Any]:
    """``arguments`` with what the rules left empty: a prompt, what goes, what comes of a video's own sound.

    A prompt of which the reader saw hardly a word as a wish is replaced by the wish.
    """
    given = dict(arguments)
    if tool == "soundtrack_video" and given.get("original") is None:
        best = max(reading.own_sound, key=lambda name: reading.own_sound[name])
        given |= {"original": best} if best != "unsaid" and reading.own_sound[best] >= SURE_OWN_SOUND else {}
    if tool == "edit_audio":
        if given.get("kind") == "remove" and not given.get("negative_prompt"):
            given |= {"negative_prompt": gone} if (gone := _english("N", SURE_WISH, text, reading)) else {}
        if given.get("kind") not in ("style", "inpaint") or content(str(given.get("prompt", ""))):
            return given
    if tool in ("describe_media", "export_audio") or given.get("transcript") or not content(wished := wish(text, reading)):
        return given
    prompt, words = str(given.get("prompt", "")).lower(), content(wished)
    there = sum(word.removesuffix("s")[:6] in f"{prompt} {given.get('negative_prompt', '')}".lower() for word in words)
    kept = 3 * there >= len(words) or (content(prompt) and (len(reading.spans) < SHORT or len(words) < 2))
    return given if kept else given | {"prompt": wished}
