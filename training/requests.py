"""Makes requests with their plans for the router's language model: parts of `requests.txt`, put together and filled.

A row is what was said, what came along and before, and what should be written about it. Knows no weights; the same seed gives the
same rows.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from random import Random
from typing import Any

LANGUAGES = ("en", "de", "fr", "es", "zh")
SHARE = (0.36, 0.16, 0.16, 0.16, 0.16)
WEIGHTS = {
    "generate_audio": 5.0, "change": 4.0, "edit_audio": 2.5, "soundtrack_video": 2.0, "compare": 1.2, "describe_media": 2.5,
    "export_audio": 1.5, "generate_image": 1.2, "generate_video": 1.2, "ask": 2.5, "talk": 3.0,
}  # fmt: skip
_SYSTEMS = (
    "nano", "hibari", "audioldm", "audioldm2", "audioldm2-music", "musicgen", "tango", "stable-audio", "make-an-audio", "ace-step",
    "musicldm", "tangoflux",
)  # fmt: skip
_SPOKEN = {
    "en": ("hello there", "the door is open", "see you tomorrow", "this is a test", "please wait", "all aboard", "dinner is served",
           "your call is important to us", "the museum closes in ten minutes", "once upon a time there was a fox"),
    "de": ("guten Tag", "die Tür ist offen", "bis morgen", "das ist ein Test", "bitte warten", "das Essen ist fertig"),
    "fr": ("bonjour", "la porte est ouverte", "à demain", "ceci est un test", "un instant", "le dîner est servi"),
    "es": ("hola a todos", "la puerta está abierta", "hasta mañana", "esto es una prueba", "la mesa está puesta"),
    "zh": ("大家好", "门开着", "明天见", "这是测试", "请稍等", "晚饭好了"),
}  # fmt: skip
_LENGTHS = {
    "en": ("{} seconds", "{} sec", "{}s", "{} secs", "half a minute", "a minute", "ten seconds", "twenty seconds", "two minutes"),
    "de": ("{} Sekunden", "{} Sek", "{} s", "eine halbe Minute", "zehn Sekunden", "eine Minute", "zwanzig Sekunden"),
    "fr": ("{} secondes", "{} s", "une demi-minute", "dix secondes", "une minute", "vingt secondes"),
    "es": ("{} segundos", "{} s", "medio minuto", "diez segundos", "un minuto", "veinte segundos"),
    "zh": ("{}秒", "{}秒钟", "半分钟", "十秒", "一分钟", "二十秒"),
}
_COUNTS = {
    "en": ("two", "three", "four"), "de": ("zwei", "drei", "vier"), "fr": ("deux", "trois", "quatre"),
    "es": ("dos", "tres", "cuatro"), "zh": ("两个", "三个", "四个"),
}  # fmt: skip
_IN = {"en": "{} in the {}", "de": "{} im {}", "fr": "{} dans {}", "es": "{} en {}", "zh": "{1}里的{0}"}
_AND = {"en": "{} and {}", "de": "{} und {}", "fr": "{} et {}", "es": "{} y {}", "zh": "{}和{}"}
_THINGS = ("animals", "weather", "water and fire", "machines", "things", "people", "music")
# What may be lengthened, counted and numbered, and what may lack something.
_WITH_EXTRAS = {"generate_audio": 0.4, "compare": 0.2, "generate_image": 0.15, "soundtrack_video": 0.12, "generate_video": 0.2}
_BARE = str.maketrans("éèêàâîôûçáíóúñ", "eeeaaioucaioun")
_KEYS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Said:
    """One request: what was said, what came along and before, and the plan that it should become."""

    text: str
    attached: tuple[str, ...]
    earlier: tuple[str, ...]
    media: tuple[str, ...]
    plan: Mapping[str, Any]
    language: str


@dataclass(frozen=True)
class _Part:
    needs: str
    form: str
    pattern: str
    kind: str


def lexicon(text: str | None = None) -> dict[str, list[dict[str, list[str]]]]:
    """Sections of `lexicon.txt`: each entry's ways to say it by language, English first."""
    source = text if text is not None else files("orchestrator").joinpath("lexicon.txt").read_text("utf-8")
    sections: dict[str, list[dict[str, list[str]]]] = {}
    entries: list[dict[str, list[str]]] = []
    for line in source.splitlines():
        if line.startswith("["):
            entries = sections.setdefault(line.strip("[] "), [])
        elif "=" in line and not line.startswith("#"):
            english, _, others = line.partition("=")
            ways = [[w.strip() for w in part.split("/") if w.strip()] for part in others.split(";")]
            entries.append({"en": [english.strip()]} | dict(zip(LANGUAGES[1:], ways, strict=True)))
    return sections


