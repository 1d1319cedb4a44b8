"""What a request asks for beside a new sound: an edit, a soundtrack, a comparison, a file, a picture or a video.

Rules over English text. Knows the conversation and the tools' arguments; what is left over is a sound or talk (chat_model.py).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from media.refs import MediaRef
from orchestrator.conversation import Conversation, Sound, Version, caption
from orchestrator.parsing import QUOTES, Parsed, number, parse, subject
from orchestrator.references import meant
from orchestrator.wishes import content


@dataclass(frozen=True)
class Act:
    """One tool with its arguments, or a question (``asks`` is not "") with the name of what it is about."""

    tool: str = ""
    arguments: tuple[tuple[str, Any], ...] = ()
    asks: str = ""
    about: str = "prompt"

    @property
    def args(self) -> dict[str, Any]:
        return {name: value for name, value in self.arguments if value not in (None, "", (), [])}


NO_SOUND = "There is no sound in this conversation yet. What should be heard?"
NO_VIDEO = "I have no such video yet: could you attach it?"
NOTHING_BEFORE = "There is no earlier version to go back to. What should be changed?"

_FORMAT = re.compile(r"\b(?:as|an?|in|to|the|of)?\s*\.?(wav|flac|ogg|mp3)\b(?:\s+(?:file|format|version))?", re.I)
_LUFS = re.compile(r"(?:\bat|\bto|\bwith|\bof|,)?\s*([-−–]\s?\d+(?:[.,]\d+)?|\d+(?:[.,]\d+)?)\s*(?:lufs|lkfs)\b", re.I)
_EXPORT = re.compile(
    r"\b(?:export|download|save|store|normali[sz]e|render out|bounce)\b(?!\s+(?:the )?(?:planet|world|day|me|us|money|all|every))"
    r"|\b(?:write|give|send|want|need|get|make|convert|turn|put|have)\b.*\b(?:wav|flac|ogg|mp3)\b|^\W*(?:as|to) (?:an? )?(?:wav"
    r"|flac|ogg|mp3)\b",
    re.I,
)
_AS_A_FILE = re.compile(r"\b(?:as|into|to|in)\s+(?:an?\s+)?\.?(?:wav|flac|ogg|mp3)\b", re.I)
# "tango" is a word; what something is compared with is a system.
_TANGO = re.compile(
    r"(?P<led>\b(?:with|against|to|vs\.?|versus|and|between|or)\s+)tango(?=\s*(?:$|[.,;:!?]|\b(?:on|for|and|with|vs|versus"
    r"|against|or)\b))"
    r"|\btango(?=\s+(?:vs|versus|against)\b)|(?<=compare )tango(?=\s*(?:,|and|with|to|against))"
    r"|(?<=, )tango(?= (?:music )?and [\w-]*\d)|(?<=\d, )tango\b|(?<=-[sml], )tango\b",
    re.I,
)
_COMPARE = re.compile(
    r"\b(?:compare|compar(?:ed|ing|ison)|(?:let me hear (?:both|them|all)(?: of them)? )?next to each other|side by side"
    r"|versus|vs\.?|a/b|ab test|against each other|compete|head to head"
    r"|shoot-?out)(?!\w)"
    r"|\b(?:which|what) (?:system|model|backend)s? (?:does|do|makes?|is|sounds?|handles?|plays?|can)\b.*\b(?:best|better)\b"
    r"|\b(?:all|every|each|both) (?:of )?(?:the |your )?(?:ready |available |music |speech |sound )?(?:systems?|models?|backends?)\b"
    r"|\b(?:which|what) (?:of (?:your|the) )(?:systems?|models?|backends?)\b|\btry them all\b|\b(?:several|different|multiple"
    r"|various|many|two"
    r"|three) (?:systems|models|backends)\b",
    re.I,
)
_MUSICAL = re.compile(
    r"\b(?:music|waltz|melody|song|beat|tune|jazz|techno|orchestra|piano|guitar|violin|symphony|lullaby|riff|groove|march|tango)\b",
    re.I,
)
_DRAWN = (
    r"(?:pictures?|images?|photos?|photographs?|drawings?|illustrations?|paintings?|posters?|sketch(?:es)?|portraits?"
    r"|cover (?:art|picture|image))"
)
_MAKING = (
    r"(?:make|do (?:me )?an?|create|generate|produce|render|give me|show me|i (?:want|need|would like|'d like)"
    r"|can you (?:make|do|create|draw|paint)|paint me|draw me)"
)
_IMAGE = re.compile(
    rf"^\W*(?:(?:please|now|then|and|ok|can you|could you|would you|i want you to|i'd like you to|let's)[\s,]+)*(?:draw|paint"
    rf"|sketch|illustrate)\b"
    rf"|\b{_MAKING}\b[^.;]{{0,30}}\b{_DRAWN}\b(?:\s+(?:of|showing|with|where|that shows|for)\b|\s*:|\W*$)"
    rf"|^\W*(?:an?|one|two|three|four|\d|another|some)?\s*(?:\w+\s+)?{_DRAWN}(?: (?:of|showing|for|with)\b|\s*:)",
    re.I,
)
_DRAWS = re.compile(
    rf"\b(?:draw|paint|sketch|illustrate|animate)\b|\b{_MAKING}\b[^.;]{{0,30}}\b(?:{_DRAWN}|videos?|films?|movies?)\b", re.I
)
_VIDEO = re.compile(
    rf"\banimate\b|\b{_MAKING}\b[^.;]{{0,30}}\b(?:videos?|vids?|animations?|movies?|films?|video clips?|footage)\b(?:\s+(?:of|showing"
    rf"|with|where|in which|that shows|from|out of)\b|\s*:|\W*$)"
    r"|^\W*(?:an?\s+)?(?:\w+\s+)?(?:video|animation|film|movie)(?: clip)? (?:of|showing|with)\b|\bvideo,? not (?:audio|sound)\b",
    re.I,
)
_HEARD = re.compile(r"\b(?:sounds?|noises?|audio|hear|soundtrack|score|music for|foley|ambience|dub|voice)\b", re.I)
_SCORING = re.compile(
    r"\b(?:soundtrack|score|foley|dub|vertone|sound ?design|film music|underscore|soundscape for|sound for|audio for|music for"
    r"|add (?:a )?sound)\b",
    re.I,
)
_A_VIDEO = re.compile(
    r"\b(?:this|that|my|the|our|attached|silent|previous|last)\s+(?:\w+\s+)?(?:video|film|movie|clip|footage|recording of)\b"
    r"(?!\s+(?:games?|calls?|stores?|cameras?|projectors?|players?))",
    re.I,
)
_KEEP = re.compile(
    r"\b(?:keep|leav|retain|preserv|maintain|conserv)\w*\s+(?:the\s+|its\s+|all\s+|their\s+|our\s+|my\s+|his\s+|her\s+|everybody's\s+)*(?:original|own"
    r"|my (?:own )?voices?|commentary|commentator|narration|narrator"
    r"|voice-?overs?|singing|dialogues?"
    r"|dialogs?|speech|voices?"
    r"|existing|interviews?|camera|conversations?|what [\w' ]+? (?:says?|said|(?:is|are|was|were) saying)"
    r"|talking)\b(?![^,.;]*\b(?:out|off|away"
    r"|behind)\b)[\w ]*?"
    r"\b(?:sound|audio|track|in)?\b"
    r"|\b(?:original|own|existing|live|camera)\s+(?:sound|audio|dialogues?|dialogs?|speech|voices?|commentary|track|interviews?)\b"
    r"[^,.;]{0,20}\b(?:must|should|has to|have to|needs? to|ought to|can|may|will|shall)?\s*(?:stays?|remains?|be kept)\b"
    r"|\b(?:don't|do not|without) (?:touch\w*|los\w+|remov\w+|mut\w+|replac\w+|chang\w+|tak\w+ away)\s+(?:the |its |our |my )*"
    r"(?:original |own |existing )?(?:sound|audio|voices?|dialogue|speech)[\w ]*"
    r"|\bkeep(?:ing)? what(?:'s| is)(?: already)? (?:on|in) (?:it|there)\b[\w ]*"
    r"|\bkeep(?:ing)? (?:the|its) (?:sound|audio)\b|\b(?:on top of|over|beside|alongside|mixed with) (?:the|its) (?:original|own"
    r"|existing)\b[\w ]*",
    re.I,
)
_DUCK = re.compile(
    r"\bduck(?:ed|ing|s)?\b[^,.;]*|\b(?:lower|quieten|dip|turn down)\b[^,.;]*\b(?:original|speech|voices?|dialogue|talk)\w*[^,.;]*",
    re.I,
)
_DROP = re.compile(
    r"\breplace (?:the|its|all (?:the|its)?) ?(?:sound|audio|track|noise)\b|"
    r"\b(?:drop|throw (?:away|out)|discard|replace|remove|mute|ditch|delete|lose|without|get rid of|kill|strip|cut|silence"
    r"|bin|chuck(?: out)?"
    r"|scrap|erase"
    r"|no|instead of|take out|turn off)\b[^,.;]*\b(?:original|existing|old|camera|location|production|its own|own|(?:video|film"
    r"|clip)'s)\b"
    r"(?:\s+(?:sound|audio|track|noise))?"
    r"|\b(?:original|existing|old|camera)\s+(?:sound|audio|track|noise)\s+(?:can|should|must|may|has to)?\s*(?:be )?(?:go|out"
    r"|off|away|removed"
    r"|dropped|muted|deleted)\b|\b(?:leave|take|throw)\s+(?:the|its) (?:original|own|old|camera)\b[^,.;]*\b(?:out|off|away)\b",
    re.I,
)
_LAYER = {
    "music": r"(?:(?:background )?music(?:al)?(?: layer)?|score|melod\w+|songs?|tunes?)",
    "foley": r"(?:foley|sound effects|effects|sfx|noises)",
    "ambience": r"(?:(?:(?:extra|additional|more|any more) )?(?:ambien\w+|atmos?\w*)|background(?! music)|room tone)",
}
_NOT_WANTED = (
    r"(?:no|zero|without(?: any)?|not|nothing|minus|leav(?:e|ing) out|skip(?:ping)?|drop(?:ping)?|omit(?:ting)?|exclud(?:e"
    r"|ing)|avoid|lose"
    r"|ditch|except(?: for)?|(?:don't|do not) (?:want|add|include|need|use)(?: any)?)"
)
_CUES = re.compile(
    r"\b(?:please|can you|could you|would you|i want|i need|i'd like|give|add|put|make|create|do|write|compose|generate|a|an|the"
    r"|some|full|whole"
    r"|complete|proper|fitting|matching|soundtrack|score|foley|sound ?design|sounds?|audio|track|music|musical|ambience|layers?"
    r"|only|just|nothing|but"
    r"|for|to|under|beneath|of|on|with|and|at|it|this|that|my|our|silent|is|its|has|now|something|video|film|movie|clip|footage"
    r"|scene|before|from|though|instead|also"
    r"|atmosphere|no|not|me|one|attached|everything|else|in|underneath|let|have|dub)\b",
    re.I,
)
_TIME = r"(\d+:\d\d(?:\.\d+)?|\d+(?:[.,]\d+)?)"
_S = r"(?:\s*(?:seconds?|secs?|s)\b)?"
_REGION = re.compile(
    rf"\b(?:from|between)\s+(?:the\s+)?(?:seconds?\s+)?{_TIME}{_S}\s*(?:to|until|till|and|through|-"
    rf"|–)\s*(?:the\s+)?(?:seconds?\s+)?{_TIME}(?:\s*(?:seconds?|secs?|s)\b)?"
    rf"|\bseconds?\s+{_TIME}\s*(?:to|until|till|and|through|-|–)\s*{_TIME}\b"
    rf"|(?<![\w.]){_TIME}{_S}\s*(?:-|–|to)\s*{_TIME}(?:\s*(?:seconds?|secs?|s)\b|(?<=:\d\d))",
    re.I,
)
_EDGE = re.compile(rf"\b(?:for |during |in )?the\s+(first|last|final|opening|closing)\s+{_TIME}?\s*(seconds?|secs?|s|half)\b", re.I)
# "everything after second 3", "from second 3 on": to the sound's end.
_ONWARDS = re.compile(
    rf"\b(?:everything|all|anything|the rest)\s+(?:after|from)\s+(?:the\s+)?(?:seconds?\s+)?{_TIME}(?:\s*(?:seconds?|secs?|s)\b)?"
    rf"|\b(?:from|after)\s+(?:second\s+{_TIME}|{_TIME}\s*(?:seconds?|secs?|s))\s+(?:on(?:wards?)?\b|(?:to|until|till) the end\b)",
    re.I,
)
_EXTEND = re.compile(
    r"\b(?:add|tack on|append)\s+(?:another\s+)?(?:\d+(?:[.,]\d+)?) (?:more )?seconds?\b(?=\s*(?:$|[,.!]|more|to it"
    r"|at the end|to the end|please))|"
    r"\b(?:extend|prolong|lengthen)\b(?:\s+(?:it|that|this|the (?:sound|clip|last one|first one|second one)))?"
    r"|\b(?:stretch|drag|draw) (?:it|that|this) out\b|\bstretch (?:it|that|this)\b"
    r"|\blet it (?:run|play|go)\b|\b(?:carry|go|keep) (?:on|going)\b[^,.;]*?(?=\bfor\b|\buntil\b|\btill\b|[,.;]|$)"
    r"|\bcontinue\b(?:\s+(?:it|that|this))?"
    r"|\b(?:keep|leave) (?:it |that |this )?(?:rolling|going|running|playing)\b"
    r"|\b(?:till|until) it(?:'s| is| hits| reaches| lasts| has)\b",
    re.I,
)
_RESTORE = re.compile(
    r"\bgo back to (?:that|it)\W*$|"
    r"^\W*(?:\w+,\s+)?i (?:really |just )?(?:liked?|prefer(?:red)?) "
    r"(?=the (?:earlier|previous|first|last|old|original|second|third|one before)"
    r"(?: one| version| sound| take)?(?: (?:better|more|best))?\W*$)"
    r"|^\W*(?:(?:no|hmm+|ok|actually|honestly|i think|well)[\s,]+)*"
    r"(?=the (?:earlier|previous|first|last|old|original|second|third|one before)(?: one| version| sound| take)? "
    r"(?:was|is|sounded|sounds|worked) (?:\w+ )?(?:better|nicer|best)\b)"
    r"|^\W*(?:(?:please|ok|no|nope|nah|hmm|oh|sorry|let's|can you|could you|i want to|actually|better|scrap that|forget (?:that|it)"
    r"|never mind|and|then|now|just)[\s,]+)*(?:undo(?:\s+(?:that|it|this"
    r"|the last (?:change|step|edit)))?|(?:scrap|discard|cancel|drop|take back|revoke|forget) (?:the |that "
    r"|my )?last (?:change|edit|step)"
    r"|revert(?:\s+(?:that|it|this))?|restore|(?:go|take me|bring me|get|return|switch)?\s*back)\b",
    re.I,
)
_BACK = re.compile(
    r"\bhow it was\b|\b(?:first|1st|second|2nd|third|3rd|fourth|fifth|previous|original|last|middle|before|earlier|prior)\b", re.I
)
_STYLE = re.compile(
    r"\b(?:in the (?:style|manner) of|as if (?:it (?:were|was|came)|played|recorded)|stylis?z?ed? (?:as|like))\s+(?P<style>.+)", re.I
)
# "turn my guitar riff into a string quartet", of a recording that came along
_TURNED = re.compile(
    r"\b(?:turn|convert|transform|change|make|replace)\s+(?:it|this|that|(?:my|the|this)\s+[^,.;]+?)\s+(?:into|to|in|with"
    r"|as)\s+(?P<new>(?!(?:wav"
    r"|flac|ogg|mp3)\b)[^,.;]+)|\b(?:make|let)\s+(?:it|this|that)\s+sound\s+(?:like\s+|as\s+)?(?P<like>[^,.;]+)"
    r"|\b(?:hear|have|want|like|play)\s+(?:it|this|that)\s+(?:as|like)\s+(?P<as>[^,.;]+)",
    re.I,
)
_VARY = re.compile(
    r"\b(?:an?|some|another|one)\s+(?:(\w+)\s+)?(?:variation|variant)\b(?!s)|\bvary\s+(?:it|that|this)\b(?:\s+(\w+))?"
    r"|\b(slight|slightly|subtle|small|a (?:tiny |little )?(?:bit|touch|tad|hair)|a little|only|just) different(?:ly)?\b"
    r"|\b(?:variants|variations)\b(?= of (?:it|that|this|the\b))|\b(?:variants|variations)\W*(?:$|,? (?:please|close|near))"
    r"|\banother (?:take|version|go|try|shot) (?:of|at|on) (?:it|that|this|the (?:same|first|second|third|fourth|last|one|previous))\b"
    r"|\b(?:a |two |three |\d )?similar (?:one|ones|version|versions|take|takes)\b(?! to\b| of\b)"
    r"|\bclose to the (?:original|first|second|third|last)\b",
    re.I,
)
_STRENGTH = {"slight": 0.3, "small": 0.3, "subtle": 0.25, "slightly": 0.3, "strong": 0.75, "big": 0.75, "wild": 0.85, "strongly": 0.75}
_CHANGES = re.compile(
    r"\b(?:and|but|then)\s+(?:make|with|without|add|replace|longer|shorter)\b|\b(?:longer|shorter|with|without|add|but)\b", re.I
)


def act(
    said: Parsed,
    attached: tuple[MediaRef, ...],
    earlier: Conversation,
    tools: Collection[str],
    which: Sound | None,
    describing: bool,
    backends: Sequence[str] = (),
) -> Act | None:
    """The tool other than ``generate_audio`` and ``describe_media`` that ``said`` asks for; None where it asks for none.

    Args:
        tools: names of those that are bound; others are never answered with.
        which: the earlier sound that the text means, the last where it names none; None where there is none.
        describing: it is a question about what a medium shows.
    """
    text = said.text
    heard = tuple(ref for ref in attached if ref.kind == "audio")
    if (
        "export_audio" in tools
        and (_EXPORT.search(text) or only_a_file(text) or ((which or heard) and _AS_A_FILE.search(text)))
        and not re.match(r"\W*(?:how|where|what)\b", text, re.I)
        and (not describing or only_a_file(text))
        and (_exports(text) or which or heard)
    ):
        sounding = heard[0] if heard else which.media if which else earlier.last("video")  # a film's soundtrack
        return _export(text, sounding.id if sounding else "")
    compares = _COMPARE.search(text) or len(_named(text, backends)[0]) > 1
    if (
        "compare" in tools
        and compares
        and not (attached and describing)
        and (found := _compare(said, attached, earlier, which, backends))
    ):
        return found
    video = next((ref for ref in attached if ref.kind == "video"), None)
    if video is None and (_A_VIDEO.search(text) or re.search(r"\bsoundtrack for (?:it|that)\b", text, re.I)):
        video = earlier.last("video")
    shown = said.rest if said.seconds is not None else text  # "a 4 second video of …"
    if (
        "generate_video" in tools
        and not re.match(r"\W*(?:(?:please|can you|could you)[\s,]+)*(?:draw|paint|sketch|illustrate)\b", text, re.I)
        and (_VIDEO.search(text) or _VIDEO.search(shown))
        and not _HEARD.search(_no_audio(text))
        and not _points(_no_audio(text), "video")
    ):
        return _picture("generate_video", said, attached)
    drawn = _IMAGE.search(text) or _IMAGE.search(_no_audio(text))
    if "generate_image" in tools and drawn and not _HEARD.search(_no_audio(text)) and not _points(text, "image"):
        return _picture("generate_image", said, attached)
    if describing:
        return None
    if "soundtrack_video" in tools:
        if video is not None and (attached or _SCORING.search(text) or _A_VIDEO.search(text)):
            return _soundtrack(said, video)
        if video is None and not attached and _A_VIDEO.search(text) and _scores(said):
            return Act(asks=NO_VIDEO)
    if "edit_audio" not in tools or any(ref.kind != "audio" for ref in attached):
        return None
    return _edit(said, earlier, heard[0] if heard else None, which)


def carried_out(
    tool: str,
    kind: str,
    said: Parsed,
    attached: tuple[MediaRef, ...],
    earlier: Conversation,
    which: Sound | None,
    backends: Sequence[str],
    firm: bool = False,
) -> Act | None:
    """``tool`` with the arguments of ``said``, where somebody else decided for it; None where the conversation does not allow it.

    Args:
        kind: of an edit.
        firm: an edit of another kind is none of those that are meant.
    """
    heard = next((ref for ref in attached if ref.kind == "audio"), None)
    source = heard.id if heard else which.media.id if which else ""
    if tool == "export_audio":
        film = earlier.last("video")
        source = source or (film.id if film else "")
        return _export(said.text, source) if source else None
    if tool == "compare":
        return _compare(said, attached, earlier, which, backends)
    if tool in ("generate_image", "generate_video"):
        asked = _DRAWS.search(said.text)
        return _picture(tool, said, attached) if not attached or asked else None
    if tool == "soundtrack_video":
        video = next((ref for ref in attached if ref.kind == "video"), None) or earlier.last("video")
        return _soundtrack(said, video) if video else None
    if tool != "edit_audio" or not source:
        return None
    found = _edit(said, earlier, heard, which)
    if found is not None and not (firm and found.args.get("kind") not in (kind, "inpaint")):
        return found
    if kind in ("", "inpaint"):
        return None if firm else found
    if kind == "restore":
        return _restored(said.text, earlier, which, named=bool(_BACK.search(said.text)) and not _PREVIOUS.search(said.text))
    common = (("source", source), ("seed", said.seed), ("steps", said.steps), ("guidance", said.guidance), ("backend", said.backend))
    if kind == "extend":
        return Act("edit_audio", (*common, ("kind", "extend"), ("seconds", _extended(said, which)), ("prompt", "")))
    if kind == "variation":
        same = str(which.request.get("prompt") or "") if which and not heard else ""
        return Act("edit_audio", (*common, ("kind", "variation"), ("strength", 0.5), ("prompt", same)))
    return Act("edit_audio", (*common, ("kind", kind), ("prompt", subject(said.rest)), ("negative_prompt", said.negative)))


def _scores(said: Parsed) -> bool:
    """Whether a video is what the sound is for, rather than the place that a sound of its own is wanted for."""
    for_it = _SCORING.search(said.text)
    if for_it is None:
        return False
    return not re.search(r"\b(?:sound|audio|music|soundscape) for\b", for_it[0], re.I) or not content(subject(said.rest))


def _points(text: str, kind: str) -> bool:
    """Whether the text speaks of a picture or video that is there ("animate this picture" may)."""
    nouns = r"(?:picture|photo|image|drawing)s?" if kind == "image" else r"(?:video|film|movie|clip)s?"
    return bool(re.search(rf"(?<!just )(?<!only )\b(?:this|that|these|those|my|the|attached)\s+(?:\w+\s+)?{nouns}\b", text, re.I))


def _no_audio(text: str) -> str:
    denied = r"(?:not|no|without|instead of|(?:do not|don't|i don't|i do not) (?:want|need))"
    return re.sub(rf"\b{denied}\s+(?:any\s+)?(?:audio|sound|a sound)\b(?:\s+(?:this time|now|today|but))*\W*", " ", text, flags=re.I)


def _exports(text: str) -> bool:
    """Whether it can only be about a file: a format, a loudness, or "export it"."""
    return bool(
        _FORMAT.search(text)
        or _LUFS.search(text)
        or re.search(
            r"^\W*(?:please )?(?:export|download|save)\s+(?:it|that|this|the\b.*\b(?:sound|one|version|file|last|clip))", text, re.I
        )
    )


def only_a_file(text: str) -> bool:
    """Whether a format or a loudness is all that is said, beside which sound is meant."""
    rest = _FORMAT.sub(" ", _LUFS.sub(" ", text))
    return rest != text and not re.search(_BESIDE_A_FILE, rest, re.I)


_BESIDE_A_FILE = (
    r"\b(?!(?:please|as|in|to|at|of|the|a|an|it|that|this|me|my|now|one|sound|version|file|files?|first|second|third|last"
    r"|previous|and"
    r"|with|ok|thanks|for|into|loudness|level|format|both|make|want|i|can|have|you|could|send|get|pass)\b)[a-z']{2,}"
)


def _export(text: str, source: str) -> Act:
    if not source:
        return Act(asks=NO_SOUND)
    formats = _FORMAT.search(text)
    form = formats[1].lower() if formats else None
    return Act("export_audio", (("media", [source]), ("format", form), ("lufs", lufs(text))))


def lufs(text: str) -> float | None:
    """A loudness such as "-16 LUFS"; a number without its sign is below zero all the same.

    >>> lufs("at -16 LUFS"), lufs("14 lufs please")
    (-16.0, -14.0)
    """
    found = _LUFS.search(text)
    return -abs(float(re.sub(r"[-−–\s]", "", found[1]).replace(",", "."))) if found else None


def told_apart(versions: Sequence[Version]) -> str:
    """A, B and so on: which version each is, and what."""
    return "; ".join(f"{letter} is version {v.number}, {caption(v)}" for letter, v in zip("ABCDEFGH", versions, strict=False)) + "."


_IT = re.compile(
    r"(?:(?:it|this|that|these|those|them|both|(?:the )?two|(?:this|that|the (?:last )?)\s?(?:one|sound)?|the same"
    r"|(?:both |the |two )*versions)(?:\s+(?:to|with))?)?",
    re.I,
)


def _compare(
    said: Parsed, attached: Sequence[MediaRef], earlier: Conversation, which: Sound | None, backends: Sequence[str]
) -> Act | None:
    tango = "the tango backend"
    text = _tango_named(said.text, tango, [name for name in backends if name != "tango"])
    names, rest = _named(text, (*backends, tango))
    names = [name for name in names if not _left_out(name, text)]
    names, what = ["tango" if name == tango else name for name in names], rest
    asked = meant(said.text, earlier.versions)
    if not names and asked.asked == "compare" and len(asked.versions) > 1:
        return Act(asks=f"{told_apart(asked.versions)} Which one is better?", about="versions")
    led = re.search(rf"(?:\bon\b|\bfor\b|\bwith\b|\bdo(?:es)? with\b|:)\s*['‘{QUOTES}]?(?P<what>\w.*)$", rest, re.I)
    before = re.sub(r"\b(?:how|do|does|and|or|between|the|models?|systems?)\b", " ", rest[: led.start()] if led else "", flags=re.I)
    if content(subject(_COMPARE.sub(" ", before))):
        led = None  # "rain on a tent, with A and with B"
    fed = re.search(r"\b(?:run|put|send|pass|feed|give)\s+(?P<what>.+?)\s+(?:through|to|past)\b(?=\s*(?:$|[,.]|and\b))", rest, re.I)
    led = fed or led
    rest = _COMPARE.sub(" ", led["what"] if led else rest)
    rest = re.sub(
        r"^(?:\W|\b(?:how|do|does|each|on|for|with|by|of|in|let|and|test|please|between|against|play|them|make|the|systems?|models?"
        r"|handle)\b)+",
        "",
        rest,
    )
    wanted = subject(re.sub(r"(?:\W|\b(?:by|with|and|please|from|on|them|play|against)\b)+$", "", _numbers_out(rest)))
    wanted = wanted.strip(f" '‘’{QUOTES}")
    if not names and not re.search(r"\b(?:systems?|models?|backends?|compare)\b", said.text, re.I):
        return None
    if not attached and _SAID_OF_SYSTEMS.match(wanted):
        return None
    request: dict[str, Any] = {}
    if not attached and _IT.fullmatch(wanted):
        wanted = ""
        if which is not None:  # "compare it with NAME": that sound's request, by its own system and the other one
            request, wanted = which.request, str(which.request.get("prompt") or "")
            names = list(dict.fromkeys([which.backend, *names])) if names else []
    if not wanted and not attached:
        return Act(asks="On what should they be compared: what should be heard?")
    task = "speech" if said.transcript else "music" if _MUSICAL.search(f"{wanted} {what}") else "sound"
    arguments = (
        ("prompt", wanted), ("media", [ref.id for ref in attached] or [m["id"] for m in request.get("media") or ()]),
        ("backends", names), ("task", task), ("seconds", said.seconds or request.get("seconds")),
        ("seed", request.get("seed") if said.seed is None else said.seed),
        ("transcript", said.transcript or request.get("transcript")), ("negative_prompt", said.negative), ("steps", said.steps),
        ("guidance", said.guidance),
    )  # fmt: skip
    return Act("compare", arguments)


def _tango_named(text: str, name: str, others: Sequence[str]) -> str:
    """``text`` with ``name`` where the system TANGO is meant: compared with something, or beside other systems; else it is a dance."""
    text = _TANGO.sub(lambda found: f"{found['led'] or ''}{name}", text)
    known = "|".join(map(re.escape, others)) or "(?!)"
    joint = r"\s*(?:,|and|or|/|&|,\s*and)\s*"
    text = re.sub(rf"(?<![\w-])tango(?={joint}(?:{known})(?![\w-]))", name, text, flags=re.I)
    return re.sub(rf"(?<![\w-])(?P<led>(?:{known}){joint})tango(?![\w-])", rf"\g<led>{name}", text, flags=re.I)


# "which of the models is the fastest?" names nothing to be heard.
_SAID_OF_SYSTEMS = re.compile(
    r"(?:is|are|was|do you|does|would you|should i|can i|needs|takes|runs)\b(?!.*\b(?:at|for|on|with|of) (?!all\b|this\b|me\b))",
    re.I,
)


def between_systems(text: str, backends: Sequence[str]) -> bool:
    """Whether it can be about several systems: a word for them or for comparing, or two of their names."""
    return (
        bool(_COMPARE.search(text) or re.search(r"\b(?:systems?|models?|backends?)\b", text, re.I))
        or len(_named(text, backends)[0]) > 1
    )


def _left_out(name: str, text: str) -> bool:
    """Whether a system is named to say that it is not to take part: "… and riffusion, no, without riffusion"."""
    own = re.escape(name)
    before = r"(?:without|not|drop|leave out|except(?: for)?|minus|rather than|instead of|skip|forget(?: about)?)"
    return bool(re.search(rf"\b{before},? {own}(?![\w-])|(?<![\w-]){own} (?:\w+ ){{0,3}}(?:out|away|off)\b", text, re.I))


def _named(text: str, backends: Sequence[str]) -> tuple[list[str], str]:
    """The systems that the text names, in their order, and the text without them."""
    found: list[tuple[int, str]] = []
    for name in sorted(backends, key=len, reverse=True):
        pattern = re.compile(rf"(?<![\w-]){re.escape(name)}(?![\w-])", re.I)
        for match in pattern.finditer(text):
            found.append((match.start(), name))
            text = text[: match.start()] + " " * len(match[0]) + text[match.end() :]
    return list(dict.fromkeys(name for _, name in sorted(found))), re.sub(r"\s+", " ", text)


def _numbers_out(text: str) -> str:
    return parse(text).rest


def _picture(tool: str, said: Parsed, attached: Sequence[MediaRef]) -> Act:
    count = re.search(
        r"\b(two|three|four|2|3|4)\s+(?:different\s+|\w+\s+)?(?:pictures|images|photos|drawings|versions"
        r"|illustrations|posters|covers|paintings|sketches|logos|icons|portraits|wallpapers)\b",
        said.rest,
        re.I,
    )
    rest = re.sub(rf"^.*?\b(?:animate)\b\s*(?:this|that|the|my)?\s*(?:{_DRAWN})?", " ", said.rest, flags=re.I)
    rest = re.sub(r",?\s*\bvideo,? not (?:audio|sound)\b", " ", rest, flags=re.I)
    nouns = rf"(?:{_DRAWN}|videos?(?: clips?)?|animations?|movies?|films?|clips?|footage)"
    led = re.search(rf"\b{nouns}\b\s*(?:of|showing|with|where|in which|that shows|for|:)\s*(?P<what>.+)$", rest, re.I)
    drawn = re.search(r"\b(?:draw|paint|sketch|illustrate|showing)\s+(?:me\s+)?(?P<what>.+)$", rest, re.I)
    what = (led or drawn or re.match("(?P<what>.*)", rest))["what"]  # type: ignore[index]
    cover = re.search(rf"\b{nouns}\s*:\s*(?P<what>.+)$", rest, re.I)
    what = cover["what"] if cover else what
    many = {"two": 2, "three": 3, "four": 4}
    arguments = (
        ("prompt", subject(what)), ("media", [ref.id for ref in attached]), ("seed", said.seed), ("negative_prompt", said.negative),
        ("steps", said.steps), ("guidance", said.guidance),
        ("count", (many.get(count[1].lower()) or int(count[1])) if count and tool == "generate_image" else None),
        ("seconds", said.seconds if tool == "generate_video" else None),
    )  # fmt: skip
    made = Act(tool, arguments)
    return made if made.args.get("prompt") or attached else Act(asks="What should it show?")


def layers_without(unwanted: str) -> tuple[str, ...]:
    """The layers of a soundtrack that are left of what is not wanted, in English; () where it names no layer, or all.

    >>> layers_without("music"), layers_without("birds")
    (('ambience', 'foley'), ())
    """
    gone = [layer for layer, words in _LAYER.items() if re.search(rf"\b{words}", unwanted, re.I)]
    left = tuple(layer for layer in ("ambience", "foley", "music") if layer not in gone)
    return left if gone else ()


def _soundtrack(said: Parsed, video: MediaRef) -> Act:
    text = said.text
    original = "keep" if _KEEP.search(text) else "drop" if _DROP.search(text) else "duck" if _DUCK.search(text) else None
    gone = [
        layer
        for layer, words in _LAYER.items()
        if re.search(rf"\b{_NOT_WANTED}\s+(?:the\s+|any\s+|a\s+)?{words}(?!\s+only)", text, re.I)
        or re.search(rf"\b(?:leave|take|keep|cut)\s+(?:the\s+)?{words}\s+(?:layer\s+)?(?:out|off|away)\b", text, re.I)
        or re.search(rf"\b{words}[ -]free\b", text, re.I)
        or any(re.search(rf"\b{words}", part, re.I) for part in said.negative.split(", "))
        or (layer == "foley" and any(re.search(r"^(?:any |the )?(?:sounds?|noises?)\b", part) for part in said.negative.split(", ")))
    ]
    only = re.search(r"\b(?:only|just|solely|nothing but)\b[^.;,]*\w[^.;,]*|[^.;,]*\bonly\b(?=\W*(?:$|[.;,])|\s+[-–—])", text, re.I)
    kept = [layer for layer, words in _LAYER.items() if only and layer not in gone and re.search(rf"\b{words}", only[0], re.I)]
    if kept:
        gone = [layer for layer in _LAYER if layer not in kept]
    layers = [layer for layer in ("ambience", "foley", "music") if layer not in gone] if gone else None
    rest = said.rest
    for pattern in (_KEEP, _DROP, _DUCK, _LUFS):
        rest = pattern.sub(" ", rest)
    for words in _LAYER.values():
        rest = re.sub(rf"\b(?:{_NOT_WANTED}\s+(?:the )?{words}|leave\s+(?:the )?{words} out)", " ", rest, flags=re.I)
    mood = " ".join(_CUES.sub(" ", rest).split()).strip(" ,.;:!?-")
    layer = rf"\b(?:{'|'.join(_LAYER.values())}|sound)"
    negative = ", ".join(n for n in said.negative.split(", ") if n and not re.search(layer, n, re.I))
    negative = "" if re.search(r"\b(?:original|own)\b", negative) else negative
    prompt = f"{mood}, without {negative}" if mood and negative else mood
    arguments = (
        ("media", [video.id]), ("prompt", re.sub(r"\s+,", ",", prompt)), ("layers", layers), ("original", original),
        ("lufs", lufs(text)),
        ("seed", said.seed), ("backend", said.backend),
    )  # fmt: skip
    return Act("soundtrack_video", arguments)


def _edit(said: Parsed, earlier: Conversation, heard: MediaRef | None, which: Sound | None) -> Act | None:
    text = said.text
    source = heard.id if heard else which.media.id if which else ""
    length = None if heard else which.seconds if which else None
    if not heard and _RESTORE.search(text) and not _CHANGES.search(_RESTORE.sub(" ", text)):
        return _restore(text, earlier, which)
    chosen = meant(text, earlier.versions)
    if (
        not heard
        and chosen.asked == "restore"
        and len(chosen.versions) == 1
        and not _CHANGES.search(chosen.rest)
        and said.seconds is None
    ):
        return Act("edit_audio", (("source", chosen.versions[0].sound.media.id), ("kind", "restore")))
    for sentence in re.split(r"(?<=[.!;])\s+", text) if not heard else ():  # "Two was the keeper. Back to number two!"
        back = meant(sentence, earlier.versions)
        if back.named and back.asked == "restore" and len(back.versions) == 1 and not content(back.rest) and sentence != text:
            return Act("edit_audio", (("source", back.versions[0].sound.media.id), ("kind", "restore")))
    found = regions(text, length)
    extending = _EXTEND.search(text)
    style, vary, turned = _STYLE.search(said.rest), _VARY.search(text), _TURNED.search(said.rest)
    common = (("source", source), ("seed", said.seed), ("steps", said.steps), ("guidance", said.guidance), ("backend", said.backend))
    if found and (source or not _only_time(text)):
        if not source:
            return None
        rest = _cut(text)
        removing = _REMOVING.match(rest)
        prompt = _wanted(rest[removing.end() :] if removing else rest)
        if removing and prompt:  # what goes is named: the stretch is made again without it
            return Act(
                "edit_audio",
                (
                    *common,
                    ("kind", "inpaint"),
                    ("regions", [list(found)]),
                    ("negative_prompt", re.sub(r"^(?:the|an?|that|this|any)\s+", "", prompt)),
                ),
            )
        return Act(
            "edit_audio",
            (*common, ("kind", "inpaint"), ("regions", [list(found)]), ("prompt", "silence" if removing and not prompt else prompt)),
        )
    if not source:
        return None
    longer = _LONGER.search(said.text)
    if extending or (longer and not _BESIDE_LENGTH.search(_LONGER.sub(" ", text))):
        length = _extended(said, None if heard else which)
        if not extending and longer and which and not heard and said.seconds is None and not said.extra_seconds:
            length = round(which.seconds * (3.0 if re.search(r"three|triple|3x|much|lot|way", longer[0], re.I) else 2.0), 3)
        return Act("edit_audio", (*common, ("kind", "extend"), ("seconds", length), ("prompt", "")))
    if heard and not said.negative and (it := _REMOVE_IT.search(text)):  # "the fridge hums all the time. Can you remove it?"
        named = subject(f"{text[: it.start()]} {text[it.end() :]}".strip(" .,!?"))
        named = re.sub(r"\b(?:in|on|of) (?:my|the|this) (?:recording|clip|audio|file|track)\b", " ", named, flags=re.I)
        return Act("edit_audio", (*common, ("kind", "remove"), ("negative_prompt", " ".join(named.split()))))
    if heard and said.negative:
        gone = re.sub(
            r"\s+(?:in|from|of|on)\s+(?:it|(?:this|that|the|my)?\s*(?:recording|sound|clip|audio|file|track))\b.*$", "", said.negative
        )
        return Act("edit_audio", (*common, ("kind", "remove"), ("negative_prompt", gone)))
    if heard and turned:
        return Act(
            "edit_audio", (*common, ("kind", "style"), ("prompt", (turned["new"] or turned["like"] or turned["as"]).strip(" .!?")))
        )
    if style and not heard:
        more = re.search(r"\b(?:more|less)\s+[a-z]{3,}|\b[a-z]{3,}er\b", said.rest[: style.start()], re.I)  # "more muffled, as if …"
        prompt = ", ".join(filter(None, (more[0] if more else "", style["style"].strip(" .!?"))))
        return Act("edit_audio", (*common, ("kind", "style"), ("prompt", prompt)))
    if (
        vary
        and not re.search(r"\bvariations? of (?:an?|some)\b", text, re.I)
        and (
            vary[1]
            or vary[3]
            or re.search(
                r"\bof (?:it|that|this|the (?:first|second|third|fourth|last|one|sound))\b|\bvary\b|\bclose to\b"
                r"|\bof the same\b|\bsimilar\b",
                text,
                re.I,
            )
        )
    ):
        strength = 0.3 if vary[3] else _STRENGTH.get((vary[1] or vary[2] or "").lower(), 0.5)
        return Act("edit_audio", (*common, ("kind", "variation"), ("strength", strength)))
    return None


_REMOVING = re.compile(
    r"\W*(?:(?:please|now|then|and|can you|could you|would you|i want you to)[\s,]+)*(?:remove|cut(?: out)?|delete|take out|get rid of"
    r"|erase|mute)\b(?!.*\b(?:with|by|put)\b)",
    re.I,
)
_REMOVE_IT = re.compile(
    r"\b(?:(?:please|can you|could you|would you|i want you to)\s+)*(?:remove|get rid of|take out|cut out|clean up"
    r"|filter out)\s+(?:it|that|this|them)\b",
    re.I,
)
# "longer" and nothing else: the sound goes on. "Again, but longer" or "longer and calmer" is another sound.
_LONGER = re.compile(
    r"\b(?:(?:a (?:little|tiny|bit) ?(?:bit)?|even|some(?:what)?|much|way|far|a lot|slightly)\s+)?longer\b"
    r"|\b(?:twice|double|three times|triple|2x|3x) (?:as long|the (?:length|duration)|its length)\b|\bdouble (?:it|the length"
    r"|its length)\b",
    re.I,
)
_BESIDE_LENGTH = re.compile(
    r"\b(?!(?:recording|audio|track|take|end|last|lasts|whole|shall|go|its|it|that|this|the|a|an|make|makes?|please|can|could|would|you|i|i'd|we|want|need|have|get|like|to|be|one|ones"
    r"|first|second|third|last"
    r"|previous|sound|clip|version|but|and|now|ok|just|for|until|till|up|in|total|altogether|of|seconds?|secs?|s|minutes?|is"
    r"|should|by|too"
    r"|short|so|more|around|about|at|least|exactly|then|me|give|hmm|no|yes|little|bit|not|long|enough|was|let|us)\b)[a-z][a-z']+"
    r"|[\u3400-\u9fff]",
    re.I,
)


def _extended(said: Parsed, sound: Sound | None) -> float | None:
    """The whole length after an extension in seconds: what was said, or twice the sound's; None where neither is known."""
    length = sound.seconds if sound else None
    more = re.search(r"\b(?:by|another|for|add|on|append)\s+(?:another\s+)?$", said.text[: _first_number(said.text)], re.I)
    if said.seconds is not None:
        return round(length + said.seconds, 3) if more and length is not None else said.seconds
    return None if length is None else round(length + (said.extra_seconds or length), 3)


