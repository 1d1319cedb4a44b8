"""Chat models by name: one of rules that needs no network and no weights of its own, and any LangChain chat model.

The rules read attachments, numbers, names and references to earlier sounds by hand and ask a sentence classifier for
the rest. A sound is only ever spoken of from the artifact of a tool that made it. English for now.

Knows tools by their names and arguments, not by what is behind them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolCallChunk, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from configs.registry import ConfigError, MissingExtra
from media.refs import MediaRef
from orchestrator.actions import act, only_a_file, told_apart
from orchestrator.conversation import Conversation, Sound, caption, media_of, outcome, sound_of, text_of
from orchestrator.courtesy import small_talk, without_courtesy
from orchestrator.intents import Intents, SentenceEncoder, shipped
from orchestrator.languages import COMPARED, PLEAS, detect, gloss
from orchestrator.parsing import Parsed, parse, subject
from orchestrator.references import meant
from orchestrator.wishes import asked as asked_for
from orchestrator.wishes import content, listed


class RulesOptions(BaseModel):
    """``backends``: the names that "with NAME" may mean. ``seconds``: the length where nobody says one.

    ``fallback``: for ``smollm2``: where its weights are not installed, the rules answer alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    backends: tuple[str, ...] = ()
    seconds: float = Field(default=5.0, gt=0)
    fallback: bool = False
    max_takes: int = Field(default=6, ge=1)  # "three versions of it" in one turn


# How firm a rule is: read off the words themselves, told by a turn of speech, or the likeliest of what is left.
CERTAIN, SIGNED, GUESS = 3.0, 2.0, 1.0


@dataclass(frozen=True)
class Call:
    """Call tools, each with its arguments. ``anew``: an earlier sound is made again. ``sure``: how firm the rule is that found it."""

    calls: tuple[tuple[str, dict[str, Any]], ...]
    anew: bool = False
    sure: float = GUESS


@dataclass(frozen=True)
class Say:
    """Answer in words. ``asked`` names the question, so that the next turn can be read as its answer."""

    text: str
    asked: str = ""
    sure: float = GUESS


Classify = Callable[[str], tuple[str, float]]
FIRST_TOOLS = frozenset({"generate_audio", "describe_media"})

# -- words -------------------------------------------------------------------------------------------------------------