def phrases() -> list[str]:
    """English ways to say a sound, of `phrases.txt`: short ones, which stand for a noun phrase."""
    found = []
    for line in files("training").joinpath("phrases.txt").read_text("utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            found += [way.strip() for way in line.partition(":")[2].split(";") if 0 < len(way.split()) <= 8]
    return found


class Requests:
    """Draws requests. ``forbidden`` are texts (of test files) that must not come out, nor anything close to them."""

    def __init__(self, seed: int, forbidden: Sequence[str] = ()) -> None:
        self._random = Random(seed)
        self._words, self._phrases = lexicon(), phrases()
        self._forbidden = [tokens(text) for text in forbidden]
        self._parts: dict[tuple[str, str], list[_Part]] = {}
        for line in files("training").joinpath("requests.txt").read_text("utf-8").splitlines():
            if line.strip() and not line.startswith("#"):
                language, what, needs, form, pattern, *kind = (part.strip() for part in line.split("|"))
                self._parts.setdefault((language, what), []).append(_Part(needs, form, pattern, kind[0] if kind else ""))

    def __iter__(self) -> Iterator[Said]:
        while True:
            said = self._draw()
            words = tokens(said.text)
            if not any(overlap(words, other) for other in self._forbidden):
                yield said

    def _draw(self) -> Said:
        pick = self._random
        language = pick.choices(LANGUAGES, SHARE)[0]
        what = pick.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        part = pick.choice(self._parts[language, what])
        attached, earlier, media = self._context(part.needs, what)
        slots: dict[str, str] = {}
        text = self._filled(part.pattern, language, slots, earlier)
        negative = slots.get("y", "") if _negates(part.pattern) else ""
        prompt = slots.get("x", "") or ("" if negative else slots.get("y", ""))
        prompt = ", ".join(filter(None, (prompt, slots.get("q", ""))))
        if part.form == "np" and pick.random() < _WITH_EXTRAS.get(what, 0.0):
            text, without = self._more(text, language)
            negative = negative or without
        wraps = [wrap.pattern for wrap in self._parts[language, "wrap"] if wrap.form == part.form]
        wrap = pick.choice(wraps) if pick.random() < (0.75 if part.form == "np" else 0.5) else "{}"
        text = self._filled(wrap, language, {}, earlier).replace("{}", text)
        plan = {"tool": what, "kind": part.kind, "prompt": prompt, "negative": negative}
        if what in ("ask", "talk", "describe_media", "export_audio"):
            plan = {"tool": what}
        return Said(self._worn(text, language), attached, earlier, media, plan, language)

    def _context(self, needs: str, what: str) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        """Kinds that came along, prompts of earlier sounds, kinds that came before."""
        pick = self._random
        attached = tuple(needs.split(",")) if needs and needs[0] not in "+-*" else ()
        before = needs.removeprefix("+") if needs.startswith("+") else ""
        count = int(before.removeprefix("audio") or 1) if before.startswith("audio") else 0
        media = (before,) if before in ("image", "video") else ()
        if needs == "-":
            return (), (), ()
        if before.startswith("audio"):
            count += pick.choice((0, 0, 0, 1, 2))
        elif pick.random() < (0.35 if needs != "*" else 0.5):
            count = pick.randint(1, 3)
        if not media and pick.random() < 0.1:
            media = (pick.choice(("image", "video")),)
        if needs == "*" and what in ("talk", "compare") and pick.random() < 0.12:
            attached = (pick.choice(("image", "audio")),)
        return attached, tuple(self._sound("en")[1] for _ in range(count)), media

    def _more(self, text: str, language: str) -> tuple[str, str]:
        """The request with one or two things said behind it, and what it must lack."""
        pick = self._random
        negative = ""
        extras = pick.sample(self._parts[language, "extra"], pick.choice((1, 1, 2)))
        if len({extra.form for extra in extras}) < len(extras):
            extras = extras[:1]
        for extra in extras:
            slots: dict[str, str] = {}
            said = self._filled(extra.pattern, language, slots, ())
            text = f"{text}{'' if said[0] in ',，' else ' '}{said}"
            negative = slots["y"] if extra.form == "negative" else negative
        return text, negative

    def _filled(self, pattern: str, language: str, english: dict[str, str], earlier: Sequence[str]) -> str:
        """The pattern with its slots filled; ``english`` takes the English of its sounds, things and qualities."""
        pick = self._random
        systems = iter(pick.sample(_SYSTEMS, 2))
        start = pick.randint(0, 2)

        def slot(match: re.Match[str]) -> str:
            name = match[1]
            if name == "x":
                foreign, english["x"] = self._sound(language)
                return foreign
            if name == "y":
                foreign, english["y"] = self._thing(language)
                return foreign
            if name == "q":
                foreign, english["q"] = self._quality(language)
                return foreign
            if name == "p":
                return pick.choice(self._parts[language, "occasion"]).pattern
            if name == "t":
                return pick.choice(_LENGTHS[language]).format(pick.randint(2, 40))
            if name == "s":
                return pick.choice(_SPOKEN[language])
            if name in "mk":
                return next(systems)
            if name == "c":
                return pick.choice(_COUNTS[language])
            if name == "g":
                return f"{pick.randint(2, 14) / 2:g}"
            low, high = {"n": (1, 999), "l": (-26, -10), "a": (start, start), "b": (start + 1, 5)}[name]
            return str(pick.randint(low, high))

        return re.sub(r"\{([a-z])\}", slot, pattern)

    def _way(self, entry: dict[str, list[str]], language: str) -> str:
        return self._random.choice(entry[language]).replace("~", "")

    def _entry(self, sections: Sequence[str], language: str) -> dict[str, list[str]]:
        while True:
            entry = self._random.choice(self._words[self._random.choice(sections)])
            if entry[language]:
                return entry

    def _thing(self, language: str) -> tuple[str, str]:
        entry = self._entry(_THINGS, language)
        return self._way(entry, language), entry["en"][0]

    def _quality(self, language: str) -> tuple[str, str]:
        entry = self._entry(("qualities",), language)
        return self._way(entry, language), entry["en"][0]

    def _sound(self, language: str) -> tuple[str, str]:
        pick = self._random
        if language == "en" and pick.random() < 0.5:
            phrase = pick.choice(self._phrases)
            return phrase, phrase
        one, own = self._thing(language)
        shape = pick.random()
        if shape < 0.25:
            entry = self._entry(("doing",), language)
            joined = "{}{}" if language == "zh" else "{} {}"
            one, own = joined.format(one, self._way(entry, language)), f"{own} {entry['en'][0]}"
        elif shape < 0.4:
            quality, english = self._quality(language)
            order = "{1}的{0}" if language == "zh" else "{1} {0}" if language in ("en", "de") else "{0} {1}"
            one, own = order.format(one, quality), f"{english} {own}"
        if pick.random() < 0.3:
            entry = self._entry(("places",), language)
            one, own = _IN[language].format(one, self._way(entry, language)), f"{own} in the {entry['en'][0]}"
        elif pick.random() < 0.2:
            other, second = self._thing(language)
            one, own = _AND[language].format(one, other), f"{own} and {second}"
        elif pick.random() < 0.15:
            entry = self._entry(("times and places",), language)
            one, own = f"{one} {self._way(entry, language)}", f"{own} {entry['en'][0]}"
        if language == "en" and pick.random() < 0.5 and one == own:
            one = own = f"{'an' if own[0] in 'aeiou' else 'a'} {own}"
        return one, own

    def _worn(self, text: str, language: str) -> str:
        """As people type: a capital, a full stop or none, no accents, a slip of the finger."""
        pick = self._random
        text = text.replace("can you can you", "can you")
        if pick.random() < 0.25:
            text = text.rstrip("?？!. ")
        if language == "zh":
            return text
        if pick.random() < 0.4:
            text = text[:1].upper() + text[1:]
        elif pick.random() < 0.2:
            text = text.lower()
        if pick.random() < 0.2 and text[-1].isalnum():
            text += pick.choice((".", "!", ".", "..."))
        if language in ("fr", "es") and pick.random() < 0.12:
            text = text.translate(_BARE)
        return self._slip(text) if pick.random() < 0.1 else text

    def _slip(self, text: str) -> str:
        """One letter inside a word lost, doubled, swapped with its neighbour or missed."""
        pick = self._random
        places = [k for k in range(1, len(text) - 2) if text[k - 1 : k + 2].isalpha()]
        if not places:
            return text
        k = pick.choice(places)
        changed = pick.choice(("", text[k] * 2, text[k + 1] + text[k], pick.choice(_KEYS)))
        return text[:k] + changed + text[k + (2 if len(changed) == 2 and changed[0] != changed[1] else 1) :]


_LACKS = re.compile(
    r"(?:without(?: the)?|drop the|remove the|take out the|less|ohne|weniger|lass den|nimm|entferne|sans|enlève|sin|quita) \{y\}"
    r"|不要\{y\}|把\{y\}去掉"
)


def _negates(pattern: str) -> bool:
    """Whether {y} is what a pattern asks to be without."""
    return bool(_LACKS.search(pattern))


def tokens(text: str) -> frozenset[str]:
    """Words of a text without case and signs; Chinese by pairs of characters."""
    words = re.findall(r"[a-zà-ÿœß']+|\d+", text.lower())
    chinese = re.findall(r"[\u4e00-\u9fff]", text)
    return frozenset(words) | frozenset(a + b for a, b in itertools.pairwise(chinese))


def overlap(one: frozenset[str], other: frozenset[str], share: float = 0.8) -> bool:
    """Whether two token sets are nearly the same: their intersection over their union is at least ``share``."""
    return bool(one or other) and len(one & other) >= share * len(one | other)


def drawn_near(texts: Sequence[str], count: int, seed: int) -> list[str]:
    """Which of ``texts`` are nearly one of ``count`` requests that are drawn with ``texts`` forbidden: none, if the check holds."""
    drawn = [tokens(said.text) for said in itertools.islice(Requests(seed, texts), count)]
    return [text for text in texts if any(overlap(tokens(text), other) for other in drawn)]
