"""Numbers, lengths and places in time as people write them in five languages, as the English forms that the rules read.

Words from zero to a hundred are built from each language's grammar, not listed; halves, quarters and "and a half" belong to them.
Pure functions over text that is in lower case and without accents (``languages.fold``). Knows nothing of sounds.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

_ONES = {
    "de": "null eins zwei drei vier funf sechs sieben acht neun zehn elf zwolf dreizehn vierzehn funfzehn sechzehn siebzehn achtzehn "
    "neunzehn",
    "fr": "zero un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize dix-sept dix-huit dix-neuf",
    "es": "cero uno dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince dieciseis diecisiete dieciocho "
    "diecinueve",
}
_TENS = {
    "de": "zwanzig dreissig vierzig funfzig sechzig siebzig achtzig neunzig",
    "fr": "vingt trente quarante cinquante soixante",
    "es": "veinte treinta cuarenta cincuenta sesenta setenta ochenta noventa",
}
_HUNDRED = {"de": ("hundert", "einhundert"), "fr": ("cent",), "es": ("cien",)}
_ONE = {"de": ("ein", "eine", "einer", "einen", "einem"), "fr": ("une",), "es": ("un", "una")}
_CHINESE = dict(zip("零一二三四五六七八九", range(10), strict=True)) | {"两": 2}
# A length's unit, and what may follow a number word for it to be a number at all ("ein Hund" is none).
_SECOND = {
    "de": r"sekunden?|sek\b\.?|sec\b|s\b", "fr": r"secondes?|sec\b\.?|s\b", "es": r"segundos?|segs?\b\.?|s\b", "zh": r"秒钟?",
}  # fmt: skip
_MINUTE = {"de": r"minuten?|min\b\.?", "fr": r"minutes?|min\b\.?", "es": r"minutos?|min\b\.?", "zh": r"分钟|分"}
_COUNTED = {
    "de": r"[a-z]*schritte|sekundig|version|variant|take|aufnahm|fassung|bild|foto|zeichnung|plakat|lufs",
    "fr": r"(?:premier|dernier)e?s secondes|etape|pas\b|version|variant|prise|image|photo|dessin|affiche|lufs",
    "es": r"(?:primer|ultim)os segundos|paso|version|variant|toma|imagen|foto|dibujo|cartel|lufs",
}
# What a number follows, and what makes it less than nothing (a loudness).
_NUMBERED = {"de": r"seed|guidance|fuhrung", "fr": r"graine|seed|guidance|guidage", "es": r"semilla|seed|guidance|guia"}
_MINUS = {"de": "minus", "fr": "moins", "es": "menos"}
_AT = {"de": "sekunde", "fr": "seconde", "es": "segundo"}
_BETWEEN = {"de": r"bis|und", "fr": r"a|et|jusqu'a", "es": r"a|al|y|hasta"}


@cache
def words(language: str) -> dict[str, float]:
    """The values of number words, folded: 0 to 100, and in German the halves in one word.

    >>> words("de")["einundzwanzig"], words("fr")["quatre-vingt-onze"], words("es")["treinta y cinco"]
    (21.0, 91.0, 35.0)
    """
    ones = _ONES[language].split()
    found = {word: float(n) for n, word in enumerate(ones)}
    for n, ten in enumerate(_TENS[language].split(), 2):
        found[ten] = 10.0 * n
        for k in range(1, 10):
            found |= dict.fromkeys(_joined(language, n, ten, k, ones), 10.0 * n + k)
    if language == "fr":  # sixty-ten to four-twenty-nineteen
        for k in range(20):
            spelled = [f"quatre-vingt-{ones[k]}"] if k else ["quatre-vingts", "quatre-vingt"]
            found |= dict.fromkeys([w for way in spelled for w in (way, way.replace("-", " "))], 80.0 + k)
        for k in range(10, 20):
            joint = ("-et-", " et ") if k == 11 else ("-", " ")
            found |= dict.fromkeys([f"soixante{j}{ones[k]}" for j in joint], 60.0 + k)
    if language == "de":
        found |= {f"{'ein' if n == 1 else ones[n]}einhalb": n + 0.5 for n in range(1, 13)} | {"anderthalb": 1.5}
    return found | dict.fromkeys(_HUNDRED[language], 100.0) | dict.fromkeys(_ONE[language], 1.0)


def _joined(language: str, n: int, ten: str, k: int, ones: list[str]) -> list[str]:
    if language == "de":
        return [f"{'ein' if k == 1 else ones[k]}und{ten}"]
    if language == "fr":
        return (
            [f"{ten}-et-un", f"{ten} et un", f"{ten}-et-une", f"{ten} et une"] if k == 1 else [f"{ten}-{ones[k]}", f"{ten} {ones[k]}"]
        )
    return [f"veinti{ones[k]}", f"veinti{ones[k].removesuffix('o')}"] if n == 2 else [f"{ten} y {ones[k]}"]


def english_numbers(text: str, language: str) -> str:
    """Number words before what they count as digits, and lengths with halves as seconds.

    >>> english_numbers("anderthalb minuten regen", "de"), english_numbers("vingt-cinq secondes et demie", "fr")
    ('90 sekunden regen', '25.5 secondes')
    >>> english_numbers("entre dos y cuatro segundos", "es"), english_numbers("第三秒到第五秒，半分钟", "zh")
    ('entre 2 y 4 segundos', '第3秒到第5秒，30秒')
    """
    return _chinese_numbers(text) if language == "zh" else _word_numbers(text, language)


def _word_numbers(text: str, language: str) -> str:
    values = words(language)
    word = "|".join(map(re.escape, sorted(values, key=len, reverse=True)))
    units = f"(?:{_SECOND[language]}|{_MINUTE[language]}|{_COUNTED[language]})"
    second = {"de": "sekunden", "fr": "secondes", "es": "segundos"}[language]
    value = lambda match: f"{values[match[1]]:g}"  # noqa: E731
    if language == "fr":  # "une vingtaine de secondes"
        text = re.sub(r"\b(?:une )?(douz|quinz|vingt|trent|quarant|cinquant|soixant|diz)aine de (?=secondes|minutes)", _about, text)
    if language != "fr":
        text = re.sub(r"\b(?:(?:una|ein) )?(?:docena de|dutzend) (?=segundos|sekunden|minut)", "12 ", text)
    text = re.sub(rf"(?<![\w-])({word})(?=[ -]{units}|sekund)", value, text)
    # "between two and four seconds", "from second two to four": one of the numbers has no unit of its own.
    text = re.sub(rf"(?<![\w-])({word})(?=\s*(?:{_BETWEEN[language]})\s*\d[\d.,]*[ -]?{units})", value, text)
    text = re.sub(rf"(?<=[ ](?:{_AT[language]}) )({word})(?![\w-])", value, text)
    text = re.sub(
        rf"(?<=(?:{_AT[language]}) )(\d+ (?:{_BETWEEN[language]}) )({word})(?![\w-])", lambda m: m[1] + _plain(values[m[2]]), text
    )
    text = re.sub(rf"\b((?:{_NUMBERED[language]})\s*[:=]?\s*)({word})(?![\w-])", lambda m: m[1] + _plain(values[m[2]]), text)
    text = re.sub(rf"\b{_MINUS[language]} (?=\d+(?:[.,]\d+)? ?lufs)", "-", text)
    text = re.sub(r"(\d+)[ -]?sekundig\w*", r"\1 sekunden", text)
    for pattern, seconds in _halves(language):
        text = re.sub(pattern, lambda m, seconds=seconds: f"{_plain(seconds(m))} {second}", text)  # type: ignore[misc]
    return text


def _about(match: re.Match[str]) -> str:
    tens = {"diz": 10, "douz": 12, "quinz": 15, "vingt": 20, "trent": 30, "quarant": 40, "cinquant": 50, "soixant": 60}
    return f"{tens[match[1]]} "


def _plain(value: float) -> str:
    return f"{round(value, 3):g}"


def _number(text: str) -> float:
    return float(text.replace(",", "."))


@cache
def _halves(language: str) -> tuple[tuple[str, Callable[[re.Match[str]], float]], ...]:
    """Patterns of lengths that digits alone do not tell, and their seconds."""
    n = r"(\d+(?:[.,]\d+)?)"
    if language == "de":
        return (
            (r"\b(?:ein(?:e[rn]?)? )?halbe[rn]?[ -]?minute\b", lambda m: 30.0),
            (r"\b(?:ein(?:e[rn]?)? )?dreiviertel[ -]?minute\b", lambda m: 45.0),
            (r"\b(?:ein(?:e[rn]?)? )?viertel[ -]?minute\b", lambda m: 15.0),
            (r"\b(?:ein(?:e[rn]?)? )?halbe[rn]? sekunde\b", lambda m: 0.5),
            (rf"{n} (?:minuten?|min\.?) (?:und )?{n} (?:sekunden?|sek\.?|s)\b", lambda m: 60 * _number(m[1]) + _number(m[2])),
            (rf"{n}[ -]?(?:minuten?\b|min\b\.?)", lambda m: 60 * _number(m[1])),
            (r"\beiner? minute\b", lambda m: 60.0),
        )
    if language == "fr":
        return (
            (r"\b(?:une )?demi[- ]minute\b", lambda m: 30.0),
            (r"\btrois quarts? de minute\b", lambda m: 45.0),
            (r"\b(?:un )?quart de minute\b", lambda m: 15.0),
            (r"\b(?:une )?demi[- ]seconde\b", lambda m: 0.5),
            (rf"{n} minutes? et demie?\b", lambda m: 60 * _number(m[1]) + 30),
            (rf"{n} secondes? et demie?\b", lambda m: _number(m[1]) + 0.5),
            (rf"{n} (?:minutes?|min\.?) (?:et )?{n} (?:secondes?|sec\.?|s)\b", lambda m: 60 * _number(m[1]) + _number(m[2])),
            (rf"{n}[ -]?(?:minutes?\b|min\b\.?)", lambda m: 60 * _number(m[1])),
        )
    return (
        (r"\b(?:una? )?medio minuto\b", lambda m: 30.0),
        (r"\btres cuartos de minuto\b", lambda m: 45.0),
        (r"\b(?:un )?cuarto de minuto\b", lambda m: 15.0),
        (r"\bmedio segundo\b", lambda m: 0.5),
        (rf"{n} minutos? y medio\b", lambda m: 60 * _number(m[1]) + 30),
        (r"\bminuto y medio\b", lambda m: 90.0),
        (rf"{n} segundos? y medio\b", lambda m: _number(m[1]) + 0.5),
        (rf"{n} (?:minutos?|min\.?) (?:y )?{n} (?:segundos?|seg\.?|s)\b", lambda m: 60 * _number(m[1]) + _number(m[2])),
        (rf"{n}[ -]?(?:minutos?\b|min\b\.?)", lambda m: 60 * _number(m[1])),
    )


def chinese(word: str) -> int:
    """The value of 三, 十五, 二十, 一百二十, 两.

    >>> chinese("十五"), chinese("一百二十"), chinese("二十五")
    (15, 120, 25)
    """
    total, digit = 0, 0
    for sign in word:
        if sign in _CHINESE:
            digit = _CHINESE[sign]
        else:
            total, digit = total + (digit or 1) * {"十": 10, "百": 100}[sign], 0
    return total + digit


def _chinese_numbers(text: str) -> str:
    numeral = r"[零一二三四五六七八九十百两]+"
    counted = r"秒|分钟|分半|分(?=\d|[零一二三四五六七八九十])|步|(?:个|种)?(?:不同的?)?(?:版本|变体)|张|幅|到|至|倍|lufs"
    text = re.sub(rf"负?({numeral})(?={counted})", lambda m: ("-" if m[0][0] == "负" else "") + str(chinese(m[1])), text)
    text = re.sub(rf"(?<=种子)({numeral})", lambda m: str(chinese(m[1])), text)
    text = re.sub(r"(\d+)分钟?半", lambda m: f"{60 * int(m[1]) + 30}秒", text)
    text = re.sub(r"(\d+)秒半", lambda m: f"{m[1]}.5秒", text)
    text = text.replace("半分钟", "30秒").replace("半秒", "0.5秒").replace("一刻钟", "900秒")
    text = re.sub(r"(\d+)分钟?(?:零|又)?(\d+)秒", lambda m: f"{60 * int(m[1]) + int(m[2])}秒", text)
    return re.sub(r"(\d+(?:\.\d+)?)分钟", lambda m: f"{_plain(60 * float(m[1]))}秒", text)