_PREVIOUS = re.compile(r"\b(?:previous|before|earlier|prior|how it was)\b", re.I)


def _restore(text: str, earlier: Conversation, which: Sound | None) -> Act | None:
    rest = _RESTORE.sub(" ", text)
    if not earlier.sounds:
        return Act(asks=NO_SOUND)
    undo = re.search(r"\b(?:undo|revert)\b|\blast (?:change|edit|step)\b", text, re.I)
    if not undo and not _BACK.search(rest):
        return None
    return _restored(text, earlier, which, named=not undo and not _PREVIOUS.search(rest))


def _restored(text: str, earlier: Conversation, which: Sound | None, named: bool) -> Act | None:
    """The version that was ``named``, else the one that an undo goes back to."""
    if not named:
        asked, before = meant(text, earlier.versions), earlier.versions.before()
        found = asked.versions[-1] if asked.named and asked.versions else before
        if found is None:
            return Act(asks=NOTHING_BEFORE)
        which = found.sound
    return Act("edit_audio", (("source", which.media.id), ("kind", "restore"))) if which else None


def regions(text: str, length: float | None) -> tuple[float, float] | None:
    """The stretch that a text names, in seconds; "the last two seconds" needs the sound's ``length``.

    >>> regions("from 2 to 4 seconds a bang", 5.0), regions("0:01-0:03 silence", 5.0), regions("the last 2 seconds", 5.0)
    ((2.0, 4.0), (1.0, 3.0), (3.0, 5.0))
    """
    found = _REGION.search(text)
    if found:
        start, end = [group for group in found.groups() if group is not None][:2]
        return _at(start), _at(end)
    onwards = _ONWARDS.search(text)
    if onwards and length is not None:
        start = _at(next(group for group in onwards.groups() if group is not None))
        return (start, length) if start < length else None
    edge = _EDGE.search(text)
    if edge is None or (edge[2] is None and not edge[3].startswith(("second", "sec", "half"))):
        return None
    if edge[3] == "half":
        span = length / 2 if length else None
    else:
        span = _at(edge[2]) if edge[2] else 1.0
    if span is None:
        return None
    if edge[1].lower() in ("first", "opening"):
        return 0.0, span
    return (max(0.0, length - span), length) if length is not None else None


