"""What people take back while they speak, in five languages: "ten seconds, no wait, twelve", "wasps, sorry, mosquitoes".

Pure functions over text as it was typed; what is quoted stays as it is. Knows numbers, nothing of sounds and tools.
"""

from __future__ import annotations

import re
from functools import cache

from orchestrator.numbers import numerals

# "…, no wait, I meant …": what was said before it is taken back, all of it or its number.
_TAKEN_BACK = re.compile(
    r"[\s,.;:!?，。；—–-]+(?:"
    r"(?:oh |ah |um |er )?(?:no|nope|sorry|oops|wait|hold on|hang on|scratch that|correction|actually|i mean|or rather)"
    r"(?:[,.!\s]+(?:wait|no|sorry|actually|scratch that|hold on|i mean(?:t)?|make (?:it|that)|let's (?:say|make it)|rather|better))+"
    r"|i mean(?:t)?(?! it)|scratch that|or rather|correction|make that"
    r"|(?:nein|ne|nee|quatsch|halt|moment|ach|sorry|stopp)(?:[,.!\s]+(?:nein|doch|warte|lieber|moment|ich meine?|ich meinte"
    r"|sagen wir|besser|mach|quatsch))+"
    r"|(?:ach )?quatsch|ich meine?|ich meinte|besser gesagt|vielmehr"
    r"|(?:non|pardon|attends|enfin)(?:[,.!\s]+(?:non|attends|pardon|plutôt|enfin|je veux dire|je voulais dire|disons))+|je veux "
    r"dire|je voulais dire"
    r"|(?:no|perdón|perdona|espera)(?:[,.!\s]+(?:no|espera|perdón|mejor|digo|quiero decir|quería decir|que sean))+|quiero decir"
    r"|quería decir|mejor dicho|digo"
    r")[\s,:]+(?:(?:to say|dass|que|it's|make it|make that|an?)\s+(?=\d))?"
    r"|[，,。！!\s]*(?:不对|不是|等等|等一下|我说错了|哦不)[，,。！!\s]*(?:我是说|我的意思是|应该是|还是|改成|我要的是)?"
    r"|[，,。]我是说",
    re.I,
)
_FILLING = re.compile(
    r"\b(?:no|nein|ne|nee|non|sorry|oh|ah|wait|hmm|actually|ok|pardon|perdón|quatsch|warte|attends|espera)\b|[不对是]", re.I
)
_UNITS = r"(?:seconds?|secs?|s|sekunden?|sek|secondes?|segundos?|seg|minutes?|min|minuten?|minutos?|秒钟?|分钟)"
LENGTH = re.compile(
    rf"(?:\d+(?:[.,]\d+)?|[^\W\d_]+(?:-[^\W\d_]+)*)[ -]?{_UNITS}(?!\w)|[\d零一二三四五六七八九十百两]+(?:秒钟?|分钟)", re.I
)

# -- numbers: only the number is put right, wherever it stands -----------------------------------------------------------