_NOUNS = {
    "image": r"(?:pictures?|photo(?:graph)?s?|pics?|images?|drawings?|paintings?|screenshots?)",
    "video": r"(?:videos?|films?|footage|movies?|scenes?)",
    "audio": r"(?:recordings?|audio(?:\s+file)?|samples?|sound|noise|take|version)",
}
_THIS = (
    r"(?:this|that|these|those|my|our|the|attached|both|last|previous|silent|uploaded|given|first|second"
    r"|latest|same|earlier)"
)
_REFERENCE = {
    kind: re.compile(rf"\b{_THIS}\s+(?:{_THIS}\s+)*{nouns}\b(?!\s+(?:of|game|camera|store|studio|frame|where|when|in which))", re.I)
    for kind, nouns in _NOUNS.items()
}
_POINTING = re.compile(
    rf"\b(?:this|that|my|attached|these|those)\s+(?:{_THIS}\s+)*(?:{_NOUNS['image']}|{_NOUNS['video']})\b"
    r"(?!\s+(?:where|when|in which))",
    re.I,
)
_DESCRIBE = re.compile(
    r"""^\W*(?:(?:please|just|simply|only|first|hey|ok|and|so|now|can\ you|could\ you|would\ you|do\ you|tell\ me|i\ want\ to\ know
    |i\ wonder|before\ [^,.:]{3,40}[,:]|in\ (?:the|this|that|my)\ (?:attached\ )?(?:clip|video|picture|photo|recording|sound
    |file),)[\s,]*)*(?:
        (?:describe|identify|classify|caption|recogni[sz]e|analy[sz]e|guess|label|tag)\b(?!\s+how)
      | tell\ me\ (?:\w+ly\ )?what\b | list\ (?:for\ me\ )?(?:what|everything|all)\b
      | what(?:'s|\ is|\ are|\ was|\ were)\ (?:this|that|these|those|it|in|on|happening|going\ on|shown|heard
      |visible|playing|making|there|the\ \w+\ (?:in|on|doing))\b
      | what\ (?:do|can|could|did|am|are|should)\ (?:you|i|we)\ (?:see|hear|seeing|hearing|recogni[sz]e|make\ of
      |notice|think\ (?:this|that|it)\ is)\b
      | what\ goes\ on\b
      | what\ (?:happens|happened|can\ be\ (?:seen|heard))\b
      | (?:what|which)\ (?:kind\ of\ |sort\ of\ |type\ of\ )?\w+\ (?:is|are|was|were|do\ you)\ (?:this|that|it|these
      |those|shown|playing|in|on|singing|here|see|hear)\b
      | (?:who|what)\ (?:makes|made|is\ making)\ (?:this|that)\b
      | is\ (?:this|that|it|there)\b(?=.*\b(?:in|on|this|that|or|a|an)\b)
    )(?!.*\bsounds?\ like\b)""",
    re.VERBOSE | re.IGNORECASE,
)
_MAKE = re.compile(
    r"^\W*(?:(?:please(?: to)?|hey|ok|and|so|now|then|can you|could you|would you|will you|i(?:'d| would)? (?:like|want"
    r"|love|need)(?: you)? to|let me|let us|let's)[\s,]+)*"
    r"(?:make|create|generate|produce|synthesi[sz]e|render|play|hear|give me|gimme|simulate|imitate|sounds? of"
    r"|sound effects?|sfx)\b(?!\s+(?:it|that|this one)\b)",
    re.I,
)
_TALK = re.compile(
    r"[?!]|\b(?:you|your|u|i|i'm|me|my|we|us|it|that|that's|this|who|what|when|where|why|how|which|whose|can"
    r"|could|would|should|help|hi|"
    r"hello|hey|good|thanks|thank|bye|goodbye|joke|poem|story|write|translate|list|show|tell|explain|open"
    r"|delete|run|read|send|cool|"
    r"nice|great|wow|lol|haha|stop|morning|evening|please|don't|not|is|are|do|does)\b",
    re.I,
)
_ABLE_TO = re.compile(r"\W*(?:can|may|could|am) i\b", re.I)
_ASKING = re.compile(r"\W*(?:how|what|which|why|where|when|who|do|does|is|are)\b", re.I)
# "can you make sounds from pictures?" asks what we can do; "can you make the sound of a dog?" asks for one.
_ABLE = re.compile(
    r"^\W*(?:can|could|do|are) you\b(?: able to)?.*\b(?:sounds|music|audio|speech|songs)\b"
    r"\s*(?:(?:from|out of|for|with|to)\s+(?:any\s+)?(?:pictures|photos|images|videos|text|words|files|sounds)\b.*)?\W*$",
    re.I,
)
_OPENING = re.compile(
    r"\b(?:open|curl|wget|read|play|download|fetch|load|run|execute|cat|delete|get|visit|import|upload|send|use"
    r"|listen to|look at|describe|what)\b",
    re.I,
)
_COMMANDS = re.compile(
    r"\b(?:ignore|disregard|forget|override|bypass)\b[^.;!?\n]*\b(?:instructions?|rules?|prompts?|guidelines"
    r"|everything|all|above)\b[^.;!?\n]*"
    r"|\bsystem\s*(?:prompt|message|override)\b[^.;!?\n]*"
    r"|\b(?:delete|erase|wipe|remove|rm)\b[^.;!?\n]*\b(?:every|all|files?|disk|history|database|store"
    r"|thread)\b[^.;!?\n]*"
    r"|\byou are now\b[^.;!?\n]*|\b(?:call|invoke|execute|run)\s+(?:the\s+)?(?:tool|function|command|shell"
    r"|script)\b[^.;!?\n]*",
    re.I,
)
_AGAIN = re.compile(
    r"\b(?:again|once more|one more(?: time)?|another (?:one|take|version|try|go|attempt|variant|variation)"
    r"|re-?do|repeat|"
    r"a (?:different|new|second|third|fresh) (?:one|take|version|try|seed)|(?:another|new|different) seed|retry"
    r"|re-?roll|over)\b",
    re.I,
)
_LENGTH: tuple[tuple[re.Pattern[str], float], ...] = tuple(
    (re.compile(pattern, re.I), factor)
    for pattern, factor in (
        (
            r"\b(?:twice|double|2x|two times) (?:as long|the (?:length|duration)|its length)|\bdouble (?:it"
            r"|the length|its length)\b",
            2.0,
        ),
        (r"\b(?:three times|triple|3x|thrice) (?:as long|the (?:length|duration)|its length)", 3.0),
        (r"\bhalf (?:as long|the (?:length|duration)|its length)|\bhalf as long\b", 0.5),
        (r"\b(?:a (?:little |tiny )?bit|slightly|a little|somewhat) longer\b", 1.5),
        (r"\b(?:much|way|far|a lot|considerably) longer\b", 3.0),
        (r"\b(?:a (?:little |tiny )?bit|slightly|a little|somewhat) shorter\b", 0.75),
        (r"\b(?:much|way|far|a lot|considerably) shorter\b", 0.25),
        (r"\b(?:even )?longer\b|\b(?:extend|lengthen|stretch) (?:it|that|this)\b", 2.0),
        (r"\b(?:even )?shorter\b|\b(?:shorten|cut) (?:it|that|this)\b", 0.5),
    )
)
_CHANGE = re.compile(
    r"""^\W*(?:(?:ok|okay|please|now|and|then|nice|great|good|cool|hmm|yes|no|well|thanks|can\ you|could\ you
    |would\ you|i\ want|i(?:'d|\ would)\ like|i\ like\ it|just|let's|let\ me\ hear|give\ me|give\ us)[\s,.!;:]+)*(?:
        (?:exactly\ )?(?:the\ )?same\b | (?:do|try|make|play|say|repeat|turn|keep|change|shorten|lengthen|extend
        |take|hear)\ (?:it|that|this)\b(?!\ (?:picture|photo|image|video))
      | redo\b | (?:swap|exchange)\b | it\ (?:needs?|has|must|ought|should)\b | take\ (?:the\ |that\ )?[\w ]+\ out\b
      | (?:lose|drop|cut)\ the\b | keep\ (?:everything|all)\b | repeat\b | again\b | once\ more\b | one\ more(?:\ time|\ of)?\W*$
      | another\ (?:one|take|version
      |try|go|attempt|variant|variation|seed)\b
      | a\ (?:different|new|second|third|fresh)\ (?:one|take|version|try|seed)\b | (?:a\ (?:little\ |tiny\ )?bit
      |a\ little|slightly|much|way|even|far)\ (?:more\ |less\ )?\w+\W*(?:please\W*)?$
      | (?:longer|shorter)\b | twice\b | double\ | half\ (?:as|the)\b | add\b | replace\b | remove\b | without\b 
      | with\b(?!\ (?:a\ seed)) | but\b | plus\b | instead\b
      | (?:put|throw|mix)\ .+\ (?:in|into|to|on)\ (?:it|that|there)\b | more\b | less\b
      | (?:can|could|may)\ (?:i|we)\ have\ (?:it|that|this)\b | (?:way\ |a\ bit\ |far\ )?too\ (?:short|long|loud|quiet|fast|slow)\b
      | (?:make|have|turn|get)\ (?:the|those|these)\ [\w-]+\ (?:\w+er|more|less|a\ bit|a\ little|much|slightly)\b
      | (?:the|those|these|no|hmm)\b[\w\ ,]{2,40}\b(?:is|are)\ (?:\w+\ ){0,2}too\ \w+
      | (?:and\ )?now\ (?!an?\b|the\b|some\b|for\b|make\b|do\b|give\b|play\b|i\b|we\b|let\b|can\b|say\b|read\b)[\w-]+\W*$
      | use\ (?:another|a\ new|a\ different|seed)\b | change\b | (?:go\ )?back\ to\b | can\ it\ be\b
      | in\ (?:a|an|the)\ \w+(?:\ \w+)?\W*$ | at\ (?:night|dawn|dusk|noon)\b | (?:from\ )?(?:further|farther|closer)\b
    )|\binstead\W*$|\bagain\W*$|\bas\ long\W*$|\bthan\ (?:the\ )?(?:last|before|that)\b|\bonce\ more\W*$""",
    re.VERBOSE | re.IGNORECASE,
)
_SWAPS = (
    re.compile(
        r"\b(?:replace|swap|change|turn|exchange)\s+(?:the\s+|a\s+|an\s+)?(?P<old>[\w -]+?)\s+(?:with|by"
        r"|for|to|into)\s+(?P<new>[^,.;]+)",
        re.I,
    ),
    re.compile(r"\binstead of\s+(?:the\s+|a\s+|an\s+)?(?P<old>[\w -]+?)\s*,\s*(?P<new>[^,.;]+)", re.I),
    re.compile(
        r"^(?:(?:and|now|ok|please|with|but|use|take|make it|make that"
        r"|have)[\s,]+)*(?P<new>[^,.;]+?)\s+instead(?:\s+of\s+(?:the\s+|a\s+|an\s+)?(?P<old>[\w -]+?))?\W*$",
        re.I,
    ),
    re.compile(
        r"^(?:(?:and|ok|please|then|but)[\s,]+)*(?:now|what about|how about"
        r"|and)\s+(?:for\s+)?(?P<new>(?:an?|some|the)\s+[^,.;]+?)\W*$",
        re.I,
    ),
)
_TEMPO = re.compile(r"\b\d{2,3}\s*(?:bpm|beats per minute)\b", re.I)
# "something totally different: a spaceship landing"
_FRESH = re.compile(
    r"\b(?:something|anything|a sound)\s+(?:totally |completely |entirely |quite |very )*(?:different|else|new|unrelated)\b\s*"
    r"(?:now|please|this time|though)?\s*[:,.;!-]\s*(?:how about|what about|let's (?:do|have|try)|now)?",
    re.I,
)
# "make the thunder less loud and further away"
_MADE_SO = re.compile(
    r"\b(?:(?:make|have|turn|let|get) (?:the|that|those|these)"
    r"|the(?= [\w-]+ (?:should|must|needs? to|has to|have to|could)\b)) (?P<old>[\w-]+)\s+"
    r"(?:(?:should|must|needs? to|has to|have to|could)\s+(?:be\s+|sound\s+)?)?(?P<how>(?!of\b|sound\b|with\b|for\b|to\b)[^.;!?]+)",
    re.I,
)
# "the birds are too loud": quiet birds
_TOO = re.compile(
    r"(?:\b(?:no|hmm|but|now|and|ok|the|those|these)\b[\s,]*)*\b(?P<old>[\w-]+(?: [\w-]+)?)\s+(?:is|are|was|were|sounds?)\s+"
    r"(?:still |a bit |a little |way |much |far |just )*too "
    r"(?P<how>loud|quiet|soft|fast|slow|close|near|far(?: away)?|high|low|bright|dark|busy)\b[^.;!?]*",
    re.I,
)
_OPPOSITE = {
    "loud": "quiet", "quiet": "loud", "soft": "loud", "fast": "slow", "slow": "fast", "close": "distant", "near": "distant",
    "far": "close", "far away": "close", "high": "low", "low": "high", "bright": "dull", "dark": "bright", "busy": "calm",
}  # fmt: skip
_OF_ALL = _OPPOSITE | {
    "harsh": "soft", "shrill": "mellow", "muffled": "clear", "thin": "full", "tinny": "full", "sharp": "soft", "noisy": "clean",
    "dry": "reverberant", "wet": "dry", "echoey": "dry", "boomy": "lean", "scary": "gentle", "sad": "cheerful", "happy": "serious",
    "aggressive": "gentle", "boring": "lively", "hectic": "calm", "cheerful": "serious", "heavy": "light", "muddy": "clear",
    "dull": "bright", "clean": "dirty", "gentle": "forceful", "calm": "lively", "loud": "quieter", "quiet": "louder", "soft": "louder",
    "fast": "slower", "slow": "faster",
}  # fmt: skip
# "hmm, too harsh": of the whole sound
_TOO_SUCH = re.compile(
    rf"(?:\b(?:it|that|this|it's|that's|sounds?|is|was|a bit|a little|way|much|far|still|just|hmm+|no|now)\b[\s,]*)*"
    rf"\btoo (?P<how>{'|'.join(sorted(_OF_ALL, key=len, reverse=True))})\b(?:[\s,.;]*\bsoften\b(?: it)?(?: a (?:bit|little))?)?",
    re.I,
)
_ADDED = re.compile(
    r"\b(?:with|plus|add|adding|include|put|mix in|fade in|bring in|layer in|throw)"
    r"\s+(?:in\s+)?(?!less\b|more\b|fewer\b)(?P<new>[^,.;]+?)(?:\s+(?:to|in"
    r"|into|on top of)\s+(?:it|that|this|the sound|the mix))?\s*(?=$|[,.;])",
    re.I,
)
_CUES = re.compile(
    r"\b(?:(?:can|could|may) (?:i|we) have|(?:(?:it|that|this)(?:'s| is| was) )?(?:a bit |a little |way |much |far |still )*"
    r"too (?:short|long)|at least|the same(?: (?:thing|sound|one))?|same(?: (?:thing|sound|one))?|make (?:it|that|this)|can (?:it"
    r"|you) be|can you|could you|do (?:it|that)|try(?: (?:it|that|this))?|"
    r"turn (?:it|that)|keep (?:it|that)|play (?:it|that)|i(?:'d| would)? (?:like|want)(?: it)?|give me"
    r"|let me hear|please|but|now|and then|then|ok|okay|nice|great|good|"
    r"thanks|just|it|that|instead|sound(?:s|ing)?|to be|of (?:it|that|this)|hear|time|yes|no|hmm|change|use"
    r"|also|now|be|a bit of|i|we|need|want|like|prefer|rather|needs? to|has to|must|should|keep (?:everything|all)|everything)\b",
    re.I,
)

