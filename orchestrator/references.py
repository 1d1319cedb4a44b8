"""Which sound of a conversation a text speaks of: "the second one", "undo", "A/B", "the middle one", "the one with the dog".

Pure: a text and the versions so far give the versions that are meant. Knows words, in five languages; knows no model and no tool.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from orchestrator.conversation import Version, Versions

Asked = Literal["", "undo", "restore", "compare"]


@dataclass(frozen=True)
class Meant:
    """``versions``: what is meant; the current one where the text names none, nothing where it names one that is not there.

    ``asked`` is what the words want besides naming ("undo", "back to …", "A/B"), ``named`` whether they name a sound at all, and
    ``rest`` the text without the words that name it: what is left is the change.
    """

    versions: tuple[Version, ...]
    asked: Asked = ""
    named: bool = False
    rest: str = ""


def meant(text: str, versions: Versions) -> Meant:
    """The versions that ``text`` speaks of.

    Numbers count within the sounds of the last turn where it made several ("three takes": "the second one" is the second take), else
    from the first sound of the thread; "version 2" and "#2" always count from the first, as ``/versions`` lists them.
    """
    for pattern, asked, find in _RULES:
        match = pattern.search(text)
        if match is None:
            continue
        found = find(match, versions)
        if found is None:  # the words can be read otherwise: a prompt may hold them too
            continue
        back = _BACK.search(text)
        rest = _without(text, match, back)
        if asked == "" and back and not _SAYS.search(rest):
            asked = "restore"
        return Meant(tuple(found), asked, True, rest)
    current = versions.current
    return Meant((current,) if current else (), "", False, text)


def _without(text: str, *spans: re.Match[str] | None) -> str:
    gone = {i for span in spans if span for i in range(*span.span())}
    left = "".join(" " if i in gone else c for i, c in enumerate(text))
    return " ".join(left.split()).strip(" ,.;:!?，。")


# -- words -------------------------------------------------------------------------------------------------------------

_ORDINALS: tuple[tuple[int, str], ...] = (
    (1, r"first|1st|erste[nrsm]?|premi[eè]re?|primer[oa]?|第[一1]"),
    (2, r"second|2nd|zweite[nrsm]?|deuxi[eè]me|seconde?|segund[oa]|第[二2两]"),
    (3, r"third|3rd|dritte[nrsm]?|troisi[eè]me|tercer[oa]?|第[三3]"),
    (4, r"fourth|4th|vierte[nrsm]?|quatri[eè]me|cuart[oa]|第[四4]"),
    (5, r"fifth|5th|fünfte[nrsm]?|cinqui[eè]me|quint[oa]|第[五5]"),
)
_DIGITS = {
    word: n
    for n, row in enumerate(("one eins", "two zwei deux dos", "three drei trois tres", "four", "five"), 1)
    for word in row.split()
}
_NOUN = (
    r"(?:one|sound|version|take|try|clip|recording|variant|variation|klang|geräusch|fassung|aufnahme|son|versi[oó]n|sonido"
    r"|prise|toma)"
)
_THE = r"(?:the|der|die|das|den|dem|zum|zur|le|la|l['’]|au|el|al|lo|my|your|our)"
_BACK = re.compile(
    r"\b(?:(?:let'?s |please |can (?:we|you) )?(?:go|get|come|switch|return|revert|jump)(?: me)?(?: back)?(?: again)? to"
    r"|back to|restore|return to|branch(?: off)?(?: again)?(?: from| off)?|start (?:again |over )?from|continue (?:from|with)"
    r"|go on from|use|take|keep|i(?:'d)? (?:prefer|rather have|liked?|want)|nimm|prends|garde|toma|usa"
    r"|(?:geh(?:e|en wir)? )?(?:wieder )?zurück (?:zu[mr]?|auf)|reviens [aà]|revenir [aà]|retour [aà]|retourne [aà]"
    r"|vuelve a|volver a|regresa a)\b|回到|返回",
    re.I,
)
# Beside "back to the first" these leave nothing to do but to go there.
_SAYS = re.compile(
    r"(?<![^\W\d_])(?!(?:please|ok|okay|now|again|and|then|no|yes|hm+|well|the|it|that|was|is|good|great|nice|fine|perfect|cool|lovely"
    r"|better|i|liked|prefer|like|best|bitte|wieder|und|nein|"
    r"s['’]il|te|vous|pla[iî]t|por|favor|so|let|us|lets|let's|me|want|version|sound|one|der|die|das|le|la|el|ersten|au|al|zum|zur)\b)"
    r"[^\W\d_]{2,}",
    re.I,
)


def _scope(versions: Versions) -> tuple[Version, ...]:
    """What is counted: the takes of the last turn where it made several, else all."""
    return versions.latest if len(versions.latest) > 1 else versions.made


def _at(row: Sequence[Version], index: int) -> tuple[Version, ...]:
    return (row[index],) if -len(row) <= index < len(row) else ()


def _pair(versions: Versions) -> tuple[Version, ...]:
    """A and B, in the order of making: the last turn's two sounds, else the current one and what was before it."""
    if len(versions.latest) == 2:
        return versions.latest
    current, before = versions.current, versions.before()
    if current is None or before is None:
        return ()
    return tuple(sorted((before, current), key=lambda v: v.number))


