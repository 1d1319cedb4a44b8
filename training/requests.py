"""Makes requests with their plans for the router's language model: patterns of `requests.txt`, filled from the lexicon.

A row is what the model reads and what it should write. Knows no weights; the same seed gives the same rows.
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
SHARE = (0.4, 0.15, 0.15, 0.15, 0.15)
_SYSTEMS = ("nano", "hibari", "audioldm2", "audioldm2-music", "musicgen", "tango", "stable-audio", "make-an-audio")
_SPOKEN = {
    "en": ("hello there", "the door is open", "see you tomorrow", "this is a test", "please wait", "all aboard"),
    "de": ("guten Tag", "die Tür ist offen", "bis morgen", "das ist ein Test", "bitte warten"),
    "fr": ("bonjour", "la porte est ouverte", "à demain", "ceci est un test", "un instant"),
    "es": ("hola a todos", "la puerta está abierta", "hasta mañana", "esto es una prueba", "un momento"),
    "zh": ("大家好", "门开着", "明天见", "这是测试", "请稍等"),
}
_LENGTHS = {
    "en": ("{} seconds", "{} sec", "{}s", "{} second"),
    "de": ("{} Sekunden", "{} Sek", "{} s"),
    "fr": ("{} secondes", "{} s"),
    "es": ("{} segundos", "{} s"),
    "zh": ("{}秒", "{}秒钟"),
}
_COUNTS = {
    "en": ("two", "three", "four"), "de": ("zwei", "drei", "vier"), "fr": ("deux", "trois", "quatre"),
    "es": ("dos", "tres", "cuatro"), "zh": ("两个", "三个", "四个"),
}  # fmt: skip
_IN = {"en": "{} in the {}", "de": "{} im {}", "fr": "{} dans {}", "es": "{} en {}", "zh": "{1}里的{0}"}
_AND = {"en": "{} and {}", "de": "{} und {}", "fr": "{} et {}", "es": "{} y {}", "zh": "{}和{}"}
_THINGS = ("animals", "weather", "water and fire", "machines", "things", "people", "music", "doing")


@dataclass(frozen=True)
class Said:
    """One request: what was said, what came along and before, and the plan that it should become."""

    text: str
    attached: tuple[str, ...]
    earlier: tuple[str, ...]
    media: tuple[str, ...]
    plan: Mapping[str, Any]
    language: str


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


class Requests:
    """Draws requests. ``forbidden`` are texts (of test files) that must not come out, nor anything close to them."""

    def __init__(self, seed: int, forbidden: Sequence[str] = ()) -> None:
        self._random = Random(seed)
        self._words = lexicon()
        self._forbidden = {tokens(text) for text in forbidden}
        self._patterns: dict[tuple[str, str], list[tuple[str, str, str]]] = {}
        for line in files("training").joinpath("requests.txt").read_text("utf-8").splitlines():
            if line.strip() and not line.startswith("#"):
                language, tool, needs, pattern, *more = (part.strip() for part in line.split("|"))
                self._patterns.setdefault((language, tool), []).append((needs, pattern, more[0] if more else ""))

    def __iter__(self) -> Iterator[Said]:
        while True:
            said = self._draw()
            if not any(overlap(tokens(said.text), other) for other in self._forbidden):
                yield said

    def _draw(self) -> Said:
        pick = self._random
        language = pick.choices(LANGUAGES, SHARE)[0]
        tools = [tool for spoken, tool in self._patterns if spoken == language]
        weights = [{"generate_audio": 6, "change": 3, "talk": 1.5, "ask": 1}.get(tool, 1) for tool in tools]
        tool = pick.choices(tools, weights)[0]
        needs, pattern, more = pick.choice(self._patterns[language, tool])
        words, plan = self._filled(language, pattern)
        attached = (needs,) if needs and not needs.startswith("+") else ()
        before = needs.removeprefix("+") if needs.startswith("+") else ""
        count = int(before.removeprefix("audio") or 1) if before.startswith("audio") else 0
        if not needs and tool in ("generate_audio", "compare", "generate_image", "talk") and pick.random() < 0.3:
            count = pick.randint(1, 3)
        earlier = tuple(self._sound("en")[1] for _ in range(count))
        media = (before,) if before in ("image", "video") else ()
        plan = self._plan(tool, more, words, plan, earlier)
        if tool == "generate_audio" and attached and "{x}" not in pattern and "{y}" not in pattern:
            plan.pop("prompt", None)
        return Said(self._worn(words["text"], language), attached, earlier, media, plan, language)

    def _plan(self, tool: str, more: str, words: dict[str, str], filled: dict[str, Any], earlier: Sequence[str]) -> dict[str, Any]:
        plan: dict[str, Any] = {"tool": tool} | filled
        x, y = words.get("x", ""), words.get("y", "")
        plan["prompt"] = x or ("" if more == "negative" else y)
        if more == "negative":
            plan["negative"] = y
        if tool == "change":
            which = {"which1": 1, "which2": 2}.get(more)
            base = earlier[which - 1] if which else earlier[-1]
            added = words.get("q", "") or (y if more != "negative" else "")
            joint = ", " if words.get("q") else " with "
            plan |= {"tool": "generate_audio", "prompt": base + (joint + added if added else ""), "which": which}
            plan |= {"seconds": 10} if more == "longer" else {}
        elif tool == "edit_audio":
            plan["kind"] = more
        elif more == "prompt":
            plan["prompt"] = words.get("q", "")
        elif more == "nomusic":
            plan["without"] = "music"
        elif more == "keep":
            plan["original"] = "keep"
        elif more in ("mp3", "wav", "flaclufs"):
            plan["format"] = more[:4] if more == "flaclufs" else more
        if tool in ("ask", "talk", "describe_media", "export_audio"):
            return {name: value for name, value in plan.items() if name in ("tool", "format", "lufs")}
        return plan

    def _filled(self, language: str, pattern: str) -> tuple[dict[str, str], dict[str, Any]]:
        """The pattern with its slots filled: the text and the English of its slots, and the numbers that were drawn."""
        pick, plan = self._random, dict[str, Any]()
        english: dict[str, str] = {}
        more = {"{n}": ("seed", 1, 9999), "{c}": ("count", 2, 4), "{l}": ("lufs", -26, -10)}

        def slot(match: re.Match[str]) -> str:
            name = match[0]
            if name in ("{x}", "{y}", "{q}"):
                draw = {"{x}": self._sound, "{y}": self._thing, "{q}": self._quality}[name]
                foreign, own = draw(language)
                english[name[1]] = own
                return foreign
            if name == "{t}":
                plan["seconds"] = pick.randint(2, 40)
                return pick.choice(_LENGTHS[language]).format(plan["seconds"])
            if name == "{s}":
                plan["transcript"] = pick.choice(_SPOKEN[language])
                return str(plan["transcript"])
            if name in ("{m}", "{k}"):
                left = [system for system in _SYSTEMS if system not in plan.get("backends", [])]
                plan.setdefault("backends", []).append(pick.choice(left))
                return str(plan["backends"][-1])
            if name == "{a}":
                plan["region"] = [pick.randint(0, 2), pick.randint(3, 5)]
                return str(plan["region"][0])
            if name == "{b}":
                return str(plan["region"][1])
            if name == "{g}":
                plan["guidance"] = pick.randint(2, 14) / 2
                return f"{plan['guidance']:g}"
            field, low, high = more[name]
            number = pick.randint(low, high)
            if "steps" in pattern or "Schritte" in pattern:
                field, number = "steps", pick.randint(5, 100)
            if "plus" not in pattern and "https" not in pattern:
                plan[field] = number
            return _COUNTS[language][number - 2] if field == "count" else str(number)

        text = re.sub(r"\{[a-z]\}", slot, pattern)
        return english | {"text": text}, plan

    def _way(self, entry: dict[str, list[str]], language: str) -> str:
        return self._random.choice(entry[language]).replace("~", "")

    def _entry(self, sections: Sequence[str], language: str) -> dict[str, list[str]]:
        while True:
            entry = self._random.choice(self._words[self._random.choice(sections)])
            if entry[language]:
                return entry

    def _thing(self, language: str) -> tuple[str, str]:
        entry = self._entry(_THINGS[:7], language)
        return self._way(entry, language), entry["en"][0]

    def _quality(self, language: str) -> tuple[str, str]:
        entry = self._entry(("qualities",), language)
        return self._way(entry, language), entry["en"][0]

    def _sound(self, language: str) -> tuple[str, str]:
        pick = self._random
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
        """As people type: a capital, a full stop, a greeting, or none."""
        pick = self._random
        if language != "zh":
            if pick.random() < 0.4:
                text = text[:1].upper() + text[1:]
            if pick.random() < 0.2 and text[-1].isalnum():
                text += pick.choice((".", "!", " please" if language == "en" else "."))
        return text


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
