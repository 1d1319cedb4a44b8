"""Numbers, lengths and places in time as people write them in five languages: digits and seconds, the words around them as they were.

One grammar, and a table of words for each language. Words from zero to 999 are built, not listed; halves, quarters, "two point five",
"1m20" and "1:15" belong to it. Pure functions over text; of other languages than English in lower case and without accents
(``languages.fold``). Knows nothing of sounds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial


@dataclass(frozen=True)
class _Words:
    """A language's words; all but ``ones``, ``tens`` and ``a`` are patterns. ``counted``: what a number word before it is read for.

    ``numbered``: what it is read for behind it. ``apart``: what stands between two ends. ``at``: "second 3". ``scene``: what stands
    before a time that belongs to the scene ("every two seconds"), ``scene_after``: what stands behind it.
    """

    ones: str
    tens: str
    a: tuple[str, ...]
    hundred: str
    second: str
    minute: str
    hour: str
    said: str  # the word for seconds that comes out
    half: str
    quarter: str
    three: str
    joint: str
    point: str
    minus: str
    counted: str
    numbered: str
    apart: str
    at: str
    about: str = r"(?!)"
    scene: str = r"(?!)"
    scene_after: str = r"(?!)"


_LANGUAGES = {
    "en": _Words(
        ones="zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
        "eighteen "
        "nineteen",
        tens="twenty thirty forty fifty sixty seventy eighty ninety",
        a=("a", "an"),
        hundred=r"(?:(one|two|three|four|five|six|seven|eight|nine|a)[ -])?hundred",
        second=r"seconds?\b|secs?\b\.?|s\b", minute=r"minutes?\b|mins?\b\.?|m\b", hour=r"hours?\b", said="seconds",
        half=r"half", quarter=r"quarter", three=r"three[ -]quarters", joint=r"and (?:a )?", point="point", minus=r"minus|negative",
        counted=r"(?:denoising|diffusion|inference|sampling) steps|lufs|lkfs"
        r"|steps(?=\W*$|[,;.)]| please| and (?:a )?(?:guidance|seed|cfg))", numbered=r"seed|guidance|cfg",
        apart=r"to|and|until|till|or|through", at=r"second",
        scene=r"every|each|per|within|in|once|since|past", scene_after=r"before|after|later|ago|apart|to midnight|past|away"
        r"|late|early|old|walk|drive",
    ),
    "de": _Words(
        ones="null eins zwei drei vier funf sechs sieben acht neun zehn elf zwolf dreizehn vierzehn funfzehn sechzehn siebzehn "
        "achtzehn "
        "neunzehn",
        tens="zwanzig dreissig vierzig funfzig sechzig siebzig achtzig neunzig",
        a=("ein", "eine", "einer", "einen", "einem"),
        hundred=r"(ein|zwei|drei|vier|funf|sechs|sieben|acht|neun)?hundert",
        second=r"sekunden?\b|sek\b\.?|sec\b|s\b", minute=r"minuten?\b|min\b\.?", hour=r"stunden?\b", said="sekunden",
        half=r"halbe[rn]?", quarter=r"viertel", three=r"dreiviertel", joint=r"und (?:eine )?", point="komma", minus="minus",
        about=r"(?:ein )?(dutzend) ",
        counted=r"[a-z]*schritte|sekundig|version|variant|take|aufnahm|fassung|bild|foto|zeichnung|plakat|lufs",
        numbered=r"seed|guidance|fuhrung|schritte", apart=r"bis|und", at=r"sekunde",
    ),
    "fr": _Words(
        ones="zero un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize dix-sept dix-huit "
        "dix-neuf",
        tens="vingt trente quarante cinquante soixante septante huitante nonante",
        a=("une", "un"),
        hundred=r"(?:(deux|trois|quatre|cinq|six|sept|huit|neuf) )?cents?",
        second=r"secondes?\b|sec\b\.?|s\b", minute=r"minutes?\b|min\b\.?", hour=r"heures?\b", said="secondes",
        half=r"demie?", quarter=r"quart", three=r"trois quarts?", joint=r"et (?:une? )?", point="virgule", minus="moins",
        counted=r"(?:premier|dernier)e?s secondes|etape|pas\b|version|variant|prise|image|photo|dessin|affiche|lufs",
        numbered=r"graine|seed|guidance|guidage|etapes", apart=r"a|et|jusqu'a", at=r"seconde",
        about=r"(?:une )?(diz|douz|quinz|vingt|trent|quarant|cinquant|soixant)aine de ",
    ),
    "es": _Words(
        ones="cero uno dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince dieciseis diecisiete "
        "dieciocho "
        "diecinueve",
        tens="veinte treinta cuarenta cincuenta sesenta setenta ochenta noventa",
        a=("un", "una"),
        hundred=r"cien(?:to)?|(dos|tres|cuatro|quin|seis|sete|ocho|nove)cient[oa]s",
        second=r"segundos?\b|segs?\b\.?|s\b", minute=r"minutos?\b|min\b\.?", hour=r"horas?\b", said="segundos",
        half=r"medi[oa]", quarter=r"cuarto", three=r"tres cuartos", joint=r"y (?:un )?", point="coma", minus="menos",
        about=r"(?:una )?(docena) de ",
        counted=r"(?:primer|ultim)os segundos|paso|version|variant|toma|imagen|foto|dibujo|cartel|lufs",
        numbered=r"semilla|seed|guidance|guia|pasos", apart=r"a|al|y|hasta", at=r"segundo",
    ),
}  # fmt: skip
_TENTHS = {
    "diz": 10,
    "douz": 12,
    "docena": 12,
    "dutzend": 12,
    "quinz": 15,
    "vingt": 20,
    "trent": 30,
    "quarant": 40,
    "cinquant": 50,
    "soixant": 60,
}
_HUNDREDS = {"a": 1, "ein": 1, "quin": 5, "sete": 7, "nove": 9}
_DIGITS = r"\d+(?:[.,]\d+)?"


@cache
def words(language: str) -> dict[str, float]:
    """The values of number words below a hundred, folded, and in German the halves in one word.

    >>> words("de")["einundzwanzig"], words("fr")["quatre-vingt-onze"], words("es")["treinta y cinco"], words("en")["forty-two"]
    (21.0, 91.0, 35.0, 42.0)
    """
    table = _LANGUAGES[language]
    ones = table.ones.split()
    found = {word: float(n) for n, word in enumerate(ones)}
    for n, ten in enumerate(table.tens.split(), 2):
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
    if language == "en":
        found |= {"a couple of": 2.0, "a couple": 2.0, "couple": 2.0, "a dozen": 12.0, "dozen": 12.0}
    return found | dict.fromkeys(table.a, 1.0)


def numerals(language: str) -> str:
    """A short pattern of the number words from two to ninety-nine, with or without their accents.

    >>> [bool(re.fullmatch(numerals(k), word)) for k, word in (("en", "forty-two"), ("de", "zwölf"), ("fr", "vingt et un"))]
    [True, True, True]
    """
    table = _LANGUAGES[language]
    ones, tens = table.ones.split(), table.tens.split()
    few, many = "|".join(sorted(ones[2:], key=len, reverse=True)), "|".join(tens)
    if language == "de":
        found = rf"(?:(?:ein|{'|'.join(ones[2:10])})und)?(?:{many})|{few}"
    elif language == "fr":
        found = rf"(?:quatre-vingts?|{many})(?:[ -](?:et[ -])?(?:une?|{'|'.join(reversed(ones[2:20]))}))?|{few}"
    elif language == "es":
        found = rf"veinti(?:{'|'.join(ones[1:10])})|(?:{many})(?: y (?:{'|'.join(ones[1:10])}))?|{few}"
    else:
        found = rf"(?:{many})(?:[ -](?:{'|'.join(ones[1:10])}))?|{few}"
    return f"(?:{re.sub('[aeiou]', lambda m: _ACCENTED[m[0]], found).replace('ss', '(?:ss|ß)')})"


_ACCENTED = {"a": "[aá]", "e": "[eé]", "i": "[ií]", "o": "[oóö]", "u": "[uúü]"}


def _joined(language: str, n: int, ten: str, k: int, ones: list[str]) -> list[str]:
    if language == "de":
        return [f"{'ein' if k == 1 else ones[k]}und{ten}"]
    if language == "fr" and k == 1:
        return [f"{ten}-et-un", f"{ten} et un", f"{ten}-et-une", f"{ten} et une"]
    if language == "es":
        return [f"veinti{ones[k]}", f"veinti{ones[k].removesuffix('o')}"] if n == 2 else [f"{ten} y {ones[k]}"]
    return [f"{ten}-{ones[k]}", f"{ten} {ones[k]}"]


def digits(text: str, language: str) -> str:
    """Number words before what they count as digits, and lengths as seconds; ``text`` in ``language``, one of five.

    >>> digits("anderthalb minuten regen", "de"), digits("vingt-cinq secondes et demie", "fr"), digits("a hundred minutes", "en")
    ('90 sekunden regen', '25.5 secondes', '6000 seconds')
    >>> digits("entre dos y cuatro segundos", "es"), digits("第三秒到第五秒，半分钟", "zh"), digits("a bell every two minutes", "en")
    ('entre 2 y 4 segundos', '第3秒到第5秒，30秒', 'a bell every two minutes')
    """
    return _chinese_digits(text) if language == "zh" else _spaced_digits(text, language)


def _spaced_digits(text: str, language: str) -> str:
    if _counts(language).search(text):
        for pattern, meant in _rules(language):
            text = pattern.sub(meant, text)
    return text


@cache
def _counts(language: str) -> re.Pattern[str]:
    """What a text has if any of the rules is to say something about it."""
    table = _LANGUAGES[language]
    units = f"{table.second}|{table.minute}|{table.hour}|{table.counted}|(?:{table.numbered}|{table.at})"
    return re.compile(rf"{units}|\d:\d|\d ?m|\b(?:from|between)\b", re.I)


@cache
def _rules(language: str) -> tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...]:
    """What is replaced, in this order, and by what."""
    table, value, length = _LANGUAGES[language], partial(_in_digits, language=language), partial(_in_seconds, language=language)
    known = words(language)
    below = _any(known)
    round_ones = _any(word for word, n in known.items() if n % 5 == 0 and 10 <= n < 60)  # "a minute twenty"
    join = {"en": r"(?: and |[ -])", "de": r"", "fr": r"[ -]", "es": r" "}[language]
    of_a = {"en": r"(?:[ -]| an? | of an? )", "de": r"[ -]?", "fr": r"[ -](?:de )?", "es": r" (?:de )?"}[language]
    hour = rf"{table.hour}(?=\W*$|[,.]| (?:of|long|de|lang)\b| d')"
    unit = rf"(?:{table.second}|{table.minute}|{hour})"
    part = rf"(?P<part>{table.three}|{table.quarter}|{table.half})"
    word = rf"(?<![\w'-])(?P<n>(?:(?:{table.hundred})(?:{join}(?:{below}))?|{below})(?: {table.point} (?:{below}))?)"
    word_alone = rf"(?!(?:{'|'.join(table.a)})\b){word}"
    ordinal = rf"(?!(?:{'|'.join(table.a)}) (?:{table.at}) (?!and\b|of\b|long\b|et\b|de\b|y\b)[a-z])"  # "a second version"
    scene = rf"(?P<scene>\b(?:{table.scene}) )?"
    count = rf"(?<!\d[.,:])\b(?P<count>{_DIGITS})"
    found: list[tuple[str, Callable[[re.Match[str]], str]]] = [
        (rf"\b{table.about}(?={unit})", lambda m: f"{_TENTHS[m[1]]} "),
        (rf"{scene}{word}(?= {table.joint}(?:{table.quarter}|{table.half})[ -]{unit})", value),
        (rf"{scene}{count} {table.joint}{part}[ -](?P<unit>{unit})", length),
        (rf"{scene}\b(?:(?:{'|'.join(table.a)}) )?{part}{of_a}(?P<unit>{unit})", length),
        (rf"{scene}{ordinal}{word}(?=[ -](?:{unit})|sekund)(?!.(?:{unit}) (?:{table.scene_after})\b)", value),
        (rf"{word}(?=[ -](?:{table.counted}))", value),
        (rf"(?P<led>\b(?:{table.at})s? ){word_alone}(?![\w-])(?<!\bsecond one)", value),
        (rf"(?P<led>\b(?:{table.at})s? {_DIGITS} (?:{table.apart}) ){word_alone}(?![\w-])", value),
        (rf"(?P<led>\b(?:{table.numbered})\s*[:=]?\s*){word_alone}(?![\w-])", value),
        (rf"\b(?:{table.minus}) (?={_DIGITS} ?(?:lufs|lkfs))", lambda m: "-"),
        (rf"{scene}{count}[ -](?P<unit>{unit}) {table.joint}{part}\b", length),
        (
            rf"\b(?P<unit>{table.minute}|{table.second}) {table.joint}{part}\b",
            partial(length, count=1.0),
        ),  # "the last second and a half"
        (rf"{scene}{count} ?(?P<unit>{table.minute}) ?(?:{table.joint})?(?P<more>{_DIGITS}) ?(?:{table.second})", length),
        (rf"{scene}{count} ?(?P<unit>m|min|{table.minute}) ?(?P<more>[1-5][05]|(?<! )\d\d)(?![\w.,:])", length),
        (rf"{scene}{count} (?P<unit>{table.minute}) (?:{table.joint})?(?P<tens>{round_ones})(?![\w-])", length),
        (rf"{scene}{count}:(?P<more>\d\d)(?: ?(?P<unit>{table.minute})|(?= (?:of|long|lang|de|von)\b))", length),
        (rf"{scene}{count}[ -]?(?P<unit>{table.minute}|{hour})", length),
        # "between two and 4 seconds": one of the numbers has no unit of its own
        (rf"{word}(?= ?(?:{table.apart}|-) ?{_DIGITS}[ -]?(?:{table.second}))", value),
    ]
    if language == "de":
        found.append((r"(\d+)[ -]?sekundig\w*", lambda m: f"{m[1]} sekunden"))
    if language == "en":
        found.append((rf"\b(?P<led>from |between ){word}(?= (?:to|and) (?:{below}|\d+)\b(?!\s+\w))", value))
        found.append((rf"\b(?P<led>(?:from|between) {_DIGITS} (?:to|and) ){word_alone}\b(?!\s+\w)", value))
        found.append((r"\b(?P<led>from|after|until|to) the (?P<n>first|second|third|fourth|fifth|sixth|seventh) second\b", _at_ordinal))
    return tuple((re.compile(pattern, re.I), meant) for pattern, meant in found)


def _any(spelled: Iterable[str]) -> str:
    return "|".join(map(re.escape, sorted(spelled, key=len, reverse=True)))


def _at_ordinal(match: re.Match[str]) -> str:
    order = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh")
    return f"{match['led']} second {order.index(match['n'].lower()) + 1}"


def _in_digits(match: re.Match[str], language: str) -> str:
    found = match.groupdict()
    if found.get("scene"):
        return match[0]
    return f"{found.get('led') or ''}{_plain(_value(match['n'].lower(), language))}"


def _value(said: str, language: str) -> float:
    """Of a number in words below a thousand, perhaps with a point."""
    table, known = _LANGUAGES[language], words(language)
    said, _, tenths = said.partition(f" {table.point} ")
    value, hundred = 0.0, re.match(table.hundred, said)
    if said not in known and hundred:
        many = next((group for group in hundred.groups() if group), "")
        value = 100.0 * (_HUNDREDS[many] if many in _HUNDREDS else known.get(many, 1.0))
        said = re.sub(r"^(?: and |[ -])", "", said[hundred.end() :])
    value += known[said] if said else 0.0
    return value + (known[tenths] / (10 if known[tenths] < 10 else 100) if tenths else 0.0)


def _in_seconds(match: re.Match[str], language: str, count: float = 0.0) -> str:
    table, found, behind = _LANGUAGES[language], match.groupdict(), match.string[match.end() :]
    if found.get("scene") or re.match(rf" (?:{table.scene_after})\b", behind, re.I):
        return match[0]
    unit, part = (found["unit"] or "min").lower(), (found.get("part") or "").lower()
    count = _number(found["count"]) if found.get("count") else count
    if unit == "m" and (count > 20 or re.match(r" (?:away|high|deep|tall|below|from|off)\b", behind)):
        return match[0]  # metres
    factor = 1.0 if re.fullmatch(table.second, unit) else 3600.0 if re.fullmatch(table.hour, unit) else 60.0
    share = 0.0 if not part else 0.75 if re.fullmatch(table.three, part) else 0.25 if re.fullmatch(table.quarter, part) else 0.5
    more = _number(found["more"]) if found.get("more") else words(language)[found["tens"].lower()] if found.get("tens") else 0.0
    return f"{_plain((count + share) * factor + more)} {table.said}"


def _plain(value: float) -> str:
    return f"{round(value, 3):g}"


def _number(text: str) -> float:
    return float(text.replace(",", "."))


_CHINESE = dict(zip("零一二三四五六七八九", range(10), strict=True)) | {"两": 2}


def chinese(word: str) -> float:
    """The value of 三, 十五, 二十, 一百二十, 两, 二点五.

    >>> chinese("十五"), chinese("一百二十"), chinese("二十五"), chinese("二点五")
    (15.0, 120.0, 25.0, 2.5)
    """
    total, digit, (word, _, tenths) = 0, 0, word.partition("点")
    for sign in word:
        if sign in _CHINESE:
            digit = _CHINESE[sign]
        else:
            total, digit = total + (digit or 1) * {"十": 10, "百": 100}[sign], 0
    return total + digit + (_CHINESE[tenths[0]] / 10 if tenths else 0.0)


def _chinese_digits(text: str) -> str:
    numeral = r"[零一二三四五六七八九十百两]+(?:点[一二三四五六七八九])?"
    counted = r"秒|分钟|分半|分(?=\d|[零一二三四五六七八九十])|个?小时|步|(?:个|种)?(?:不同的?)?(?:版本|变体)|张|幅|到|至|倍|lufs"
    text = re.sub(
        rf"(?!(?<=[上下前])一[个种])负?({numeral})(?={counted})",
        lambda m: ("-" if m[0][0] == "负" else "") + _plain(chinese(m[1])),
        text,
    )
    text = re.sub(rf"(?<=种子)({numeral})", lambda m: _plain(chinese(m[1])), text)
    text = re.sub(rf"(?<=步数|版本)({numeral})", lambda m: _plain(chinese(m[1])), text)
    text = re.sub(r"(\d+)分钟?半钟?", lambda m: f"{60 * int(m[1]) + 30}秒", text)
    text = re.sub(r"(\d+)秒半", lambda m: f"{m[1]}.5秒", text)
    text = text.replace("半分钟", "30秒").replace("半秒", "0.5秒").replace("一刻钟", "900秒").replace("半小时", "1800秒")
    text = re.sub(rf"(\d+)分钟?(?:零|又)?(?:(\d+)秒|({numeral})(?!\w))", _minutes_and_seconds, text)
    text = re.sub(r"(\d+(?:\.\d+)?)个?小时", lambda m: f"{_plain(3600 * float(m[1]))}秒", text)
    return re.sub(r"(\d+(?:\.\d+)?)分钟", lambda m: f"{_plain(60 * float(m[1]))}秒", text)


def _minutes_and_seconds(match: re.Match[str]) -> str:
    return f"{_plain(60 * int(match[1]) + (int(match[2]) if match[2] else chinese(match[3])))}秒"