def _ordinal(match: re.Match[str], versions: Versions) -> tuple[Version, ...]:
    word = match["ordinal"]
    number = next(n for n, pattern in _ORDINALS if re.fullmatch(pattern, word, re.I))
    everywhere = re.search(r"very\s*$|back to|zurück|retour|revien|vuelve|回到", match.string[: match.start("ordinal")], re.I)
    row = versions.made if everywhere else _scope(versions)
    return _at(row, number - 1)


def _ordinal_from_end(match: re.Match[str], versions: Versions) -> tuple[Version, ...]:
    return _at(_scope(versions), -next(n for n, pattern in _ORDINALS if re.fullmatch(pattern, match["ordinal"], re.I)))


def _numbered(match: re.Match[str], versions: Versions) -> tuple[Version, ...]:
    number = _number(match["number"])
    takes = (match["what"] or "").lower().startswith(("take", "no", "num", "núm", "toma", "prise"))
    return _at(_scope(versions) if takes else versions.made, number - 1) if number else ()


def _number(word: str) -> int:
    return int(word) if word.isdigit() else _DIGITS.get(word.lower(), 0)


def _letter(match: re.Match[str], versions: Versions) -> tuple[Version, ...]:
    index = "ABCDE".index(match["letter"].upper())
    row = versions.latest if len(versions.latest) > 1 else _pair(versions)
    return _at(row, index)


