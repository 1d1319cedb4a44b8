"""Lengths, counts, steps and loudness as people abbreviate them, written out as the rules read them: "0:20", "x3", "4 Stück", 响度-23.

Pure functions over a stretch of a request that the reader (encoders/reader.py) saw as a setting: what would be too bold to read
anywhere in a request is safe there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, partial

from orchestrator.numbers import chinese, words
from orchestrator.parsing import number

_SECONDS = {"en": "{} seconds", "de": "{} Sekunden", "fr": "{} secondes", "es": "{} segundos", "zh": "{}秒"}
_TAKES = {"en": "{} takes", "de": "{} Versionen", "fr": "{} versions", "es": "{} versiones", "zh": "{}个版本"}
_MORE_TAKES = {
    "en": "{} more takes",
    "de": "noch {} Versionen",
    "fr": "{} autres versions",
    "es": "{} versiones más",
    "zh": "再来{}个版本",
}
_MORE = re.compile(r"\b(?:more|other|noch|weiteren?|anderen?|autres?|más)\b|de plus|再|多", re.I)
_N = r"(\d+(?:[.,]\d+)?)"
_BEFORE = r"(?<![\w.,:'’])"
_SECOND = r"(?:sek|seg|segs|sg|sgs|sekündchen|segunditos?)(?!\w)\.?"  # the others the rules read themselves
_LENGTHS: tuple[tuple[str, Callable[[re.Match[str]], float]], ...] = (
    (rf"{_BEFORE}(\d{{1,2}}):([0-5]\d)(?![\d:])(?: ?(?:min\w*|mn|m)\b)?", lambda m: _in_minutes(m)),
    (rf"{_BEFORE}(\d{{1,2}}) ?(?:['’′]|mn|min\b\.?) ?([0-5]?\d)(?: ?(?:[\"”″]|''|s(?:ec|ek)?\b))?(?!\w)", lambda m: _in_minutes(m)),
    (rf"{_BEFORE}(\d{{1,2}}) ?m(?:in)? ?([0-5]?\d) ?s(?:ec|ek)?(?!\w)", lambda m: _in_minutes(m)),
    (rf"{_BEFORE}{_N} ?(?:[\"″]|'')(?!\w)", lambda m: number(m[1])),
    (rf"{_BEFORE}{_N} ?(?:mn|['′])(?!\w)", lambda m: 60 * number(m[1])),
    (rf"{_BEFORE}{_N} ?{_SECOND}", lambda m: number(m[1])),
)
_WORDY = (
    (re.compile(r"\b(?:a|one) (?:full|whole) (minute|second)\b", re.I), r"1 \1"),
    (re.compile(r"\b(?:3/4|three fourths) of a minute\b", re.I), "45 seconds"),
    (re.compile(r"\b1/2 (?:a |of a )?minute\b", re.I), "30 seconds"),
    (re.compile(r"\bmedio minutito\b", re.I), "30 segundos"),
    (re.compile(r"\b(minut|segund)it(os?)\b", re.I), r"\1\2"),
    (re.compile(r"\b([\w.,]+) or so (seconds?|secs?|minutes?)\b", re.I), r"\1 \2"),
    (re.compile(r"\b(?:germe)\s*[:=]?\s*(\d+)", re.I), r"seed \1"),
    (
        re.compile(r"\b(?:cfg|guidage|guía|guiado|führung)(?:[ -]scale)?\s*(?:à|de|a|auf|[:=])?\s*(\d+(?:[.,]\d+)?)(?!\w)", re.I),
        r"guidance \1",
    ),
    (re.compile(r"\b(?:guidance )?(?:scale|échelle|escala|skala)\s*[:=]?\s*(\d+(?:[.,]\d+)?)(?![\d.,]*\w)", re.I), r"guidance \1"),
)
_APART = re.compile(
    r"\d ?(?:-|–|to|bis|à|a|y|et|und|and|到|至) ?\d|\b(?:from|between|ab|von|zwischen|entre|depuis|desde|at|bei|de|à)\b|[从第]", re.I
)
_ENDS = re.compile(r":\d\d\b.*:\d\d\b", re.S)  # two clocks: a region
_STEPS = re.compile(
    r"(?<!\w)(?:(?:diffusion|denoising|sampling|inference) )?(?:(?:step|schritt|étape|etape|pas|paso)s?(?: de \w+)?|步数|步驟|步骤)"
    r"\s*[:=：]?\s*(\d+)(?![\d.,:])"
    r"|(?<![\w.,])(\d+) ?(?:schritten?|steps|étapes?|etapes?|pas|pasos|步)(?!\w)",
    re.I,
)
_LOUDNESS = re.compile(
    r"(?:响度|響度|音量|loudness|lautheit|lautstärke|sonoridad|sonie|volum\w+)\s*(?:de|auf|to|at|of|von|a|à|到|为|為|[:=：])?\s*([-−–]\d+(?:[.,]\d+)?)(?![\d.,]|\s*(?:lu|lk|db))",
    re.I,
)
# What may stand beside a number that counts takes, and nothing else may.
_COUNTERS = {
    "en": """x × times take takes version versions variant variants variation variations different more other please sample samples
        option options alternative alternatives try tries go goes say give me make it them of piece pieces to choose from pick just in
        all each""",
    "de": """x × mal stück stücke version versionen variante varianten variation variationen take takes fassung fassungen weitere
        weiteren andere anderen verschiedene verschiedenen unterschiedliche noch in sagen wir zur auswahl bitte davon alternative
        alternativen versuche anläufe gern gerne gleich mach mache""",
    "fr": """x × fois version versions prise prises autre autres différent différents différente différentes en exemplaire exemplaires
        proposition propositions déclinaison déclinaisons essai essais échantillon échantillons variation variations variante variantes
        de plus""",
    "es": """x × veces versión version versiones toma tomas intento intentos variante variantes variación variaciones opción opciones
        más parecido parecidos parecida parecidas distinto distintos distinta distintas diferente diferentes por ejemplo en de
        alternativas""",
    "zh": "给 我 給 做 出 要 来 來 个 個 条 條 种 種 份 版 遍 次 段 不 同 的 版 本 变 体 變 體 再 多 请 請 x × 就 好 吧 一 共",
}
_SIMPLE = {
    "en": {"twice": 2, "thrice": 3},
    "de": {"zweimal": 2, "dreimal": 3, "viermal": 4, "fünfmal": 5, "sechsmal": 6},
    "zh": {"俩": 2, "倆": 2, "仨": 3},
}
MOST_TAKES = 12
# "version 2", "#2": one of them, no count.
_NUMBERED = re.compile(r"[#№第]|\b(?:no|nr|num)\b|n[°º]", re.I)
_NOUN = re.compile(
    r"(?:versi[oó]n\w*|variant\w*|variat\w*|variac\w*|takes?|tomas?|prises?|fassung\w*|samples?|options?|opci\w+|essais?|intentos?"
    r"|attempts?|try|版本?|[条條个個种種份])\s*$",
    re.I,
)


def written_out(stretch: str, language: str) -> str:
    """A setting as the rules read it, in its own language; as it is where it is none of these or they read it already.

    >>> written_out("0:20", "en"), written_out("4 Stück", "de"), written_out("x3", "fr"), written_out("三条", "zh")
    ('20 seconds', '4 Versionen', '3 versions', '3个版本')
    >>> written_out("2'30", "fr"), written_out("响度-23", "zh"), written_out("from 0:03 to 0:05", "en")
    ('150 secondes', '-23 LUFS', 'from 0:03 to 0:05')
    """
    for wordy, meant in _WORDY:
        stretch = wordy.sub(meant, stretch)
    said = _LOUDNESS.sub(lambda m: f"{m[1]} LUFS".replace("−", "-").replace("–", "-"), stretch)
    said = _STEPS.sub(lambda m: f"steps={m[1] or m[2]}", said)
    if not _APART.search(said) and not _ENDS.search(said):
        for pattern, value in _LENGTHS:
            said = re.sub(pattern, partial(_in_seconds, value=value, form=_SECONDS[language]), said, flags=re.I)
    takes = _counted(said, language)
    return (_MORE_TAKES if _MORE.search(said) else _TAKES)[language].format(takes) if takes else said


def plain_settings(text: str) -> list[tuple[int, int]]:
    """Where a count of takes or a length stands between signs or at an end, so that it can be nothing else: "…, x3", "… 0:20".

    >>> text = "bubble wrap 0:04, x3"
    >>> [text[begin:end] for begin, end in plain_settings(text)]
    ['0:04', 'x3']
    """
    if len(re.findall(r"\d:\d\d", text)) > 1:
        return [m.span() for m in _TIMES.finditer(text)]
    return sorted(m.span() for pattern in (_TIMES, _CLOCK) for m in pattern.finditer(text))


_TIMES = re.compile(
    r"(?:(?<=[\s,;.。，；、])|(?<=[\u3400-\u9fff]))[x×][2-9](?=$|[\s,;.。，；!！])|(?<=[,;，；] )[2-9][x×](?=\W*$|[,;])", re.I
)
_CLOCK = re.compile(
    r"(?:^|(?<=[,;.。，；、] )|(?<=[,;。，；、]))\d{1,2}:[0-5]\d(?!\d|:)"
    r"|(?<![\d:])(?<!\b(?:at|um|ab|de|la) )(?<!\blas )\d{1,2}:[0-5]\d(?=\W*$|[,;，；。])"
    r"|(?<![\w.,:])\d{1,2} ?m(?:in)? ?[0-5]?\d ?s(?!\w)"
)


def bare(stretch: str) -> bool:
    """Whether a stretch is a number alone, so that only what stands around tells what it counts.

    >>> bare("four"), bare("4."), bare("x4"), bare("四个")
    (True, True, False, False)
    """
    return not re.search(r"[^\W\d].*\s|[×]|^\W*x\d|\dx", stretch.strip(" .,!"), re.I) and not re.search(r"[\u3400-\u9fff]", stretch)


def _counted(said: str, language: str) -> int:
    """How many takes a stretch counts that holds one number and words of counting, nothing else; 0 where it does not."""
    rest = " ".join(re.sub(r"(?i)(?<![^\W\d])[x×](?=\d)|(?<=\d)[x×](?!\w)|[.,:;!?，。：！？()]", " ", said).lower().split())
    numbers = [(m, _value(m[0], language)) for m in _numeral(language).finditer(rest)]
    numbers = [(m, value) for m, value in numbers if value >= 2] or numbers
    if len(numbers) != 1 or not (1 <= numbers[0][1] <= MOST_TAKES) or numbers[0][1] % 1:
        return 0
    match, value = numbers[0]
    if _NUMBERED.search(said) or _NOUN.search(rest[: match.start()]):
        return 0
    beside = f"{rest[: match.start()]} {rest[match.end() :]}"
    parts = list(beside.replace(" ", "")) if language == "zh" else beside.split()
    return (
        int(value)
        if set(parts) <= set(_COUNTERS[language].split())
        and (parts or (value > 1 and language != "zh") or rest != said.lower().strip())
        else 0
    )


@cache
def _numeral(language: str) -> re.Pattern[str]:
    simple = "|".join(_SIMPLE.get(language, {})) or r"(?!)"
    if language == "zh":
        return re.compile(rf"\d+|{simple}|[二三四五六七八九十两]+|一(?=版|份)")
    known = [word for word, value in words(language).items() if 2 <= value <= MOST_TAKES and value % 1 == 0]
    spelled = "|".join(map(re.escape, sorted({*known, "fünf", "zwölf"} if language == "de" else known, key=len, reverse=True)))
    return re.compile(rf"(?<![\w.,-])(?:\d+|{simple}|{spelled})(?![\w.,]*\d|\w)", re.I)


def _value(said: str, language: str) -> float:
    simple = _SIMPLE.get(language, {})
    if said in simple:
        return float(simple[said])
    if said.isdecimal():
        return float(said)
    return chinese(said.replace("兩", "两")) if language == "zh" else words(language)[said.replace("ü", "u").replace("ö", "o")]


def _in_seconds(match: re.Match[str], value: Callable[[re.Match[str]], float], form: str) -> str:
    return form.format(f"{value(match):g}")


def _in_minutes(match: re.Match[str]) -> float:
    return 60.0 * int(match[1]) + int(match[2])