_SPELLED = "|".join(map(numerals, ("en", "de", "fr", "es")))
_N = (
    rf"(?:\d+(?:[.,]\d+)?|(?:one|an?|eine?|une?|una?)(?=[ -](?:sec|sek|seg|min))|(?:{_SPELLED})(?![^\W\d_])"
    r"|[二三四五六七八九十百两]+(?=\s*(?:秒|分|步|吧|[，,。]|$)))"
)
_WEAK = (
    r"oh|ah|ach|um|er|euh|ehm?|mmm|hm+|but|aber|mais|pero|ok|okay|well|bon|bueno|actually|rather|better|please|ist|es|is|it's|that's"
    r"|doch|doch lieber|lieber|besser|eher|plutôt|plutot|mejor|finalement|al final|eigentlich"
)
_STRONG = (
    r"ideally|preferably|am besten|idealerweise|de préférence|idealmente|最好|but (?:i|we) (?:need|want)|aber ich (?:brauche|will)"
    r"|mais il m'en faut|mais j'en veux|pero (?:necesito|quiero)|ach was|ach quatsch"
    r"|no|nah|nope|wait|hold on|hang on|sorry|oops|scratch that|correction|i mean(?:t)?(?! it)|let's (?:say|make (?:it|that))"
    r"|make (?:it|that)"
    r"|make that|or rather|rather make it|on second thoughts?|better make it"
    r"|but (?:the|my|our|his|her) \w+(?: now)? (?:insists on|wants|needs|asked for|prefers|says|said)"
    r"|nein|ne|nee|nö|halt|moment|quatsch|stopp|ich meine?|ich meinte|sagen wir|machen sie(?: das| es)?|mach(?:en wir)?(?: das| es)?"
    r"|besser gesagt|vielmehr|doch lieber|lieber doch|pardon|verzeihung"
    r"|non|attends|attendez|enfin|disons|je veux dire|je voulais dire|plutôt|mettez(?: plutôt)?|mettons"
    r"|perdón|perdon|perdona|perdone|digo|espera|quiero decir|quería decir|mejor dicho|mejor|que sean"
    r"|算了|还是|不对|改成|改为|应该是|不是|不不|等等|等一下|我是说"
)
_UNIT = (
    r"(?:[ -]?(?:seconds?|secs?|s|sekunden?|sek|secondes?|segundos?|seg|minutes?|min|minuten?|minutos?)(?![^\W\d_])"
    r"|\s*(?:秒钟?|分钟))"
)
_BETWEEN = r"[^.;!?。；！？\d\"“”„«»「」]"
_BEFORE = r"(?:(?<![^\W\d_])|(?<=[\u3400-\u9fff])|(?=[\u3400-\u9fff]))"
_AFTER = r"(?:(?![^\W\d_])|(?<=[\u3400-\u9fff])|(?=[\u3400-\u9fff]))"
_FILLER = (
    rf"{_WEAK}|{_STRONG}|to|only|just|about|around|now|let's|auf|nur|etwa|so|das|daraus|à|a|sólo|solo|unos|unas|environ"
    rf"|seulement|que|sur|ce sera"
    r"|sera|les|die|mach|el total|吧|要"
)


@cache
def _put_right() -> re.Pattern[str]:
    """Compiled when it is first needed: a tenth of a second, which a program that reads no requests need not wait for."""
    return re.compile(
        rf"(?<!\d[.,])(?<![a-zA-Z\d_])(?P<old>{_N})(?P<unit>{_UNIT})?(?P<kept>{_BETWEEN}{{0,45}}?)"
        rf"(?:[\s,，:–—…-]|\.\.\.?|[.!](?=\s+(?:scratch that|make (?:that|it)|no,? wait|wait|actually,? no|sorry|quatsch|moment"
        rf"|non,? attends|pardon|no,? espera|perdón|mejor)\b))*(?:{_BEFORE}(?:{_WEAK}){_AFTER}[\s,，:–—-]*)*"
        rf"{_BEFORE}(?:{_STRONG}){_AFTER}(?:[\s,，:–—-]*{_BEFORE}(?:{_FILLER}){_AFTER})*[\s,，:–—-]*"
        rf"(?<![\d.,-])(?P<new>{_N})(?P<unit2>{_UNIT})?"
        r"(?P<tail>\s*(?:each|apiece|chacune?|jede[sr]?|cada una|daraus|吧|好了|就够了?|就行)(?![^\W\d_])"
        r"|\s+(?:is (?:enough|fine|plenty)|will do|would do|to (?:match|fit)|reichen|genügen|ça (?:suffit|ira|va)|c'est (?:assez"
        r"|bien)|das (?:reicht|genügt)|con eso basta|suffisent|suffiront|suffit|bastan"
        r"|basta|para que"
        r"|pour (?:coller|tenir|correspondre)|damit es|weil|because)\b[^.,;:!?–—-]*)?(?(unit2)|(?(tail)|(?=\s*(?:$|[^\w\s]))))",
        re.I,
    )


_LABEL = re.compile(r"(?:seed|guidance|steps?|cfg|schritte|graine|semilla|guía|pasos|étapes|种子|步数|引导)\s*[:=]?\s*$", re.I)
_SEPARATE = re.compile(r"(\"[^\"]*\"|“[^”]*”|„[^“”]*[“”]|«[^»]*»|「[^」]*」)")