WELCOME = (
    'I make sounds. Tell me what should be heard ("rain on a tent, 8 seconds"), attach a picture, a sound or a video, '
    'or give me words to speak. Afterwards say "again", "longer", "with wind" or "without birds".'
)
ASK_PROMPT = "What should be heard?"
ASK_DESCRIBE = "Which picture, sound or video do you mean? Please attach it."
ASK_AUDIO = "Shall I tell what is in it, or make something like it?"
ASK_PICTURE = "I have no such file yet: could you attach it?"
OWN_SOUNDS = (
    "The weights of nano are CC BY-SA 4.0; its card (checkpoints/nano/README.md) lists what they learned from, with licences. Other "
    "systems have licences of their own: see 'loa models list'. I claim no rights in what you make."
)
NOTHING_GOES = "I delete nothing: every version stays, so that you can go back to it. Which one shall we go on with?"
NO_SOUND_YET = "There is no sound in this conversation yet. What should be heard?"
NO_ADDRESS = "I never open addresses or paths. Attach the file, or tell me what should be heard?"
UNKNOWN = "I did not understand that. What should be heard?"

# -- deciding ----------------------------------------------------------------------------------------------------------


def decide(
    messages: Sequence[BaseMessage], options: RulesOptions, classify: Classify, tools: Collection[str] = FIRST_TOOLS
) -> Call | Say:
    """What to do about the last message, a person's. Pure: the same history gives the same decision.

    Args:
        tools: names of the tools that may be called.
    """
    earlier, turn = Conversation.read(messages[:-1]), messages[-1]
    attached, text = media_of(turn), english(text_of(turn))
    refused = not obeys(text_of(turn))
    said = parse(text, options.backends)
    asked, before = pending(messages[:-1])
    if asked == "prompt" and before is not None:
        said, attached = _continued(said, parse(english(text_of(before)), options.backends)), attached or media_of(before)
    if asked == "audio" and before is not None and not attached:
        attached = media_of(before)
        if not re.search(r"\b(?:make|like|similar|second|latter|generate|another|new)\b", said.rest, re.I):
            return replace(describing(attached), sure=CERTAIN)
    if not said.text.strip(" .,;:!?"):
        if refused:
            return Say(f"I leave that alone. {ASK_PROMPT}", "prompt", CERTAIN)
        return replace(_only_media(attached, asked, options), sure=CERTAIN)
    courtesy = "" if attached else small_talk(cleaned(text_of(turn)))
    if courtesy:
        return Say(chat(courtesy, earlier, options), sure=CERTAIN)
    if said.transcript is not None:
        if not _BESIDE_SPEECH.search(said.negative):  # "without changing a word" is about the words
            said = replace(said, negative="")
        return replace(audio_call(arguments_of(said, "", (), options), said, options), sure=CERTAIN)
    if asked == "describe" and attached and not content(subject(said.rest)):
        return replace(describing(attached), sure=CERTAIN)
    told = asked_for(said.rest)  # "a dryer running. that's my happy place": the first sentence is what it is about
    intent, share = _intent(told if len(content(told)) > 2 else said.rest, classify)
    asking = intent == "describe" and share >= 0.5 and not _MAKE.search(said.rest) and not _GIVES.search(said.rest)
    asks_what = bool(_DESCRIBE.search(said.rest) or asking) and not _SOUNDS_LIKE.search(said.rest)
    which = which_sound(said.rest, earlier)[0] if earlier.sounds else None
    if which is not None and not attached:
        named = meant(said.rest, earlier.versions)
        if named.named and named.asked in ("", "restore") and not named.versions and len(named.rest.split()) <= 3:
            return Say(f"There is no such one among the {len(earlier.versions.made)} here. Which do you mean?", sure=CERTAIN)
        if len(named.versions) > 1 and not named.asked and not content(named.rest):
            return Say(f"{told_apart(named.versions)} Which one do you mean?", sure=CERTAIN)
        if said.negative and meant(said.negative, earlier.versions).named and not content(said.rest):
            return Say(NOTHING_GOES, sure=CERTAIN)
        if (mixed := _mixed(said, earlier)) and "generate_audio" in tools:
            return replace(audio_call(arguments_of(said, "", mixed, options), said, options), sure=CERTAIN)
    if which is None and not attached:
        said = _only_made(said)
    found = act(said, attached, earlier, tools, which, asks_what, options.backends)
    if found is not None:
        recording = found.tool == "edit_audio" and any(ref.kind == "audio" for ref in attached)
        if found.args.get("kind") == "variation" and _takes(said.rest, options.max_takes) > 1:
            return several(found.tool, found.args, said.rest, options)
        firm = recording or found.args.get("kind") in ("extend", "restore") or (found.tool == "export_audio" and only_a_file(said.text))
        sure = CERTAIN if firm else SIGNED
        if found.about == "versions":
            return Say(found.asks, sure=CERTAIN)
        return Say(found.asks, found.about, SIGNED) if found.asks else Call(((found.tool, found.args),), sure=sure)
    if said.had_address and not attached and not _MAKE_OF.search(said.rest):
        asks_to_open = _OPENING.search(said.rest) or intent != "generate" or share < 0.6
        if asks_to_open or not content(subject(said.rest)):
            return Say(NO_ADDRESS, "prompt", CERTAIN)
    aside = None if attached else _aside(said, earlier, options)
    if aside is not None:
        return aside
    if not attached and (_DEEDS.search(said.rest) or _HOW_IT_WORKS.search(said.rest)):
        return Say(chat(said.rest, earlier, options), sure=SIGNED)
    about_us = _ABOUT_US.search(said.rest) and not re.search(r"\b(?:hear|instruments?)\b", said.rest, re.I)
    if not attached and earlier.sounds and about_us and (not asks_what or _WHAT_IT_IS.search(said.rest)):
        return Say(chat(said.rest, earlier, options), sure=CERTAIN)
    if asks_what:
        shown = describing(attached or referred(said.rest, earlier, any_medium=True))
        return replace(shown, sure=SIGNED if _DESCRIBE.search(said.rest) else GUESS)
    return _sound_or_words(said, attached, earlier, intent, share, options, tools)


_BESIDE_SPEECH = re.compile(
    r"\b(?:music|noises?|echo\w*|reverb\w*|background|hiss|hum|crackl\w+|sounds?|accent|laugh\w*|breath\w*|static|distortion"
    r"|birds?)\b",
    re.I,
)
_MIX = re.compile(r"\b(?:mix|combine|blend|merge|mash|layer|put together)\b(?P<what>.+)", re.I)


def _mixed(said: Parsed, earlier: Conversation) -> tuple[MediaRef, ...]:
    """The two or more earlier sounds of "combine the first and the third"; nothing where it names none, or something else beside."""
    found = _MIX.search(said.rest)
    if found is None:
        return ()
    whole = meant(found["what"], earlier.versions)
    if len(whole.versions) > 1 and not content(whole.rest):
        return tuple(version.sound.media for version in whole.versions)
    parts = [
        meant(part, earlier.versions)
        for part in re.split(r"\s*(?:,|\band\b|\bwith\b|&|\bplus\b)\s*", found["what"])
        if part.strip(" .!?")
    ]
    if not all(part.named and len(part.versions) == 1 and not content(part.rest) for part in parts):
        return ()
    media = dict.fromkeys(part.versions[0].sound.media for part in parts)
    return tuple(media) if len(media) > 1 else ()