def _at(word: str) -> float:
    minutes, colon, seconds = word.partition(":")
    if colon:
        return 60 * float(minutes) + float(seconds)
    return number(word)


def _only_time(text: str) -> bool:
    return not _cut(text).strip(" ,.")


def _first_number(text: str) -> int:
    found = re.search(rf"\b{_TIME}\b", text)
    return found.start() if found else len(text)


def _cut(text: str) -> str:
    return " ".join(_ONWARDS.sub(" ", _EDGE.sub(" ", _REGION.sub(" ", text))).split())


def _wanted(rest: str) -> str:
    """What is to be heard in the stretch: the words beside those that only place it there."""
    rest = re.sub(
        r"^\W*(?:(?:please|can you|could you|redo|replace|change|swap|put|make|insert|add|have|let|fill|turn|regenerate|the part"
        r"|the bit|the stretch"
        r"|everything|it|that|this|part|section|should be|should|be|becomes?|with|by|into|to|in|there|of|the sound|mute|remove"
        r"|cut|and|then|i want"
        r"|i'd like|sound like|instead|,|;|:)(?:\s+|(?=[,;:])|$))+",
        "",
        rest,
        flags=re.I,
    )
    rest = re.sub(r"\b(?:instead|please|there|in it|in there)\W*$", "", rest, flags=re.I)
    return subject(rest).strip(" ,.;:")