def put_right(text: str) -> str:
    """``text`` with the number that counts, where one takes back another.

    >>> put_right("Tick of a clock, 25 seconds - actually no, 18 is enough for the scene - with seed 9")
    'Tick of a clock, 18 seconds - with seed 9'
    >>> put_right("five seconds each, make that six each"), put_right("本来想要10秒，还是改成12秒吧，不要风声")
    ('six seconds each', '本来想要12秒，不要风声')
    >>> put_right("35 Sekunden – ach nein, machen Sie 50 daraus –, mit Seed 12"), put_right("8 or 10 seconds of rain, no dogs")
    ('50 Sekunden –, mit Seed 12', '8 or 10 seconds of rain, no dogs')
    """
    return "".join(piece if k % 2 else _numbers_right(piece) for k, piece in enumerate(_SEPARATE.split(text)))


def _numbers_right(text: str) -> str:
    at = 0
    while (found := _put_right().search(text, at)) is not None:
        unit = found["unit2"] or found["unit"] or ""
        joined = re.search(r"\b(?:and|or|with|und|oder|mit|et|ou|avec|y|o|con|und dann|then)\s*$", found["kept"], re.I)
        if joined or (not unit and not _LABEL.search(text[: found.start()])):
            at = found.end("old")
            continue
        after = text[found.end() :]
        space = " " if after[:1] in ("–", "—", "-") else ""
        text = f"{text[: found.start()]}{found['new']}{unit}{found['kept'].rstrip(' ,，:–—-')}{space}{after}"
        at = found.start() + len(found["new"])
    return text


# -- things: "a swarm of wasps, sorry, of mosquitoes" --------------------------------------------------------------------

_INSTEAD = re.compile(
    r"\s*(?:[,，–—-]|\.{2,3}|…)\s*(?:(?:oh|ah|ach|no|non|nein|um|er)[\s,]+)*(?:sorry|pardon|oops|i mean(?:t)?|perdón|perdona"
    r"|digo|quatsch"
    r"|verzeihung|ich meine?"
    r"|entschuldigung|je veux dire|quiero decir|不对|不是|我是说)(?: me| moi)?\s*[,，:]\s*(?:(?:me he (?:liado|equivocado)"
    r"|my (?:mistake|bad)"
    r"|i got that wrong|je me trompe|je me suis trompée?|ich hab mich vertan|我说错了|说错了)\s*[,，]\s*)?(?P<new>[^\W\d_]+)",
    re.I,
)


_ARTICLES = (
    "a|an|the|some",
    "der|die|das|den|dem|ein|eine|einen|einem|einer|ne|nen",
    "un|une|le|la|les|des",
    "un|una|unos|unas|el|la|los|las",
)


def things_right(text: str) -> str:
    """``text`` without the thing that it takes back: what is named instead begins with the same little word.

    >>> things_right("un essaim de guêpes, pardon, de moustiques")
    'un essaim de moustiques'
    >>> things_right("Un hipopótamo, perdón, me he liado, un rinoceronte cerca")
    'un rinoceronte cerca'
    """
    found = _INSTEAD.search(text)
    if found is None or _SEPARATE.search(text):
        return text
    alike = "|".join(row for row in _ARTICLES if found["new"].lower() in row.split("|")) or re.escape(found["new"])
    led = list(re.finditer(rf"(?<!\w)(?:{alike})(?!\w)", text[: found.start()], re.I))
    return f"{text[: led[-1].start()]}{text[found.start('new') :]}" if led else text


def corrected(text: str) -> str:
    """Without what the text takes back: where only a number or a thing is put right, the rest stands; a length stays."""
    text = things_right(put_right(text))
    found = next(reversed(list(_TAKEN_BACK.finditer(text))), None)  # the last word counts
    if found is None:
        return text
    before, after = text[: found.start()].strip(), text[found.end() :].strip()
    if not re.search(r"\w{2}", _FILLING.sub("", before)) or not re.search(r"\w", after) or after.endswith(("吗？", "吗")):
        return text
    lengths = list(LENGTH.finditer(before))
    if lengths and not LENGTH.search(after):
        return f"{after.rstrip(' .!')}, {lengths[-1][0]}"
    return after