def _aside(said: Parsed, earlier: Conversation, options: RulesOptions) -> Call | Say | None:
    """What is asked between two sounds: a length, a taste, a licence; and wishes that leave the choice to us or list several."""
    if earlier.sounds and any(asks.search(said.rest) for asks in (_HOW_LONG_IS_IT, _WHICH_LENGTH, _TASTE)):
        return Say(chat(said.rest, earlier, options), sure=CERTAIN)
    if not earlier.sounds and _BEFORE_US.search(said.rest):
        return Say("I only know what was said in this conversation. What should be heard?", "prompt", CERTAIN)
    if _FIX.match(said.rest):
        if not earlier.sounds:
            return Say(NO_SOUND_YET, "prompt", CERTAIN)
        return Say("What should be different there: louder, softer, something gone, or something else in its place?", sure=CERTAIN)
    if _FREE.search(said.rest) and (_ASKING.match(said.rest) or "?" in said.text or _ABLE_TO.match(said.rest)):
        return Say(OWN_SOUNDS, sure=CERTAIN)
    if _SURPRISE.search(said.rest) and not content(subject(_SURPRISE.sub(" ", said.rest))):
        pick = SURPRISES[len(earlier.sounds) % len(SURPRISES)]
        return replace(audio_call(arguments_of(said, pick, (), options), said, options), sure=CERTAIN)
    calls = tuple(("generate_audio", arguments_of(said, subject(thing), (), options)) for thing in listed(said.rest))
    return Call(calls, sure=CERTAIN) if calls else None


_THEN_A_FILE = re.compile(r"(?:[,;]|\band|\bthen)\s+(?:then\s+)?(?:export|save|store|download|convert|normali[sz]e)\b.*$", re.I)


def _only_made(said: Parsed) -> Parsed:
    """Of "make … and save it as flac" the making: one step a turn, and the file can only be asked for once the sound is there."""
    if not _MAKE.search(said.text) or not content(subject(_THEN_A_FILE.sub("", said.rest))):
        return said
    return replace(said, text=_THEN_A_FILE.sub("", said.text), rest=_THEN_A_FILE.sub("", said.rest))


# What is written in a medium, its name or its tags is quoted, never asked: it goes before anything is read.
_WRITTEN = re.compile(
    r"""[(\[]?\s*\b(?:the\ |its\ |a\ |whose\ |with\ the\ |and\ the\ )*(?:note|text|caption|sign|picture|photo|image|video
    |recording|title|tags?|file\ ?name|file
    |metadata|label|subtitles?|comment|description|exif|id3|lyrics?|watermark|screenshot|poster|page|website|answer|assistant
    |tool|history|transcript)s?
    (?:\ (?:in|on|of|at|under|beside)\ (?:it|the\ \w+|this\ \w+))?(?:\ (?:of|in)\ the\ \w+)?\s*
    (?:says?|reads?|said|wrote|is|was|contains?|is\ called|is\ named|called|named|states?|tells\ you
    |asks?|shows?\ the\ words|:|=)\s*:?\s*
    (?:["“”„«][^"“”„«»]*["“”»]|['‘](?:[^'‘’]|(?<=\w)['’](?=\w))*['’])\s*[)\]]?""",
    re.VERBOSE | re.IGNORECASE,
)
_SOUNDS_LIKE = re.compile(
    r"\bsounds? like\b|^\W*(?:which|what) (?:sounds?|noises?|music)\b[^?]*\b(?:for|goes|go|fits?|suits?|match\w*)\b|\bhow "
    r"(?:would|does|might|could)\b.*\bsound\b|\bin the style of\b",
    re.I,
)
_GIVES = re.compile(
    r"^\W*(?:make )?(?:a )?(?:sound|soundtrack) for\b|\bsoundtrack for (?:it|the|this|my)\b|"
    r"\b(?:give|add|put|make)\b.*\b(?:sounds?|audio|noise)\b"
    r"|^\W*(?:please |can you |could you )*(?:mix|blend|combine|merge|turn|sonify)\b",
    re.I,
)
_AFTER = re.compile(
    r"\b(?:i'm|i am|we're|we are) (?:after|looking for)\b|\b(?:i|we) (?:really |just )?(?:need|want) (?:the|an?|some)\b", re.I
)
_ABOUT_US = re.compile(
    r"^\W*(?:how many|how often|what|which|where|when|did|have)\b.*\b(?:we|you|i)\b.*\b(?:made?|done|created?|generated?|said|put"
    r"|saved?|changed?|used?)\b"
    r"|^\W*(?:what|which)\b[^?]*\b(?:changed|seed|(?:is|was|are)(?: the)? differen(?:t|ces?))\b",
    re.I,
)
_WHAT_IT_IS = re.compile(r"\b(?:changed?|differen(?:t|ces?)|seed|used?|made|done)\b", re.I)
_TASTE = re.compile(
    r"\b(?:which|what)\b.*\b(?:do|would) you (?:like|prefer|choose|take|pick)\b|\byour favou?rite\b"
    r"|\bwhich (?:one |version |take |of (?:them|these|those) )?(?:is|was|sounds) (?:better|best|nicer)\b",
    re.I,
)
_BEFORE_US = re.compile(
    r"\b(?:that|the|same) (?:thing|one|sound|stuff)\b[^.;!?]*\b(?:we|you and i) (?:talked|spoke|discussed|agreed|mentioned)\b"
    r"|\bthe usual\W*$",
    re.I,
)
_FIX = re.compile(
    r"^\W*(?:(?:please|can you|could you|would you|maybe)[\s,]+)*(?:fix|improve|repair|correct|adjust|tweak|polish|sort out"
    r"|change|edit|modify)"
    r" (?:it|that|this|the (?:ending|beginning|start|end|middle|intro|outro|transition)|the \w+ part)\W*(?:please\W*)?$",
    re.I,
)
_WHICH_LENGTH = re.compile(
    r"\bwhich (?:one |version |of (?:them|these|those) |sound |take )?(?:is|was) (?:the )?(longe\w+|shorte\w+)\b", re.I
)
_HOW_LONG_IS_IT = re.compile(
    r"^\W*(?:(?:and|so|ok|hey)[\s,]+)*how (?:long|many seconds) (?:is|was|are|does|did)\b.*\b(?:it|this|that|sound|one|version|last)\b"
    r"|^\W*what(?:'s| is| was) (?:the|its) (?:length|duration)\b",
    re.I,
)
# "make the background louder", "make it a bit more aggressive": of what?
_COMPARED = re.compile(
    r"^\W*(?:(?:please|can you|could you|now|and)[\s,]+)*(?:(?:make|get|have|turn) (?:it|that|this|the (?!.*\b(?:of|in|on|with"
    r"|at|from)\b)[\w ]+?)"
    r"|a (?:bit|little)|even|much)"
    r"\s+(?:(?:a bit|a little|much|even|slightly) )*(?:\w{3,}er|(?:more|less) \w+)\W*(?:please\W*)?$",
    re.I,
)
# What no sound would answer, and questions about ourselves.
_DEEDS = re.compile(
    r"^\W*(?:(?:please|can you|could you|would you|will you|do you know|now|and),? )*(?:tell (?:me |us )?(?:a|an|some"
    r"|another) (?:joke|story|riddle|fact)"
    r"|write (?:me |us )?(?:a|an|some) (?:poem|story|essay|letter|email)"
    r"|(?:draft|write|prepare|draw up|compose|proofread|translate|fill in)\b[^.;:!?]{0,40}"
    r"\b(?:contract|letter|essay|e-?mail|report|invoice|cv|resume|poem|code|recipe|cover letter|application|agreement"
    r"|text message|homework|script|program|function|macro|spreadsheet|formula))\b"
    r"|^\W*(?:please )?(?:can|could|would|will) you (?:please )?(?:bake|cook|order|buy|book|call|phone|email|send|drive|clean"
    r"|wash|fix|repair|pay"
    r"|hack|tell (?:me |us )?(?:a|an|some) (?:joke|story|riddle|fact)|write (?:me |us )?(?:a|an|some) (?:poem|story|essay"
    r"|letter|email|code)|translate|calculate|solve|remind|schedule|summari[sz]e|program|google|search|teach|clone)\b",
    re.I,
)
_HOW_IT_WORKS = re.compile(
    r"^\W*(?:(?:and|so|but|hey|ok|wait|by the way),? )*(?:(?:does|do|did|is|are|can|will|why|how|what|which|where|who"
    r"|when)\b[^.:]{0,40}"
    r"\b(?:(?:the|this|your|that|these|a) )(?:\w+ )?(?:models?|app|program|software|assistant|router|algorithm|training|weights"
    r"|licen[cs]e|neural \w+)\b"
    r"(?!.*\b(?:best|better|compare|versus)\b)"
    r"|(?:do|does|did|will|are|why|how|where|when|what|who)\b(?: [\w']+){0,3}? (?:you|loa|it|i|one) (?:ever )?(?:keep|kept|store"
    r"|learn|support|understand|run|running"
    r"|train|trained|work|cost|collect|remember|need (?:the |an )?internet|need a (?:gpu|graphics card)|go online|free|open "
    r"source)\b)"
    r"|^\W*which (?:one |of them )?(?:do|did|would) you (?:like|prefer|recommend|choose)\b|^\W*can you (?:sing|talk|speak|hear"
    r"|see|dance|dream)\W*$"
    r"|^\W*(?:what(?:'s| is) the |how )(?:longest|long|maximum|max)\b.*\b(?:you can|can you|can they|can it|is possible|there is)\b",
    re.I,
)
_WANTS = re.compile(r"^\W*(?:i|we)(?:'d)?\s+(?:need|want|would like|like)\s+(?:something|anything|some sounds?|a sound)\b", re.I)


