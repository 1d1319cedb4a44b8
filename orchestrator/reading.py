"""What the reader of requests (encoders/reader.py) saw in one, put to use: asides left out, words to be spoken, wishes not lost.

Pure functions over a text and its ``Reading``. The rules stay exact where they are: a reading only takes away what is no wish, and
gives what the rules left empty.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from orchestrator.actions import layers_without
from orchestrator.corrections import LENGTH
from orchestrator.languages import detect, gloss
from orchestrator.parsing import QUOTES
from orchestrator.settings import bare, plain_settings, written_out
from orchestrator.tools import without_words
from orchestrator.wishes import content

if TYPE_CHECKING:
    from encoders.reader import Reading

# Least shares, measured on requests that taught nothing.
SHORT = 7  # words and signs: below, the rules alone read what is wished
SURE_ASIDE, SURE_SPOKEN, SURE_WISH, SURE_KIND, SURE_OWN_SOUND, SURE_SETTING, SURE_UNWANTED = 0.85, 0.7, 0.5, 0.85, 0.7, 0.5, 0.8
SURE_ADDED = 0.75  # what another take of a sound shall have more
SURE_SHORT = 0.85  # words to be spoken, three at most


def made_plain(text: str, reading: Reading) -> str:
    """``text`` without what was taken back and what is beside the wish, and with its settings written out."""
    changes = [(begin, end, "") for begin, end in _beside(text, reading)] + _settings(text, reading)
    kept = text
    for begin, end, said in sorted(changes, reverse=True):
        if said:
            kept = f"{kept[:begin]}{said}{kept[end:]}"
        else:
            kept = f"{kept[:begin].rstrip()} {kept[end:].lstrip(' ,;:!?.，。！？；：')}"
    kept = kept.strip(" ,;:，；：") if changes else kept
    return kept if any(sign.isalnum() for sign in kept) else text


def _beside(text: str, reading: Reading) -> list[tuple[int, int]]:
    """What goes; nothing where no wish would be left, in a short request, or where something is quoted."""
    if not reading.stretches("W") or any(quote in text for quote in QUOTES) or len(reading.spans) < SHORT:
        return []
    instead = {begin for begin, _, _ in _other_lengths(text, reading)}
    gone = [
        (begin, end)
        for begin, end, sure in reading.stretches("T")
        if sure >= SURE_ASIDE and (_numberless(text[begin:end]) or begin in instead)
    ]
    return gone + [(begin, end) for begin, end, sure in reading.stretches("A") if sure >= SURE_ASIDE and _apart(text, begin, end)]


def _numbers_whole(text: str, places: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The places, joined where a sign within a number lay between them: "8" and "5 s" of "8,5 s"."""
    joined: list[tuple[int, int]] = []
    for begin, end in places:
        if joined and re.fullmatch(r"\d[.,:'’]\d", text[joined[-1][1] - 1 : begin + 1]):
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((begin, end))
    return [
        (begin, end) for begin, end in joined if not re.match(r"[.,:'’]\d", text[end:]) and not re.search(r"\d[.,:'’]$", text[:begin])
    ]


def _other_lengths(text: str, reading: Reading) -> list[tuple[int, tuple[int, int], str]]:
    """Where a length is taken back that the very next setting says anew: where, the setting's place, and it with its unit."""
    found = []
    for begin, end, _ in reading.stretches("T"):
        old = list(LENGTH.finditer(text, begin, end))
        new = next(((a, b) for a, b, sure in reading.stretches("P") if end <= a <= end + 3 and sure >= SURE_ASIDE), None)
        if len(old) == 1 and new:
            said, unit = text[slice(*new)].strip(" .,!"), re.search(r"(?:秒钟?|分钟|[a-zäöüßéí]+)\W*$", old[0][0], re.I)
            if LENGTH.fullmatch(said):
                found.append((begin, new, text[slice(*new)]))
            elif unit and re.fullmatch(r"\d+(?:[.,]\d+)?", said):
                found.append((begin, new, f"{said} {unit[0].strip()}"))
    return found


def _settings(text: str, reading: Reading) -> list[tuple[int, int, str]]:
    """Settings that the rules would read otherwise or not at all, written out."""
    anew = {place: said for _, place, said in _other_lengths(text, reading)} if _beside(text, reading) else {}
    language, corrected = detect(text), bool(reading.stretches("T"))
    found = _numbers_whole(text, [(begin, end) for begin, end, sure in reading.stretches("P") if sure >= SURE_SETTING])
    found += [span for span in plain_settings(text) if all(span[1] <= begin or span[0] >= end for begin, end in found)]
    told = [(begin, end, text[begin:end]) for begin, end in found if (begin, end) not in anew]
    written = [(begin, end, said, written_out(said, language)) for begin, end, said in told if not (corrected and bare(said))]
    return [(*place, said) for place, said in anew.items()] + [(begin, end, out) for begin, end, said, out in written if out != said]


