"""An English request to its numbers and names: lengths, seeds, steps, backends, transcripts, negatives.

Pure functions over text. Knows neither the conversation nor what is meant to happen with the result.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

from orchestrator.conversation import without_addresses
from orchestrator.languages import spoken_by_itself
from orchestrator.numbers import digits
from orchestrator.wishes import asked, plainly

T = TypeVar("T")

_NUMBER = r"\d+(?:[.,]\d+)?"
_SECONDS = r"(?:milliseconds?|ms|seconds?|secs?|s)"
# "8 s", "8-second", "between 8 and 10 seconds" (the middle); words and minutes are seconds by then (numbers.py).
_DURATION = re.compile(
    rf"(?:\b(?:(?:some(?:where|thing) )?between )?(?P<least>(?<![\d.,:]){_NUMBER}) ?(?:and|to|or|-|–) ?)?"
    rf"(?<![\d.,:])(?<!\d-)\b(?P<n>{_NUMBER})[ -]?(?P<unit>{_SECONDS})(?![\w-]*\w)",
    re.IGNORECASE,
)
# "length: 20"
_LENGTH_SAID = re.compile(rf",?\s*\b(?:length|duration|laenge|long)\s*(?:of|is|=|:)\s*(?P<n>{_NUMBER})\b(?!\s*\w)", re.IGNORECASE)
# "every two seconds" and "in ten minutes" tell what is heard, not how long the sound is.
_CONTENT_BEFORE = re.compile(r"\b(?:at the|every|each|per|within|in|after|once|since|until|before|past|at)\s*$", re.IGNORECASE)
_CONTENT_AFTER = re.compile(
    r"^\s*(?:mark\b|in\b(?!\s+(?:length|total|all))|before|later|ago|after|apart|to midnight|past|earlier|away|late|early|old"
    r"|walk|drive)\b",
    re.IGNORECASE,
)
_DURATION_FRAME_BEFORE = re.compile(
    r"(?:,\s*|;\s*)?\b(?:(?:that|which)\s+(?:lasts?|is)|lasting(?:\s+for)?|for|about|around|roughly"
    r"|approximately|exactly|"
    r"length(?:\s+of)?|duration(?:\s+of)?|of|make\s+it|with|just|only|some|up\s+to|~|at\s+least)\s*[:=]?\s*$",
    re.IGNORECASE,
)
_DURATION_FRAME_AFTER = re.compile(
    r"^\s*(?:(?:each|apiece|long|in\s+length|in\s+total|or\s+so|please|clip|worth|total|duration|of\s+audio)\b\s*)*(?:of\b)?",
    re.IGNORECASE,
)
_MORE = re.compile(r"^\s*(?:longer|more|extra|shorter|less)\b", re.IGNORECASE)

QUOTES = '"“”„«»‟「」『』‹›'  # of all languages
_QUOTE = rf"[{QUOTES}]"
_QUOTED = rf"(?:{_QUOTE}\s*(?P<q1>[^{QUOTES}]+?)\s*{_QUOTE}|(?<!\w)['‘’](?P<q2>.+?)['’](?!\w))"
_SPEAK = (
    r"(?:say(?:s|ing)?|speak(?:s|ing)?|read(?:s|ing)?|announc(?:e|es|ing)|pronounce|whisper(?:s|ing)?|recite"
    r"|narrate|shout(?:s|ing)?|"
    r"yell(?:s|ing)?|tell(?:s|ing)?|voice(?:\s?over)?|utter|text[ -]to[ -]speech|tts|words?|sentence|phrase"
    r"|line|greeting)"
)
_TRANSCRIPT_QUOTED = re.compile(rf"\b{_SPEAK}\b[^{QUOTES}'‘’.!?]{{0,80}}{_QUOTED}", re.IGNORECASE)
# "“Mind the gap” as a station announcement"
_TRANSCRIPT_FIRST = re.compile(
    rf"^[^{QUOTES}'‘’]{{0,30}}{_QUOTED}(?=\W*(?:as|in|by|from|spoken|said|read|whispered|shouted"
    rf"|sung)\b[^.!?]*\b(?:announcement|voice|accent|speaker"
    r"|spoken|said|read|whisper\w*|shout\w*|narrator|announcer|robot|woman|man|girl|boy|child|tone|out loud|aloud)\b)",
    re.IGNORECASE,
)
# "“Player two has joined.” robotic, female. just speak the line"
_TRANSCRIPT_THEN = re.compile(
    rf"^\W*{_QUOTED}(?=.{{0,80}}\b(?:voice|speak|say|read|spoken|whisper(?:ed)?|robotic|narrator|announcer|female|male)\b)", re.I | re.S
)
_POLITE = (
    r"(?:(?:please|hey|hi|hello|ok(?:ay)?|so|well|now|and|then|just|can you|could you|would you|will you|i want you to|"
    r"i'd like you to|i would like you to|let (?:a|the) (?:voice|speaker|narrator|robot))[ ,]+)*"
)
_TRANSCRIPT_BARE = (
    re.compile(
        rf"^{_POLITE}(?:text[ -]to[ -]speech|tts|read(?:\s+this)?(?:\s+(?:aloud|out(?:\s+loud)?))?|speak|say)"
        r"(?:\s+(?:this|the following|these words)(?:\s+(?:aloud"
        r"|out(?:\s+loud)?))?)?\s*:\s*(?P<q1>.+)$",
        re.I | re.S,
    ),
    # "have a grumpy old man say: …"
    re.compile(
        rf"^[^:.!?{QUOTES}]{{0,60}}\b(?:read(?! (?:(?:this|it|me) )?(?:carefully|closely|again|twice|properly))|says?|saying"
        rf"|speak|announc(?:e|es|ing)|narrate|recite|whisper(?:s|ing)?|pronounce"
        rf"|voice|shout)\b"
        rf"(?!\s+(?:something|anything)\b)[^:{QUOTES}]{{0,40}}:\s*(?P<q1>.+)$",
        re.I | re.S,
    ),
    re.compile(  # "deep, slow. The line is: …"
        r"\b(?:(?:the |my )?(?:line|text|words?|sentence|script|copy)(?: (?:is|are|goes|reads|to (?:say|read"
        r"|speak)))?)\s*:\s*(?P<q1>\S.+)$",
        re.I | re.S,
    ),
    re.compile(
        rf"^{_POLITE}say(?:\s+(?:the words|out loud|aloud))?\s+(?P<q1>(?!(?:it|that|this|something"
        rf"|anything|again|so)\b).+)$",
        re.I | re.S,
    ),
    re.compile(rf"^{_POLITE}read\s+(?:aloud|out(?:\s+loud)?)\s+(?P<q1>.+)$", re.I | re.S),
    re.compile(
        r"\b(?:voice|narrator|speaker|announcer|robot)\s+(?:saying|that says|says|announcing"
        r"|reading)\s*:?\s+(?P<q1>[^,;\"“”]+)",
        re.I,
    ),
)

_SEED = re.compile(
    r"[,;(]?\s*\b(?:with\s+|using\s+|use\s+)?(?:the\s+|a\s+)?(?:random\s+)?seed(?:\s+number)?\s*(?:=|:|is|to"
    r"|of)?\s*#?(\d{1,18})\)?",
    re.I,
)
_STEPS = re.compile(
    rf"[,;(]?\s*(?:\b(?:with|using|use|at|in|run|take)\s+)?(?:\b(?:only|just"
    rf"|about)\s+)?\b(?:(?P<a>{_NUMBER})\s+(?:denoising|diffusion|inference|sampling|ddim)\s+steps\b"
    rf"|(?:inference_|denoising\s+|num_inference_)?steps\s*(?:=|:|of|to)\s*(?P<b>\d+)|(?<!\w )\bsteps\s+(?P<h>\d+)(?=\s*(?:[,.;)]|$))"
    rf"|(?<=with )(?P<c>\d+)\s+steps\b|(?<=use )(?P<d>\d+)\s+steps\b|(?<=using )(?P<e>\d+)\s+steps\b"
    rf"|(?<=at )(?P<f>\d+)\s+steps\b"
    rf"|(?P<g>\d+)\s+steps\b(?=\s*(?:only\b|[,;:.)]|$|and\s+(?:a\s+)?(?:guidance|cfg|seed))))(?:\s+only\b)?\)?",
    re.I,
)
_GUIDANCE = re.compile(
    r"[,;(]?\s*(?:\band\s+)?(?:\b(?:with|using|use|at)\s+)?(?:\b(?:a"
    r"|the)\s+)?\b(?:classifier[ -]free\s+)?(?:guidance|cfg)(?:[ _-]?scale)?"
    r"\s*(?:=|:|is|to|of|at)?\s*(\d+(?:[.,]\d+)?)\)?",
    re.I,
)
_NEGATIVE = re.compile(
    r"[,;(]?\s*\b(?:but\s+|and\s+|with\s+|please\s+)*(?:"
    r"without(?:\s+any)?|nobody(?=\s+\w+ing)|no\s+one(?=\s+\w+ing)|with\s+no|excluding|except(?:\s+for)?|minus|but\s+nobody(?:'s|\s+is)?|leav(?:e|ing)\s+out"
    r"|avoid(?:ing)?|free\s+of|"
    r"(?:(?:i\s+)?(?:do\s+not|don't|dont)\s+(?:want|include|add)(?:\s+any)?)|there\s+should\s+be\s+no|"
    r"(?:remove|drop|lose|scrap|ditch|kill|delete|mute|take\s+(?:away|out)|cut(?=\s+the\s+\w+\b(?!\s+(?:to|in|by))(?:\s*$|\s+please|[.,!]))|(?:get|getting)\s+rid\s+of)|"
    r"(?<=[,;]\s)(?:no|not(?:\s+any)?)|(?<=but\s)(?:no|not(?:\s+any)?)|(?<=and\s)no|(?<=[.?!:]\s)(?:no|not\s+any))"
    r"(?!\s+(?:longer|more|less|problem|idea|thanks|one|doubt|need|further)\b)\s+(?P<what>[^,;.!?()]+?)"
    r"\s*(?=$|[,;.!?()]|\b(?:(?:and|or)\s+(?:make|please|then|with|no|without)\b|and\s+(?:(?:a\s+(?:bit|little)|much|slightly)\s+\w+er"
    r"|slower|faster|louder|quieter|longer|shorter|calmer)\b|please|for\s+\d|but|in\s+it|this\s+time|at\s+all"
    r"|in\s+the\s+background)\b)",
    re.I,
)
_ARTICLE_WORD = r"(?:the |that |those |all )?"
_ARTICLES = re.compile(r"^(?:any|the|a|an|that|those|these|all|of)\s+", re.I)

_WISHES = re.compile(
    r"""^(?:[\s,.!:;-]*(?:
        (?:hi|hello|hey|yo|ok|okay|next|lol|so|well|yes|please|now|then|and|also|just|oh|great|thanks|thank\ you
        |cool|nice|sure|alright|hmm?)\b[\s,.!:]+
      | what\ (?:does|do|would|might|could|did)\ (?=.+\ sounds?(?:ed)?\ like\b)
      | (?:do\ you\ know\ |show\ me\ |let\ me\ hear\ )?how\ (?:does|do|would|might|could)?\ *(?=.+\ sounds?\b)
      | (?:can|could|would|will)\ (?:you|we|i|u|ya)\ (?:please\ |pls\ |be\ so\ kind\ as\ to\ |kindly\ |also\ 
      |maybe\ |possibly\ |perhaps\ )*
      | (?:i(?:'d|\ would)?\ (?:really\ |also\ |just\ )*(?:want|need|like|love|wish|prefer|am\ looking\ for|fancy)
      |i'm\ (?:looking\ for|after)|i\ am\ (?:looking\ for|after)|we\ (?:want|need)|looking\ for|let's|let\ us|let|do\ you\ have
      |have\ you\ got|is\ it\ possible\ to|how\ about|what\ about)\b\ *(?:you\ |me\ |us\ |it\ )?(?:to\ (?!the\b))?
      | (?:to\ )?(?:make|create|generate|produce|synthesi[sz]e|give|gimme|play|render|build|compose|do|get|send
      |bring|show|record|simulate|imitate|hear|have|listen\ to|design|cook\ up|come\ up\ with|find|add|try
      |put\ together|conjure(?:\ up)?|whip\ up)\b\ *(?:me\ |us\ |it\ |for\ me\ |up\ |like\ (?=\d|of\b
      |an?\b))*(?:like\ +of\ +|of\ +(?=\w))?
      | (?:some|an?|the|one|any|me)?\ *(?:short\ |long\ |nice\ |quick\ |good\ |realistic\ |little\ |fitting\ 
      |matching\ |suitable\ |audio\ |new\ |single\ )*(?:sound(?:\ ?effects?|scape)?s?|sfx|audio(?:\ clip)?|noises?
      |clips?|recordings?|samples?|effects?|track)\ (?:of|for|with|like|from|where|in\ which|that\ is|which\ is
      |that\ sounds\ like|showing|containing)\b\ *
      | (?:sound\ ?effects?|sfx|audio|sound|prompt|clip)\s*[:=-]\ *
      | (?:sounds?|noises?)\ (?:of|like)\ 
      | (?:something|anything|a\ sound|sounds?)\ (?:like|that\ sounds\ like|similar\ to|with)\ 
      | it\ (?:to\ )?(?:sounds?\ like|be)\ 
    ))+""",
    re.VERBOSE | re.IGNORECASE,
)
_TAIL = re.compile(
    r"(?:[\s,.!?;:-]|\b(?:to (?:pick|choose|select) from|so i can (?:pick|choose)|please|thanks|thank you|for me|if you can"
    r"|if possible|would be (?:nice|great|lovely|cool)|"
    r"let me hear (?:one|it|that)|can you do that|sounds? like|to me|ok|okay|and|with|but|for|about|of|see|use"
    r"|using|made|make it|like|"
    r"generated|created|for details|at)\b)+$",
    re.IGNORECASE,
)
_HOW_SOUNDS = re.compile(r"\s+(?:would\s+|might\s+)?sounds?(?:ed)?(?:\s+like)?\s*(?:[?.!].*)?$", re.IGNORECASE)

_MADE = r"(?:made\s+|generated\s+|created\s+|done\s+|rendered\s+)"
_NO_NAMES = frozenset({"another", "other", "different", "best", "same", "a", "default", "any", "which", "this", "that"})


# "everything else can stay": beside a change it says nothing
_THE_REST = re.compile(
    r"[,;.]?\s*(?:and |but )?(?:(?:everything|anything|all) else|the rest|all the rest)\b[^,.;]*?\b(?:stays?|remains?|same"
    r"|fine|good|perfect|as (?:it )?is"
    r"|untouched|alone|unchanged|great)\b[^,.;]*",
    re.I,
)


@dataclass(frozen=True)
class Parsed:
    """What a text says beside its subject. ``rest`` is the text without all that; None where nothing was said."""

    text: str
    rest: str
    seconds: float | None = None
    extra_seconds: float = 0.0  # "2 seconds longer": +2, "3 seconds shorter": -3
    seed: int | None = None
    steps: int | None = None
    guidance: float | None = None
    backend: str | None = None
    transcript: str | None = None
    negative: str = ""
    had_address: bool = False


def parse(text: str, backends: Sequence[str] = ()) -> Parsed:
    """Take a turn's text apart. ``backends`` are the names that "with NAME" may mean.

    >>> p = parse("half a minute of rain without birds, seed 7")
    >>> p.rest, p.seconds, p.negative, p.seed
    ('rain', 30.0, 'birds', 7)
    """
    whole = " ".join(re.sub(r"(?<!\w)[:;]-?[)(DP](?!\w)", " ", text.replace("\x00", " ")).split())
    whole = _THE_REST.sub("", with_names(whole, backends)) or whole
    rest = without_addresses(whole)
    had_address = rest != whole
    rest, transcript = _transcript(rest)
    whole, rest = digits(whole, "en"), plainly(digits(rest, "en"))
    rest, seed = _take(rest, _SEED, int)
    rest, guidance = _take(rest, _GUIDANCE, number)
    rest, steps = _take(rest, _STEPS, lambda n: int(n))
    rest, backend = _backend(rest, backends, any(value is not None for value in (seed, guidance, steps)))
    rest, seconds, extra = duration(rest)
    rest, negative = _negatives(rest)
    return Parsed(whole, _tidy(rest), seconds, extra, seed, steps, guidance, backend, transcript, negative, had_address)


def subject(rest: str) -> str:
    """What is to be heard, without "please make me the sound of".

    >>> subject("Could you make me the sound of heavy rain, please?")
    'heavy rain'
    """
    rest = re.sub(r"^\W*(?:something|anything|some sounds?) for (?=(?:an?|the|my|our)\b.*[.;:,].*\w)", "", asked(rest), flags=re.I)
    stripped = _WISHES.sub("", rest)
    if stripped != rest and re.match(r"(?is)\s*(?:do you know )?(?:how|what)\b|.*\bsounds? like\b|.*\bsounds\b", rest):
        stripped = _HOW_SOUNDS.sub("", stripped)
    return _TAIL.sub("", _tidy(stripped)).strip(" ,.;:!?-")


def duration(text: str) -> tuple[str, float | None, float]:
    """The text without its length, the length in seconds (None: not said), and seconds to add ("2 s longer")."""
    said = _LENGTH_SAID.search(text)
    if said:
        return f"{text[: said.start()]} {text[said.end() :]}", number(said["n"]), 0.0
    for match in _DURATION.finditer(text):
        before, after = text[: match.start()], text[match.end() :]
        if _CONTENT_BEFORE.search(before) or _CONTENT_AFTER.match(after) or _decade(match, after):
            continue
        value = number(match["n"]) / (1000 if match["unit"].lower().startswith("m") else 1)
        more = _MORE.match(after)
        if more:
            sign = -1.0 if more[0].strip().lower() in ("shorter", "less") else 1.0
            return f"{before} {after[more.end() :]}", None, sign * value
        if match["least"]:
            value = (value + number(match["least"])) / 2
        before = _DURATION_FRAME_BEFORE.sub(" ", before)
        before = re.sub(r"\b(?:a|an)\s*$", " ", before)
        after = after[_DURATION_FRAME_AFTER.match(after).end() :]  # type: ignore[union-attr]
        return f"{before} {after}", value, 0.0
    return text, None, 0.0


def _decade(match: re.Match[str], after: str) -> bool:
    """ "80s synth" is a style, "80s of synth" and "20s rain" are lengths."""
    years = re.fullmatch(r"(?:19|20)?([1-9])0s", match[0], re.I)
    counted = r"\s*(?:$|[,.;:!?)]|(?:of|long|please|for|with|and|or|in|at|clip|sound|total|max|then)\b)"
    if years is None or re.match(counted, after, re.I):
        return False
    return years[1] in "56789" or bool(_ERA.match(after))


_ERA = re.compile(
    r"[ -](?:\w+ )?(?:style\w*|synth\w*|pop|rock|disco|funk|jazz|swing|movie|film|tv|radio|sitcom|cartoon|game|arcade|vibe"
    r"|music|hits?|song|charts"
    r"|charleston|big band|soul|blues|punk|house|techno|rave|hip|computer|modem|phone|telephone|car)\b",
    re.I,
)


def number(text: str) -> float:
    """The value of "12", "2.5", "2,5".

    >>> number("2,5")
    2.5
    """
    return float(text.replace(",", "."))


def _transcript(text: str) -> tuple[str, str | None]:
    for pattern in (_TRANSCRIPT_QUOTED, _TRANSCRIPT_FIRST, _TRANSCRIPT_THEN, *_TRANSCRIPT_BARE):
        match = pattern.search(text)
        if match:
            group = "q1" if match["q1"] else "q2"
            words = match[group].strip(f" '‘’{QUOTES}")
            start, end = match.span(group)
            rest = (text[:start].rstrip(f" '‘:{QUOTES}") + " " + text[end:].lstrip(f" '’.{QUOTES}")).strip()
            if words:
                return rest, words
    quoted = re.search(_QUOTED, text)
    if quoted and quoted["q1"] and spoken_by_itself(text[: quoted.start()], quoted["q1"]):
        return f"{text[: quoted.start()].rstrip(' :')} {text[quoted.end() :]}".strip(), quoted["q1"].strip()
    return text, None


def _take(text: str, pattern: re.Pattern[str], read: Callable[[str], T]) -> tuple[str, T | None]:
    match = pattern.search(text)
    if match is None:
        return text, None
    value = next(group for group in match.groups() if group is not None)
    return f"{text[: match.start()]} {text[match.end() :]}", read(value)


_LEADS = frozenset("with using use via by through on ask let from try and vs versus against compare or than have".split())  # noqa: SIM905


def with_names(text: str, names: Sequence[str]) -> str:
    """``text`` with the names of systems as they are written here: "AudioLDM 2", "stable audio open", "audoldm2".

    A slip of one letter is forgiven in names of six letters and more, and in shorter ones behind "with", "by" and the like.

    A family's name alone means its usual system.

    >>> with_names("With AudioLDM 2: a harp, then by nnano", ("nano", "audioldm2"))
    'With audioldm2: a harp, then by nano'
    >>> with_names("musicgen against Stable Audio", ("musicgen-large", "musicgen-small", "stable-audio-open"))
    'musicgen-small against stable-audio-open'
    """
    known = _families(names) | {re.sub(r"[-_ .]", "", name): name for name in names}
    pieces = list(re.finditer(r"[^\W_]+", text))
    out, at, k = [], 0, 0
    while k < len(pieces):
        for size in range(min(4, len(pieces) - k), 0, -1):
            first, last = pieces[k].start(), pieces[k + size - 1].end()
            between = [text[a.end() : b.start()] for a, b in pairwise(pieces[k : k + size])]
            said = "".join(piece[0].lower() for piece in pieces[k : k + size])
            if any(gap not in ("-", "_", " ", "") for gap in between):
                continue
            led = k > 0 and pieces[k - 1][0].lower() in _LEADS
            name = known.get(said) if size == 1 or len(said) >= 6 else None
            if name is None and len(said) >= (4 if led else 6) and size <= 2 and not (led and said in _ENGLISH_LIKE):
                close = [own for own in known if _one_slip(said, own)]
                name = known[close[0]] if len(close) == 1 else None
            if name is not None:
                out += [text[at:first], name]
                at, k = last, k + size
                break
        else:
            k += 1
    return "".join([*out, text[at:]])


_ENGLISH_LIKE = frozenset({"piano"})
_USUAL = ("small", "s", "medium", "open")  # of a family's systems, the one that its name alone means


def _families(names: Sequence[str]) -> dict[str, str]:
    """What stands before a usual size ("musicgen"), and the smallest system of that name."""
    found: dict[str, str] = {}
    for size in _USUAL:
        for name in names:
            family = name.removesuffix(f"-{size}")
            if family not in (name, *names):
                found.setdefault(re.sub(r"[-_ .]", "", family), name)
    return found


def _one_slip(said: str, name: str) -> bool:
    """Whether one letter too many, too few, wrong or swapped with its neighbour is all that parts them; digits must agree."""
    if abs(len(said) - len(name)) > 1 or re.sub(r"\D", "", said) != re.sub(r"\D", "", name):
        return False
    k = next((k for k, (a, b) in enumerate(zip(said, name, strict=False)) if a != b), min(len(said), len(name)))
    a, b = said[k:], name[k:]
    return a != b and (a[1:] == b[1:] or a[1:] == b or a == b[1:] or (a[:2] == b[1::-1] and a[2:] == b[2:]))


_WORDS_TOO = frozenset({"tango", "melody", "nano"})  # a name that is also a word, or a unit
# Systems that people know from elsewhere: to name one is no wish for another, so the tool says that it is not here.
_ELSEWHERE = (
    r"(?:suno|udio|eleven ?labs|speech ?t5|mustango|vall-?e|xtts|tortoise(?: tts)?|voicebox|jukebox|stable audio 2|audiobox|melodyflow"
    r"|bark(?= (?:model|backend|system)|,? seed|,? (?:for|please|and) |[,;.]|$))"
)


def _backend(text: str, names: Sequence[str], technical: bool) -> tuple[str, str | None]:
    """``technical``: a seed, steps or guidance are said beside, so that "tango" between two commas is no dance."""
    for name in sorted(names, key=len, reverse=True):
        own = rf"(?<![\w-]){re.escape(name)}(?![\w-])"
        verb = rf"{_MADE}?(?:with|using|use|via|by|through|on|ask|let|from|try)\s+(?:the\s+)?(?:backend\s+|model\s+)?"
        named = rf"[,;(]?\s*\b{verb}{own}(?:\s+(?:backend|model|system))?\)?[:,]?|\bbackend\s*[:=]?\s*{own}"
        order = rf"\b(?:have|let|ask|make|get)\s+{own}\s+(?:to\s+)?(?:do|make|create|generate|produce|play|render)\b"
        # "half a minute, musicldm, seed 61": between commas
        listed = rf"(?<=[,;]\s){own}(?=\s*(?:[,;.]|$))" if technical or name not in _WORDS_TOO else r"(?!)"
        lone = rf"^\W*{own}\s*(?:,\s*please)?\s*[:,]" + (rf"|{own}" if re.search(r"[\d-]", name) else "")
        match = re.search(rf"{named}|{order}|{lone}|{listed}", text, re.I)
        if match:
            after = re.sub(r"^\W*(?:for|to)\s+", "", text[match.end() :]) if not match.start() else text[match.end() :]
            return f"{text[: match.start()]} {after}", name
    elsewhere = re.search(rf"[,;(]?\s*\b(?:with|using|use|via|by|on|through|let|have) (?P<name>{_ELSEWHERE})\b\)?[:,]?", text, re.I)
    if elsewhere:
        return f"{text[: elsewhere.start()]} {text[elsewhere.end() :]}", re.sub(r"\W", "", elsewhere["name"].lower())
    other = re.search(
        r"[,;(]?\s*\b(?:with|using|use|via)\s+(?:the\s+)?(?:backend\s+(\S+)|([\w.-]+)\s+(?:backend|model)"
        r"|(?=[a-z])([\w-]*\d)(?=\s*:)|(tango)(?=\s*(?:[,.;]|$)))\b"
        r"\)?[:,]?",
        text,
        re.I,
    )
    if other:
        name = (other[1] or other[2] or other[3] or other[4]).strip(".,:;").lower()
        if name not in _NO_NAMES:
            return f"{text[: other.start()]} {text[other.end() :]}", name
    return text, None


def _negatives(text: str) -> tuple[str, str]:
    found: list[str] = []

    def note(match: re.Match[str]) -> str:
        found.append(_ARTICLES.sub("", match["what"].strip()))
        return ", " if match.end() < len(text) else " "

    # "no music, just rain" and the like begin with the negative
    opened = re.sub(
        r"^\s*no\s+(?=\w+(?:\s+\w+)?\s*(?:,|$|please|this time))(?!longer|more|idea|problem|thanks|way)",
        "without ",
        text,
        flags=re.I,
    )
    opened = re.sub(
        r"\b(?:absolutely|definitely|certainly|positively|really|explicitly|especially|above all) (?=no\b|without\b"
        r"|not any\b)",
        "",
        opened,
        flags=re.I,
    )
    opened = re.sub(
        r"\b(?:and )?(?:i|we)(?:'d| would)? (?:want|need|like|prefer) (?:to have )?(?:the |that |this |all "
        r"|those )?([\w' -]+?) (?:gone|removed|taken out|out of (?:it|there|that))\b",
        r", without \1,",
        opened,
        flags=re.I,
    )
    opened = re.sub(r"(^|[.!?,;]\s+)please\s+(?=no\b|without\b)", r"\1", opened, flags=re.I)
    opened = re.sub(r"\b(but|and)\s+please\s+(?=no\b|without\b)", r"\1 ", opened, flags=re.I)
    opened = re.sub(
        rf"\b(?:take|leave)\s+({_ARTICLE_WORD}[\w -]+?)\s+out\b(?:\s+of\s+(?:it|that|the\s+\w+))?", r"without \1", opened, flags=re.I
    )
    rest = _NEGATIVE.sub(note, opened)
    if not found:
        return text, ""
    # "no seagulls, everybody uses seagulls": what is said of them besides goes, too
    named = [re.escape(word.removesuffix("s")) for each in found for word in re.findall(r"[^\W\d_]{4,}", each)]
    again = rf"[,;.]\s*[^,;.]*\b(?:{'|'.join(named)})(?:s|es)?\b[^,;.]*" if named else r"(?!)"
    return re.sub(again, " ", rest, flags=re.I), ", ".join(found)


def _tidy(text: str) -> str:
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r"\s+([,.;:!?])", r"\1", text)
    text = re.sub(r"([,;:])(?:\s*[,;:.])+", r"\1", text)
    return text.strip(" ,;:-")