def english(text: str) -> str:
    """The text as English, without what is only quoted from a medium or would have us forget our rules."""
    kept = cleaned(text)
    return gloss(kept, detect(kept))


def cleaned(text: str) -> str:
    """The text in its own language, without courtesies, what is only quoted from a medium, or would have us forget our rules."""
    return without_courtesy(PLEAS.sub(" ", _COMMANDS.sub(" ", _WRITTEN.sub(_unless_to_be_spoken, text))))


def obeys(text: str) -> bool:
    """Whether nothing of the text had to be left out by ``cleaned``."""
    return not any(pattern.search(text) for pattern in (_COMMANDS, PLEAS, _WRITTEN))


_READ = re.compile(r"\b(?:say|speak|read|announce|whisper|recite|pronounce|narrate|voice)\b[^.!?]{0,25}$", re.I)


def _unless_to_be_spoken(match: re.Match[str]) -> str:
    return match[0] if _READ.search(match.string[: match.start()]) else " "


_MAKE_OF = re.compile(r"\b(?:sounds?|noises?|effects?|recordings?|clips?)\s+(?:of|for|like)\b|^\W*(?:make|create|generate)\b", re.I)


def _intent(text: str, classify: Classify) -> tuple[str, float]:
    """The classifier's word, except where a glance says more: no letters to read, or no talk in it."""
    words = re.findall(r"[^\W\d_]+", text.lower())
    if not any(re.search(r"[aeiouyäöüàáâèéêìíîòóôùúû]|[^\x00-\u024f]", word) for word in words):
        return "unclear", 1.0
    if _ABLE.match(text):
        return "chat", 1.0
    intent, share = classify(text)
    # A bare noun phrase ("laser printer") is no talk, however close it lies to questions about files and machines.
    scene = intent in ("chat", "describe") or (len(content(text)) > 2 and re.search(r"\b(?:an?|the|with|of|in|on|and)\b", text, re.I))
    if scene and intent != "generate" and share < 0.9 and not _TALK.search(text) and not _CHANGE.search(text):
        return "generate", 0.5
    return intent, share


_FREE = re.compile(
    r"\bis (?:it|this|loa|all (?:of )?this) (?:for )?free\b"
    r"|\b(?:royalt\w+|copyright\w*|licen[cs]e\w*|commercial(?:ly)?|free to use|who owns|creative commons)\b",
    re.I,
)
_SURPRISE = re.compile(
    r"\b(?:surprise me|whatever you (?:like|want)|anything you (?:like|want)|dealer's choice|you (?:choose|decide|pick))\b", re.I
)
SURPRISES = (
    "an owl at night",
    "a steam train passing",
    "waves on a pebble beach",
    "a music box",
    "a crackling fire",
    "a spaceship landing",
)


def _sound_or_words(
    said: Parsed,
    attached: tuple[MediaRef, ...],
    earlier: Conversation,
    intent: str,
    share: float,
    options: RulesOptions,
    tools: Collection[str],
) -> Call | Say:
    """The part of the decision where nothing is to be described."""
    fresh = _FRESH.search(said.rest)
    if fresh and content(said.rest[fresh.end() :]) and not attached:
        return audio_call(arguments_of(said, subject(said.rest[fresh.end() :].strip()), (), options), said, options, SIGNED)
    named = bool(earlier.sounds) and meant(said.rest, earlier.versions).named
    of_it = bool(_SEVERAL.search(said.rest)) and not content(uncounted(said.rest))  # "two other variants of that"
    changing = bool(_CHANGE.search(said.rest) or _MORE_SO.fullmatch(said.rest)) or (intent == "change" and share >= 0.5)
    changing = changing or _only_numbers(said) or named or of_it
    making = bool(_MAKE.search(said.rest) or _AFTER.search(said.rest) or _SEVERAL.search(said.rest)) and not _ABLE.match(said.rest)
    of_part = bool(earlier.sounds) and bool(_of_a_part(said.rest, str(which_sound(said.rest, earlier)[0].request["prompt"])))
    if (
        (changing or of_part)
        and earlier.sounds
        and not attached
        and (of_part or named or not making or not content(uncounted(subject(_AGAIN.sub(" ", said.rest)))))
    ):
        if of_it:
            return replace(audio_call(changed(replace(said, rest="again"), earlier), said, options), anew=True, sure=CERTAIN)
        return replace(change(said, earlier, options, tools), sure=SIGNED if _CHANGE.search(said.rest) else GUESS)
    media = attached or referred(said.rest, earlier)
    wanted = subject(said.rest)
    if media:
        prompt = beside_media(said.rest)
        seen = bool(attached) and all(ref.kind != "audio" for ref in attached) and bool(_SOUNDS_LIKE.search(said.rest))
        return audio_call(arguments_of(said, prompt, media, options), said, options, CERTAIN if seen else GUESS)
    if not attached and not earlier.sounds and (mood := _MOOD.match(wanted)):
        prompt = f"{mood['how']} sounds{mood['why'] or ''}"
        return audio_call(arguments_of(said, prompt, (), options), said, options, CERTAIN)
    if not attached and not earlier.sounds and _COMPARED.search(said.rest):
        return Say(NO_SOUND_YET, "prompt", SIGNED)
    funny = _BUT_SO.match(said.rest) if not earlier.sounds and not attached else None
    if funny and content(subject(funny["what"])):  # "a zombie groaning, but make it funny"
        return audio_call(
            arguments_of(said, f"{subject(funny['what'])}, {funny['so'].strip(' .!?')}", (), options), said, options, CERTAIN
        )
    if _POINTING.search(said.rest) and not (intent == "chat" and _ASKING.match(said.rest)):
        return Say(ASK_PICTURE, "prompt")
    if intent == "chat" and _WANTS.search(said.rest):
        return Say(ASK_PROMPT, "prompt")
    if intent == "chat" and share >= 0.4 and not making and not (_only_numbers(said) and not said.negative):
        return Say(chat(said.rest, earlier, options))
    if changing and not making and _no_sound_to_change(said.rest) and not (said.negative and content(wanted)):
        return Say(NO_SOUND_YET, "prompt")
    if intent == "unclear" and share >= 0.5 and not making:
        return Say(UNKNOWN if content(wanted) else ASK_PROMPT, "prompt")
    if not content(wanted):
        return Say(ASK_PROMPT, "prompt")
    named_only = not earlier.sounds and not _TALK.search(said.rest) and len(content(wanted)) > 1  # "slow footsteps"
    sure = SIGNED if (making or named_only or _A_THING.match(said.rest)) and not _VAGUE_WISH.search(wanted) else GUESS
    return audio_call(arguments_of(said, wanted, (), options), said, options, sure)


# "happier", "much darker please"
_MORE_SO = re.compile(
    r"\W*(?:(?:a bit|a little|slightly|much|even|way|far|and|but|please|no|hmm)\b[\s,]*)*"
    rf"(?:{'|'.join(sorted(COMPARED))})\W*(?:please\W*)?",
    re.I,
)
_BUT_SO = re.compile(
    r"(?P<what>.+?),?\s+(?:but|and|only|just)\s+make (?:it|that|them)\s+(?!\d|again\b|stop\b)(?:sound\s+)?(?P<so>.+)$", re.I
)
# "a fountain in a park" is another sound; "a bit calmer" is none
_A_THING = re.compile(
    r"an?\s+(?!(?:bit|little|lot|touch|tad|few|second|third|different|new|fresh|longer|shorter|louder|quieter|(?:more|less)|\w+er)\b)[\w-]{3,}"
    r"(?!.*\b(?:instead|again|too|as well|it|that|this|one|version|take)\b)",
    re.I,
)
# "something spooky": of that mood
_MOOD = re.compile(
    r"(?:something|anything|some sounds?|a sound)(?: (?:that is|that sounds|really|very|kind of|a bit|rather|more|to be))* "
    r"(?!else\b|nice\b|cool\b|good\b|new\b"
    r"|different\b|like\b|for\b|of\b|with\b|that\b|to\b|about\b|fitting\b|similar\b|great\b|fun\b|interesting\b|please\b|random\b)"
    r"(?P<how>[a-z-]{4,})(?P<why> (?:for|to)\b.*)?$",
    re.I,
)
_VAGUE_WISH = re.compile(r"\b(?:something|anything|whatever|stuff|surprise|idea|thing)\b", re.I)