def _numberless(taken_back: str) -> bool:
    """Numbers are put right by rules (corrections.py), which know that "ten seconds, no, twelve" are seconds."""
    return not LENGTH.search(taken_back) and not any(sign.isdigit() for sign in taken_back)


def _apart(text: str, begin: int, end: int) -> bool:
    """Whether signs or the text's own ends stand on both sides: an aside in the midst of a clause is not trusted."""
    before, after = text[:begin].rstrip(), text[end:].lstrip()
    left = not before or not before[-1].isalnum() or text[begin : begin + 1] in "(-–—"
    right = not after or not after[0].isalnum() or not text[end - 1].isalnum()
    return left and right


def wish(text: str, reading: Reading, beside: str = "") -> str:
    """What shall be heard or done, as English; "" where nothing is. ``beside``: of a speech, the words that are spoken."""
    return _english("W", SURE_WISH, text, reading, beside)


def _english(mark: str, sure: float, text: str, reading: Reading, beside: str = "") -> str:
    language, spoken_at = detect(text), text.find(beside) if beside else -1
    spoken_end = spoken_at + len(beside)
    found = [(begin, end) for begin, end, least in reading.stretches(mark) if least >= sure]
    parts = [text[begin:end] for begin, end in found if spoken_at < 0 or end <= spoken_at or begin >= spoken_end]
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
    least = SURE_SPOKEN if len(inside) > 3 else SURE_SHORT
    return text[begin:end].strip(f" ,:;{QUOTES}") if whole and sure >= least and len(inside) > 1 else ""


def _system(text: str, reading: Reading, backends: Collection[str]) -> str:
    """The one system that a setting names, or ""."""
    said = [text[begin:end].lower() for begin, end, sure in reading.stretches("P") if sure >= SURE_SETTING]
    named = {name for name in backends for stretch in said if re.search(rf"(?<![a-z\d-]){re.escape(name)}(?![a-z\d-])", stretch)}
    return named.pop() if len(named) == 1 else ""


_QUOTED = re.compile(rf"[{QUOTES}]\s*([^{QUOTES}]+?)\s*[{QUOTES}]")


def edited(arguments: dict[str, Any], text: str, reading: Reading) -> dict[str, Any]:
    """An edit that the reader asked for, with its own words: what goes, or how the sound shall be."""
    kind = arguments.get("kind")
    if kind == "remove" and (gone := _english("N", SURE_WISH, text, reading)):
        return {name: value for name, value in arguments.items() if name != "prompt"} | {"negative_prompt": gone}
    if kind == "style" and content(manner := wish(text, reading)):
        return arguments | {"prompt": manner}
    return arguments


def completed(arguments: dict[str, Any], tool: str, text: str, reading: Reading, backends: Collection[str] = ()) -> dict[str, Any]:
    """``arguments`` with what the rules left empty: a prompt, a speaker's voice, what goes, what comes of a video's own sound.

    A prompt of which the reader saw hardly a word as a wish is replaced by the wish.
    """
    given = dict(arguments)
    if (
        "backend" not in given
        and tool in ("generate_audio", "edit_audio", "soundtrack_video")
        and (name := _system(text, reading, backends))
    ):
        given["backend"] = name
    unwanted = _english("N", SURE_UNWANTED, text, reading)
    perhaps = _english("N", 0.0, text, reading)  # a layer's name among it leaves no doubt
    if tool == "soundtrack_video":
        best = max(reading.own_sound, key=lambda name: reading.own_sound[name])
        if given.get("original") is None and best != "unsaid" and reading.own_sound[best] >= SURE_OWN_SOUND:
            given["original"] = best
        if not given.get("layers") and (left := layers_without(perhaps)):
            given["layers"] = list(left)
    if tool == "generate_audio" and unwanted and not given.get("negative_prompt") and not given.get("transcript"):
        given |= {"negative_prompt": unwanted, "prompt": without_words(str(given.get("prompt", "")), unwanted)}
    if tool == "edit_audio":
        if given.get("kind") == "remove" and not given.get("negative_prompt"):
            given |= {"negative_prompt": gone} if (gone := _english("N", SURE_WISH, text, reading)) else {}
        if given.get("kind") not in ("style", "inpaint") or content(str(given.get("prompt", ""))):
            return given
    if given.get("transcript"):
        voice = wish(text, reading, str(given["transcript"])) if tool == "generate_audio" and not given.get("media") else ""
        return given | {"prompt": voice} if content(voice) and given["transcript"] in text else given
    if tool in ("describe_media", "export_audio") or not content(wished := wish(text, reading)):
        return given
    prompt, words = str(given.get("prompt", "")).lower(), content(wished)
    there = sum(word.removesuffix("s")[:6] in f"{prompt} {given.get('negative_prompt', '')}".lower() for word in words)
    kept = 3 * there >= len(words) or (content(prompt) and (len(reading.spans) < SHORT or len(words) < 2))
    return given if kept else given | {"prompt": wished}