def _middle(_: re.Match[str], versions: Versions) -> tuple[Version, ...]:
    row = _scope(versions)
    return (row[len(row) // 2],) if len(row) % 2 and len(row) > 1 else ()


def _previous(_: re.Match[str], versions: Versions) -> tuple[Version, ...]:
    current = versions.current
    if current and current in versions.latest[1:]:
        return (versions.made[current.number - 2],)
    before = versions.before()
    return (before,) if before else ()


def _undone(match: re.Match[str], versions: Versions) -> tuple[Version, ...]:
    times = re.search(r"\b(twice|two|three|\d|zweimal|deux|dos)\b", match.string, re.I)
    steps = (2 if times[1].lower() in ("twice", "zweimal") else _number(times[1])) if times else 1
    before = versions.before(steps or 1)
    return (before,) if before else ()


def _newest(_: re.Match[str], versions: Versions) -> tuple[Version, ...]:
    return versions.made[-1:]


def _original(_: re.Match[str], versions: Versions) -> tuple[Version, ...]:
    return (versions.root(versions.current),) if versions.current else ()


def _last_several(match: re.Match[str], versions: Versions) -> tuple[Version, ...]:
    number = _number(match["number"])
    return versions.made[-number:] if 1 < number <= len(versions.made) else ()


def _other(_: re.Match[str], versions: Versions) -> tuple[Version, ...]:
    return tuple(v for v in _pair(versions) if v != versions.current)


def _extreme(match: re.Match[str], versions: Versions) -> tuple[Version, ...]:
    superlative = not match["more"].lower().endswith("er")
    row = _scope(versions) if superlative or len(versions.latest) > 1 else _pair(versions)
    lengths = sorted(v.sound.seconds for v in row)
    if len(lengths) < 2:
        return ()
    wanted = lengths[-1] if match["more"].lower().startswith("long") else lengths[0]
    fitting = tuple(v for v in row if v.sound.seconds == wanted)
    return fitting if len(fitting) == 1 else ()


def _seeded(match: re.Match[str], versions: Versions) -> tuple[Version, ...]:
    return tuple(v for v in versions.made if v.sound.request.get("seed") == int(match["seed"]))[-1:]


def _worded(match: re.Match[str], versions: Versions) -> tuple[Version, ...] | None:
    """The sound whose words hold what is named; the current one before newer ones. None: no sound is called that."""
    words = [w for w in re.findall(r"[^\W\d_]{3,}", match["words"].lower()) if w not in _EMPTY]
    if not words:
        return None
    by_likelihood = ([versions.current] if versions.current else []) + list(reversed(versions.made))
    return next(((v,) for v in by_likelihood if all(_holds(v, word) for word in words)), None)


def _holds(version: Version, word: str) -> bool:
    request = version.sound.request
    said = f"{request.get('prompt') or ''} {request.get('transcript') or ''} {version.sound.backend}".lower()
    stem = word[:-1] if word.endswith("s") and len(word) > 3 else word
    return re.search(rf"\b{re.escape(stem)}", said) is not None


_EMPTY = frozenset("the this that one new other another same whole with and from made for sound version take more less but".split())  # noqa: SIM905
_ANY = "|".join(pattern for _, pattern in _ORDINALS)
_SMALL = r"but|and|again|please|with|without|in|at|aber|mais|pero|bitte|was|is"
_ENDS = rf"(?:\s*{_NOUN}\b|(?=\s*(?:$|[,.;:!?，。]|\b(?:{_SMALL})\b)))"  # "the first one", "the first, but …"; not "the first snow"
_Find = Callable[[re.Match[str], Versions], Sequence[Version] | None]


def _rule(find: _Find, *patterns: str, asked: Asked = "") -> tuple[re.Pattern[str], Asked, _Find]:
    return re.compile("|".join(patterns), re.I), asked, find


# The first that matches decides, so the longer ways to name a sound stand before the shorter ones.
_RULES: tuple[tuple[re.Pattern[str], Asked, _Find], ...] = (
    _rule(
        _undone,
        r"\bundo\b(?: (?:it|that))?(?: (?:twice|(?:the )?last (?:two|three|\d)))?",
        r"\btake (?:it|that) back\b|\brevert(?: it| that)?\W*$|^\W*(?:please )?(?:go |step )?back\W*$",
        r"\b(?:one|a) step back\b|\bgo (?:back )?(?:one|two|three|a step|\d)\b(?: steps?)?(?: back)?(?!\w)|\bas it was(?: before)?\b",
        r"\brückgängig\b|^\W*zurück\W*$|\bannule[rz]?\b|\bdéfaire\b|\bdesha(?:z|cer)(?:lo)?\b|撤销|撤回",
        asked="undo",
    ),
    _rule(
        lambda _, versions: _pair(versions),
        r"(?<!\w)a\s*/\s*b(?!\w)|\bA (?:and|vs\.?|versus|against) B\b|\bside by side\b",
        r"\b(?:compare|play|hear|vergleiche?|compare[zr]?|compara)\s+(?:me )?(?:them|the two|these two|both|those)\b",
        r"\b(?:vergleiche?|compare[zr]?|compara)\s+(?:beide|die beiden|les deux|(?:los|las) dos)\b|比较(?:一下)?(?:两个|它们)",
        asked="compare",
    ),
    _rule(_last_several, rf"\b{_THE}\s+last (?P<number>two|three|four|\d)\b"),
    _rule(
        _numbered,
        r"(?:\b(?P<what>version|versión|fassung|v|take|number|nummer|numéro|número|no\.?|toma|prise)\s?#?|#\s?)"
        r"(?P<number>\d\d?|one|two|three|four|five|eins|zwei|drei|deux|trois|dos|tres)\b(?!\s*(?:seconds?|s\b|sekunden))",
    ),
    _rule(_letter, r"\b(?:version|option|take|sound|clip)\s+(?P<letter>[a-e])\b"),
    _rule(_ordinal_from_end, rf"\b{_THE}\s*(?P<ordinal>{_ANY})(?:[ -](?:to |from )?last\b|\s+from the end\b)"),
    _rule(_ordinal, rf"\b{_THE}\s*(?:very\s+)?(?P<ordinal>{_ANY}){_ENDS}"),
    _rule(_ordinal, rf"(?<![\w-] )(?<![\w-])(?P<ordinal>{_ANY})\s+(?:take|version|try|one)\b"),
    _rule(_ordinal, r"(?P<ordinal>第[一二三四五两1-5])(?:个|版|段)"),
    _rule(
        _middle,
        rf"\b{_THE}\s*(?:middle|mittlere[nrsm]?){_ENDS}",
        r"\b(?:celui|celle|el|la|lo) d(?:u|el) (?:milieu|medio)\b|中间(?:那个|的)?",
    ),
    _rule(
        _previous,
        rf"\b{_THE}\s*{_NOUN} before(?: that| this| it)?\b",
        rf"\b{_THE}\s*(?:previous|preceding|earlier|vorige[nrsm]?|vorherige[nrsm]?|précédente?|anterior){_ENDS}|上一个|前一个",
    ),
    _rule(_other, rf"\b{_THE}\s*(?:other|andere[nrsm]?|autre|otr[oa]){_ENDS}|另一个"),
    _rule(lambda _, versions: versions.made[:1], rf"\b{_THE}\s*one from the (?:very )?(?:beginning|start)\b"),
    _rule(_original, rf"\b{_THE}\s*(?:original(?:e|en|es)?|ursprüngliche[nrsm]?){_ENDS}|原来的|最初的"),
    _rule(
        _newest,
        rf"\b{_THE}\s*(?:last|latest|newest|most recent|letzte[nrsm]?|neueste[nrsm]?|dernière?|dernier|último|última){_ENDS}",
        r"最后(?:一个|那个)|最新的",
    ),
    _rule(_extreme, rf"\b{_THE}\s*(?P<more>longer|longest|shorter|shortest|long|short)\s+{_NOUN}\b"),
    _rule(_seeded, rf"\b{_THE}\s*(?:{_NOUN}|ones?)\s+with\s+seed\s+(?P<seed>\d+)\b"),
    _rule(
        _worded,
        rf"\b{_THE}\s*(?:one|version|take|variant|fassung|versión)\s+(?:with|of|by|from|about|mit|avec"
        rf"|con)\s+(?P<words>[^,.;:!?]{{2,60}})",
    ),
    _rule(_worded, rf"\b{_THE}\s*(?P<words>[\w'-]+(?: [\w'-]+){{0,3}}?)\s+{_NOUN}\b(?!\s+of\b)"),
    _rule(_worded, r"\b(?:back to|restore|branch (?:off )?from|return to)\s+(?:the |my )?(?P<words>[^,.;:!?]{2,60})"),
)