def change(said: Parsed, earlier: Conversation, options: RulesOptions, tools: Collection[str]) -> Call:
    """An earlier sound with what ``said`` changes: edited where only its manner changes or something goes, else made anew."""
    base, rest = which_sound(said.rest, earlier)
    given = changed(said, earlier)
    _, left, longer = _length(said, float(base.request["seconds"]), rest)
    anew = longer or (_AGAIN.search(left) and not said.negative) or _SEVERAL.search(said.rest) or said.backend is not None
    manner = given.get("prompt") != base.request["prompt"] and not _reworded(str(base.request["prompt"]), left)[2]
    if "edit_audio" not in tools or anew or given.get("transcript") or not base.request["prompt"] or not (manner or said.negative):
        return replace(audio_call(given, said, options), anew=True)
    gone = bool(said.negative) and not content(_AGAIN.sub(" ", _CUES.sub(" ", left)))
    edit = {"source": base.media.id, "kind": "remove" if gone else "style"}
    kept = ("prompt", "negative_prompt", "seed", "steps", "guidance", "backend")
    return Call((("edit_audio", edit | {name: given[name] for name in kept if name in given}),), anew=True)


def changed(said: Parsed, earlier: Conversation) -> dict[str, Any]:
    """Arguments for an earlier sound made anew with what ``said`` changes. Nothing changed: the next seed."""
    base, rest = which_sound(said.rest, earlier)
    old = base.request
    seconds, rest, longer = _length(said, float(old["seconds"]), rest)
    prompt, rest, words_changed = _reworded(str(old["prompt"]), rest)
    rest = _TOO_SUCH.sub(lambda found: f", {_OF_ALL[found['how'].lower()]}", rest)
    rest, again = _AGAIN.sub(" ", rest), bool(_AGAIN.search(rest))
    tempo = _TEMPO.search(rest)
    if tempo and _TEMPO.search(prompt):
        prompt, rest, words_changed = _TEMPO.sub(tempo[0], prompt, count=1), _TEMPO.sub(" ", rest), True
        rest = re.sub(r"\b(?:faster|slower|quicker)\b", " ", rest, flags=re.I)
    rest = re.sub(r"\banother (\w+)\b", lambda m: " " if re.search(rf"\b{m[1]}", prompt, re.I) else m[0], rest, flags=re.I)
    style = re.sub(r"^(?:and|but|then)\s+", "", " ".join(_CUES.sub(" ", rest).split()).strip(" ,.;:!?-"))
    if words_changed and style.lower() in ("more", "and", "again"):
        style = ""
    if content(style):
        prompt = f"{prompt.rstrip(' ,')}, {style}" if prompt else style
        words_changed = True
    negative = str(old["negative_prompt"])
    for word in filter(None, said.negative.split(", ")):
        prompt = _without(prompt, word)
        negative = f"{negative}, {word}" if negative else word
    asked = said.steps, said.guidance, said.backend, said.seed
    other = words_changed or longer or bool(said.negative) or any(value is not None for value in asked)
    seed = said.seed if said.seed is not None else int(old["seed"]) + (0 if other and not _new_seed(again, rest) else 1)
    new = {
        "prompt": prompt,
        "media": [m["id"] for m in old["media"]],
        "seconds": seconds,
        "seed": seed,
        "transcript": old["transcript"],
        "negative_prompt": negative,
        "steps": said.steps if said.steps is not None else old["steps"],
        "guidance": said.guidance if said.guidance is not None else old["guidance"],
        "backend": said.backend or base.artifact.get("asked_backend"),
    }
    return _given(new)


def chat(text: str, conversation: Conversation, options: RulesOptions) -> str:
    """A short honest answer to what is not about a sound."""
    lower = text.lower()
    if re.search(r"\b(?:thanks|thank|great|nice|good job|perfect|lovely|love it|cool|awesome)\b", lower):
        return "You are welcome. Shall I make another one, or change it?"
    made, current = conversation.versions.made, conversation.versions.current
    if made and re.search(r"\bhow many\b.*\b(?:sounds?|versions?|takes|files|things)\b.*\b(?:we|you|i)\b", lower):
        return f"{len(made)} so far, the last one {caption(made[-1])}."
    if current and _WHAT_IT_IS.search(lower) and _ABOUT_US.search(lower) and not re.search(r"\bhow (?:many|often)\b", lower):
        came = f" came from version {current.parent}" if current.parent else ""
        return f"Version {current.number}{came}: {caption(current)}."
    if current and _HOW_LONG_IS_IT.search(lower):
        return f"It is {current.sound.seconds:.4g} seconds long."
    if len(made) > 1 and (asked := _WHICH_LENGTH.search(lower)):
        longest = max(made, key=lambda v: v.sound.seconds), min(made, key=lambda v: v.sound.seconds)
        found = longest[0 if asked[1].startswith("long") else 1]
        equal = all(v.sound.seconds == found.sound.seconds for v in made)
        return f"All are {found.sound.seconds:.4g} s long." if equal else f"Version {found.number}, {found.sound.seconds:.4g} s long."
    if len(made) > 1 and _TASTE.search(lower):
        return f"That is for your ears to say: I have none. {told_apart(made[-4:])}"
    if re.search(r"\b(?:models?|backends?|systems?)\b", lower):
        known = ", ".join(options.backends)
        return f'These are set up: {known}. Say "with NAME" to choose one.' if known else WELCOME
    if re.search(r"\bwhere\b.*\b(?:file|sound|saved?|stored?|find)\b|\bfile\b.*\bwhere\b", lower):
        if conversation.sounds:
            return f"The last sound is {conversation.sounds[-1].media.id} in the store; the program shows its path."
        return f"There is no sound in this conversation yet. {WELCOME}"
    if re.search(r"\b(?:save|download|export|keep)\b.*\b(?:files?|sounds?|it|them|results?|this|that)\b", lower):
        return 'Say "save it as flac" (or wav, ogg, mp3; a loudness such as -16 LUFS as well), or /save in the terminal.'
    if re.search(r"\b(?:attach|upload|files?)\b", lower):
        return "In the terminal use --attach FILE; pictures, sounds and videos are welcome. I never open paths in text."
    if re.search(r"\bhow long\b|\blongest\b|\bmaximum\b|\bseconds\b", lower):
        return f"{options.seconds:g} seconds unless you say a length; a system that cannot make it tells its limit."
    if lower == "hello":
        return f"Hello. {WELCOME}"
    if lower == "bye":
        return "Goodbye. This conversation is kept."
    if re.search(r"\b(?:who|what) (?:are|made|built|created)\b|\bare you\b", lower):
        return f"I am loa's built-in assistant. {WELCOME}"
    return f"That I cannot do. {WELCOME}" if not re.search(r"\b(?:help|can you do|how)\b", lower) else WELCOME


def pending(messages: Sequence[BaseMessage]) -> tuple[str, BaseMessage | None]:
    """The question that the last answer asked ("" for none), and the turn that it was asked about."""
    if not messages or messages[-1].type != "ai":
        return "", None
    asked = str(messages[-1].additional_kwargs.get("asked", ""))
    return asked, next((m for m in reversed(messages) if m.type == "human"), None) if asked else None


def _continued(said: Parsed, before: Parsed) -> Parsed:
    """An answer to "what should be heard?" keeps the numbers of the question's turn."""
    return replace(
        said,
        seconds=said.seconds if said.seconds is not None else before.seconds,
        seed=said.seed if said.seed is not None else before.seed,
        steps=said.steps if said.steps is not None else before.steps,
        guidance=said.guidance if said.guidance is not None else before.guidance,
        backend=said.backend or before.backend,
        negative=said.negative or before.negative,
    )


def _only_media(attached: tuple[MediaRef, ...], asked: str, options: RulesOptions) -> Call | Say:
    if not attached:
        return Say(ASK_PROMPT, "prompt")
    if asked == "describe":
        return describing(attached)
    if all(ref.kind == "audio" for ref in attached):
        return Say(ASK_AUDIO, "audio")
    said = Parsed("", "")
    return audio_call(arguments_of(said, "", attached, options), said, options)


def describing(media: tuple[MediaRef, ...]) -> Call | Say:
    if not media:
        return Say(ASK_DESCRIBE, "describe")
    return Call((("describe_media", {"media": [ref.id for ref in media]}),))


def audio_call(arguments: dict[str, Any], said: Parsed, options: RulesOptions, sure: float = GUESS) -> Call:
    takes = _takes(said.rest, options.max_takes)
    seed = int(arguments.get("seed", 0))
    calls = tuple(("generate_audio", arguments | ({"seed": seed + k} if takes > 1 else {})) for k in range(takes))
    return Call(calls, sure=sure)


def several(tool: str, arguments: dict[str, Any], text: str, options: RulesOptions) -> Call:
    """As many calls as takes are asked for, each with the next seed."""
    first, takes = int(arguments.get("seed", 0)), _takes(text, options.max_takes)
    return Call(tuple((tool, arguments | ({"seed": first + k} if takes > 1 else {})) for k in range(takes)), sure=CERTAIN)


def _takes(text: str, most: int) -> int:
    match = _SEVERAL.search(text)
    said = (match[1] or match[2]) if match else ""
    words = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "couple": 2, "pair": 2}
    return min(most, words.get(said.lower()) or int(said)) if match else 1


_KINDS = (
    r"(?:goes(?= at\b)|versions?|takes?|variations?|variants?|alternates?|alternatives?|options?|attempts?|tries"
    r"|renditions?|samples?|proposals?|suggestions?|ideas?)"
)
_DIFFERENT = r"(?:different|distinct|separate|differing|alternative|various)"
# "three takes of a dog" and "three different dogs" are three sounds; "two dogs" is one.
_SEVERAL = re.compile(
    rf"\b(?:an?\s+)?(two|three|four|five|six|couple|pair|[2-6])\s+(?:of\s+)?(?:(?:{_DIFFERENT}|more|other|short"
    rf"|quick|slight|slightly|subtle|close)\s+)*{_KINDS}\b(?:\s+(?:of|at)\b)?"
    rf"|\b(two|three|four|five|six|[2-6])\s+(?:{_DIFFERENT}\b|more\s+(?:like|of)\s+(?:it|that|this|those)\b)",
    re.I,
)


def uncounted(text: str) -> str:
    """The text without "three takes of".

    >>> uncounted("three takes of a dog")
    'a dog'
    """
    return " ".join(_SEVERAL.sub(" ", text).split()).strip(" ,;")


def arguments_of(said: Parsed, prompt: str, media: tuple[MediaRef, ...], options: RulesOptions) -> dict[str, Any]:
    prompt = uncounted(prompt) or prompt
    return _given(
        {
            "prompt": prompt,
            "media": [ref.id for ref in media],
            "seconds": said.seconds if said.seconds is not None else options.seconds,
            "seed": said.seed,
            "transcript": said.transcript,
            "negative_prompt": said.negative,
            "steps": said.steps,
            "guidance": said.guidance,
            "backend": said.backend,
        }
    )


def _given(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value not in (None, "", [])}


def _only_numbers(said: Parsed) -> bool:
    numbers = (said.seconds, said.seed, said.steps, said.guidance, said.backend)
    asked = any(value is not None for value in numbers) or bool(said.negative) or said.extra_seconds != 0.0
    return asked and not content(said.rest)


def _no_sound_to_change(rest: str) -> bool:
    """Whether a change makes no sense without an earlier sound ("now a cat" does)."""
    swapped = _SWAPS[-1].search(rest)
    return swapped is None and not re.match(r"\W*(?:with|but|more|at|in|from|plus)\b.*\w+\s+\w+\s+\w+", rest, re.I)


def referred(text: str, earlier: Conversation, any_medium: bool = False) -> tuple[MediaRef, ...]:
    """The earlier medium that the text speaks of; with ``any_medium``, else the newest at all."""
    for kind in ("image", "video", "audio"):
        if _REFERENCE[kind].search(text) and (any_medium or kind != "audio" or "recording" in text.lower()):
            if kind == "audio" and earlier.sounds and not re.search(r"\brecording|\buploaded|\bmy\b", text, re.I):
                return (which_sound(text, earlier)[0].media,)
            found = earlier.last(kind) or (earlier.last("audio") if kind == "video" else None)
            if found:
                return (found,)
    newest = earlier.media[-1:] if any_medium else ()
    return newest


def beside_media(rest: str) -> str:
    """The prompt beside attachments: without the words that only point at them."""
    shown, wanted = _SHOWN.search(rest), subject(_SHOWN.sub(" ", rest))
    for pattern in _REFERENCE.values():
        wanted = pattern.sub(" ", wanted)
    wanted = re.sub(
        r"^(?:\W|\b(?:(?:these|those|the) (?:two|three|four)(?: (?:in)?to (?:one|a single)(?: (?:sound|clip|track))?)?|but"
        r"|and|with|something|anything|similar|like|to|for|of|it|this|that|both|here|make|just"
        r"|as|is|blend|mix|combine|turn|into|a|the|sound|fitting|what|would)\b)+",
        "",
        wanted,
        flags=re.I,
    )
    wanted = re.sub(r"\s+", " ", _HERE.sub(" ", wanted)).strip(" ,.;:!?-")
    wanted = wanted if content(wanted) else ""
    return ", ".join(filter(None, (shown["what"] if shown else "", wanted)))


# "what would this place sound like": it is what the picture shows.
_HERE = re.compile(r"\b(?:(?:this|that|the|a)\s+)?(?:place|spot|location|moment|situation|setting)\b(?!\s+of\b)", re.I)
# "a photo of my grandma's sewing machine": what it shows is told.
_SHOWN = re.compile(
    r"\b(?:(?:here's|here is|this is|i have|i took|that's|a|an|my|the|this)\s+)*(?:photo|picture|image|drawing|painting|video"
    r"|clip)\s+of\s+"
    r"(?:my |our |a |an |the )*(?P<what>[^.;,!?]+)",
    re.I,
)


def which_sound(text: str, earlier: Conversation) -> tuple[Sound, str]:
    """The earlier sound that the text means (the current one, where it says nothing), and the text without saying so."""
    found = meant(text, earlier.versions)
    if found.named and found.versions:
        return found.versions[-1].sound, found.rest
    current = earlier.versions.current
    return current.sound if current else earlier.sounds[-1], text


def _length(said: Parsed, old: float, rest: str) -> tuple[float, str, bool]:
    """The new length in seconds, the text without its words, and whether it changed."""
    factor = 1.0
    for pattern, by in _LENGTH:
        if pattern.search(rest):
            rest, factor = pattern.sub(" ", rest), by
            break
    if said.seconds is not None:
        return said.seconds, rest, said.seconds != old
    seconds = round(max(0.5, old * factor + said.extra_seconds), 2)
    return seconds, rest, seconds != old


_CALLS = (
    r"(?:barking|meowing|purring|neighing|whinnying|mooing|howling|growling|crowing|quacking|bleating|chirping|tweeting|hissing|roaring"
    r"|oinking|clucking|cawing|hooting|buzzing|croaking|braying|squeaking|singing)"
)
# "with a darker mood": of the whole sound
_MANNER = re.compile(
    r"(?:an?\s+|the\s+)?(?:(?:much|slightly|a bit)\s+)?(?:(?:\w+er|(?:more|less)\s+\w+)\s+)?(?:ambience|atmosphere|mood|tone"
    r"|feel(?:ing)?|vibe"
    r"|sound|character|timbre|colou?r)(?:\s+(?:much\s+)?(?:\w+er|(?:more|less)\s+\w+))?",
    re.I,
)


def _reworded(prompt: str, rest: str) -> tuple[str, str, bool]:
    """The prompt with swaps and additions applied, what is left of the text, and whether anything was."""
    too = _TOO.search(rest)
    if too and content(too["old"]):
        old, new = too["old"].strip(), _OPPOSITE[too["how"].lower()]
        return _qualified(prompt, old, new), f"{rest[: too.start()]} {rest[too.end() :]}", True
    made_so = _of_a_part(rest, prompt)
    if made_so:
        so = f"{made_so['old']} {made_so['how'].strip(' ,')}"
        return f"{prompt}, {so}", f"{rest[: made_so.start()]} {rest[made_so.end() :]}", True
    for pattern in _SWAPS:
        match = pattern.search(rest)
        if match is None:
            continue
        new, old = match["new"].strip(), match.groupdict().get("old") or ""
        if not content(new):
            continue
        left = f"{rest[: match.start()]} {rest[match.end() :]}"
        call = rf"(?:\s+{_CALLS}\b)?"  # a cat does not bark
        named = re.compile(rf"\b(?:an?\s+|the\s+)?{re.escape(old)}s?\b{call}", re.I) if content(old) else None
        if named and content(prompt):
            return (named.sub(new, prompt, count=1) if named.search(prompt) else f"{prompt} with {new}"), left, True
        return new, left, True
    match = _ADDED.search(rest)
    if match and content(match["new"]) and not re.search(r"\bseed\b", match["new"], re.I) and not _MANNER.fullmatch(match["new"]):
        joint = " and " if " with " in prompt else " with "
        left = f"{rest[: match.start()]} {rest[match.end() :]}"
        return (f"{prompt}{joint}{match['new'].strip()}" if prompt else match["new"].strip()), left, True
    return prompt, rest, False


def _of_a_part(rest: str, prompt: str) -> re.Match[str] | None:
    """ "make the thunder less loud" where the prompt has thunder."""
    found = _MADE_SO.search(rest)
    if found is None or not content(found["old"]) or not content(found["how"]):
        return None
    return found if re.search(rf"\b{re.escape(found['old'][:4])}", prompt, re.I) else None


def _qualified(prompt: str, thing: str, how: str) -> str:
    """``prompt`` with ``how`` said of ``thing``; instead of the last such word that was said of it."""
    known = "|".join(sorted(set(_OPPOSITE.values())))
    found = re.search(rf"\b(?:(?:{known}) )?(?P<thing>{re.escape(thing.removesuffix('s'))}\w*)", prompt, re.I)
    return (
        f"{prompt[: found.start()]}{how} {found['thing']}{prompt[found.end() :]}" if found else f"{prompt}, {how} {thing}".strip(" ,")
    )


def _new_seed(again: bool, rest: str) -> bool:
    return bool(re.search(r"\b(?:different|new|another|fresh)\b", rest, re.I)) and not again


_SAID_OF_IT = (
    rf"(?:{'|'.join(sorted(set(_OPPOSITE.values()) | {'soft', 'faint', 'heavy', 'light', 'gentle', 'far', 'little', 'few'}))})"
)


def _without(prompt: str, word: str) -> str:
    """The prompt without ``word``, its article and what joins it; unchanged where nothing else would be left."""
    stem = re.escape(word.removesuffix("s"))
    led = rf"(?:\s*,)?\s*\b(?:(?:and|with|in|plus|over|by)\s+)?(?:the\s+|a\s+|an\s+|some\s+)?(?:{_SAID_OF_IT}\s+)?"
    where = r"|\s+(?:in|at|on|from|behind|over|under)\s+(?:the|a)\s+\w+"
    for place in (where, ""):  # the place goes with it, unless nothing else is left: "a dog barking in the wind" without the dog
        doing = rf"(?:\s+\w+ing\b(?:\s+(?:loudly|softly|quietly|nearby|away|outside){place})*)?"
        shorter = " ".join(re.sub(rf"{led}{stem}(?:s|es)?\b{doing}", " ", prompt, flags=re.I).split()).replace(" ,", ",").strip(" ,")
        if content(shorter):
            return re.sub(r"^(?:in|at|on|with|from|by|over)\s+(?:the\s+|an?\s+)?", "", shorter, flags=re.I)
    return prompt


# -- the answer after the tools ----------------------------------------------------------------------------------------


def report(results: Sequence[ToolMessage]) -> str:
    """The answer's text, from what the tools really returned."""
    return " ".join(_result(message) for message in results)


def _result(message: ToolMessage) -> str:
    told = outcome(message)
    if told is not None:
        return told
    sound = sound_of(message)
    if sound is not None:
        return _sound_sentence(sound)
    artifact = message.artifact if isinstance(message.artifact, dict) else {}
    if message.status == "success" and artifact.get("described"):
        return " ".join(str(found["verdict"]) for found in artifact["described"])
    reason = text_of(message).strip().rstrip(".")
    return f"That did not work, so there is no new sound: {reason}."


def _sound_sentence(sound: Sound) -> str:
    request, guard = sound.request, sound.artifact["generated"].get("guard") or {}
    if request.get("transcript"):
        what = f"the spoken text “{request['transcript']}”"
    elif request.get("prompt"):
        what = f"“{request['prompt']}”"
    else:
        kinds = {m["kind"] for m in request.get("media", ())}
        what = f"a sound for your {kinds.pop() if len(kinds) == 1 else 'files'}"
    text = f"Here is {what}: {sound.seconds:.4g} s, made with {sound.backend} (seed {request['seed']})."
    if sound.artifact.get("unheard"):
        text += f" It has a voice of its own; “{sound.artifact['unheard']}” is not followed."
    if sound.artifact.get("tool") == "edit_audio" and not request.get("edit"):
        text += f" {sound.backend} cannot edit, so it was made anew."
    return f"{text} Careful: it came out silent; another seed may help." if guard.get("silent") else text


# -- LangChain ---------------------------------------------------------------------------------------------------------


class RulesChatModel(BaseChatModel):
    """Rules over a sentence classifier, as a LangChain chat model. Reads media ids straight from content blocks."""

    reads_media_ids: ClassVar[bool] = True

    options: RulesOptions = RulesOptions()
    _intents: Intents = PrivateAttr()
    _encoder: SentenceEncoder = PrivateAttr()

    def __init__(self, options: RulesOptions, encoder: SentenceEncoder, intents: Intents | None = None) -> None:
        super().__init__(options=options)
        self._encoder = encoder
        self._intents = intents or shipped()

    @property
    def _llm_type(self) -> str:
        return "loa-rules"

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Tools are known by name; binding passes their schemas on, so that a missing one is never called."""
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)

    def prepare(self) -> None:
        """Load what the first answer would have to wait for; may run beside anything else."""
        self._encoder.sentences(["rain"])

    def _classify(self, text: str) -> tuple[str, float]:
        return self._intents.best(self._encoder.sentences([text])[0])

    def _decide(self, messages: Sequence[BaseMessage], bound: Collection[str]) -> Call | Say:
        return decide(messages, self.options, self._classify, bound)

    def _answer(self, messages: list[BaseMessage], tools: Sequence[Mapping[str, Any]]) -> AIMessage:
        last_human = max((i for i, m in enumerate(messages) if isinstance(m, HumanMessage)), default=None)
        if last_human is None:
            return AIMessage(WELCOME)
        results = [m for m in messages[last_human + 1 :] if isinstance(m, ToolMessage)]
        if results:
            return AIMessage(report(results))
        bound = {tool["function"]["name"] for tool in tools}
        decision = self._decide(messages[: last_human + 1], bound)
        if isinstance(decision, Say):
            return AIMessage(decision.text, additional_kwargs={"asked": decision.asked} if decision.asked else {})
        if any(name not in bound for name, _ in decision.calls):
            return AIMessage("I have no tool for that here.")
        # Ids count messages: unique within a thread, and the same history gives the same call.
        calls = [
            {"name": name, "args": args, "id": f"call_{len(messages)}_{k}", "type": "tool_call"}
            for k, (name, args) in enumerate(decision.calls)
        ]
        return AIMessage("", tool_calls=calls)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._answer(messages, kwargs.get("tools") or ()))])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for piece in _pieces(self._answer(messages, kwargs.get("tools") or ())):
            chunk = ChatGenerationChunk(message=piece)
            if run_manager:
                run_manager.on_llm_new_token(str(piece.content), chunk=chunk)
            yield chunk


def _pieces(message: AIMessage) -> Iterator[AIMessageChunk]:
    """The message word by word, its calls last. Chunks carry no id: a constant one would overwrite earlier answers."""
    for word in re.findall(r"\S+\s*", str(message.content)):
        yield AIMessageChunk(content=word)
    calls: list[ToolCallChunk] = [
        {"name": c["name"], "args": _json(c["args"]), "id": c["id"], "index": k, "type": "tool_call_chunk"}
        for k, c in enumerate(message.tool_calls)
    ]
    yield AIMessageChunk(content="", tool_call_chunks=calls, additional_kwargs=message.additional_kwargs, chunk_position="last")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def build_rules(options: Mapping[str, Any], encoder: SentenceEncoder) -> RulesChatModel:
    """The chat model ``rules``. ``encoder`` is only asked once a text is not decided by the rules alone."""
    return RulesChatModel(RulesOptions.model_validate(dict(options)), encoder)


def build_langchain(options: Mapping[str, Any], encoder: SentenceEncoder | None = None) -> BaseChatModel:
    """Any LangChain chat model: ``{"model": "ollama:qwen3", …}``, the rest goes to ``init_chat_model``.

    Raises:
        MissingExtra: the provider's package is not installed; the message names it.
        ConfigError: no model is named, or nobody knows the provider.
    """
    from langchain.chat_models import init_chat_model

    settings = dict(options)
    name = settings.pop("model", None)
    if not isinstance(name, str) or not name:
        raise ConfigError("chat_model.options.model is missing: give one such as 'ollama:qwen3' or 'openai:gpt-4.1'")
    try:
        model = init_chat_model(name, **settings)
    except ImportError as error:
        raise MissingExtra(f"chat model '{name}' needs a package that is not installed here: {error}") from error
    except ValueError as error:
        raise ConfigError(f"chat model '{name}' cannot be set up: {error}") from error
    assert isinstance(model, BaseChatModel)
    return model
