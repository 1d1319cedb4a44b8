"""Of what a person says, the part that is to be heard: without the story around it and what it is wanted for.

"I'm making a podcast about trains, can you give me a steam train leaving the station?" asks for a steam train leaving the station.
Rules over English text; knows neither the conversation nor numbers.
"""

from __future__ import annotations

import re

_VAGUE = frozenset(
    """
    a an the some any one ones sound sounds noise noises audio clip clips sfx effect effects sample track
    recording something anything nice cool good great it this that these those thing me my for of to with
    please here there short long new quick little fitting matching suitable and or but so what would like how
    be is are do does can could you i make create generate produce give get want need in on into out both all
    them fits fit match goes go turn set add as similar silent picture photo image video scene film photograph
    pic drawing attached file files mix blend combine together one's same again their its which from by put
    let hear based everything bit now just really exactly then im i'm i'd soundtrack atmosphere look looks seen see shown
    showing shows it's hmm uh um well ok okay yes no second seconds minute minutes sounding along
    tomorrow today tonight later soon
    """.split()  # noqa: SIM905 - a list of 120 quoted words is harder to read
)

_SOFT = r"(?:please |pls |maybe |perhaps |possibly |kindly |also |just |really |quickly |be so kind as to |try to |help me )*"
_DO = (
    r"(?:make|create|generate|produce|give|do|get|find|play|record|simulate|imitate|design|render|compose|build|cook up|come up with"
    r"|whip up|synthesi[sz]e|have|send|show|bring|add|knock up|rustle up|mock up|magic up|dream up|lay down|throw together"
    r"|sort (?:me |us )?out"
    r"|put together)"
)
_FOLK = (
    r"(?:grand)?(?:sons?|daughters?|kids?|child(?:ren)?|wife|husband|mum|mom|dad|mother|father|parents|boss|teacher|students?|class"
    r"|friends?|sister|brother|boyfriend|girlfriend|clients?|customers?|neighbou?rs?|colleagues?|director|editor|team|little one)"
)
_SPACED = tuple(part.replace(" ", r"\ ") for part in (_SOFT, _DO, _FOLK))  # in a verbose pattern
_ASKED = re.compile(
    rf"""\b(?:
        (?:can|could|would|will)\ (?:you|u|ya|we|i|one)\ {_SPACED[0]}{_SPACED[1]}\b
      | (?:i|we)(?:'d|'m|'re|\ would|\ am|\ are|\ will|'ll)?\ {_SPACED[0]}(?:need|want|would\ love|love|like|looking\ for
      |after|could\ use
        |be\ looking\ for)\b(?:\ (?:you\ )?to\ (?:{_SPACED[1]}|hear)\b)?
      | you\ (?:can|could|would|might)\ {_SPACED[0]}{_SPACED[1]}\b
      | any\ chance\ (?:of\ (?:getting\ |having\ )?|you\ (?:can|could)\ {_SPACED[0]}{_SPACED[1]}\b)
      | (?:please|so|now|then)\ {_SPACED[1]}\b
      | (?:my|our|his|her|the)\ (?:\w+\ )?{_SPACED[2]}\ {_SPACED[0]}(?:wants?|needs?|wishes\ for|asks?\ for|(?:is
      |are)\ asking\ for|asked\ for
        |would\ (?:like|love))\b(?:\ (?:{_SPACED[1]}|hear)\b)?
      | (?:they|he|she)\ {_SPACED[0]}(?:needs?|wants?|would\ (?:like|love)|asked\ for)\b(?:\ (?:{_SPACED[1]}|hear)\b)?
      | (?:and|so|but)\ {_SPACED[0]}(?:need|want|could\ use|would\ (?:like|love))\b(?:\ to\ (?:{_SPACED[1]}|hear)\b)?
      | do\ you\ have\b | have\ you\ got\b | how\ about\b | let\ me\ hear\b | let's\ (?:have|hear|make|do)\b
      | is\ it\ possible\ to\ {_SPACED[1]}\b
    )\ *(?:(?:me|us|it|for\ me)\b\ *)*""",
    re.VERBOSE | re.IGNORECASE,
)
# Who speaks of himself, of us, or of why, says nothing that could be heard.
_STORY = re.compile(
    r"\b(?:i|i'm|i've|i'll|my|we|we're|our|us|you|your|u|thanks|thank|cheers|hello|hi|hey|because|since it's|it's for|this is for"
    r"|that's for|it is for|project|deadline|homework)\b",
    re.I,
)
_THINGS = (
    r"(?:(?:video|computer|board|mobile|phone|indie|role[ -]playing|horror|puzzle)?[ -]?games?|podcasts?"
    r"|(?:short|student|horror|science|silent)?[ -]?(?:films?|movies?)"
    r"|(?:youtube|tiktok|insta(?:gram)?|product|birthday|wedding|holiday|school|explainer)?[ -]?(?:videos?|clips?|reels?|channels?)"
    r"|projects?|apps?|websites?|presentations?|slides?|talks?|plays?|theat(?:er|re)(?: plays?| pieces?)?|class(?:room|es)?|lessons?"
    r"|school|homework|streams?|ads?|adverts?|advertisements?|trailers?|intros?|outros?|audio ?books?|radio plays?|installations?"
    r"|exhibitions?|museums?|d&d sessions?|campaigns?|sessions?|ringtones?|alarms?|meditations?|kids?|son|daughter|children|friend"
    r"|boss|wife|husband|mum|mom|dad|grandma|party|wedding|thesis|papers?|demos?|animations?|cartoons?|series|documentar(?:y|ies)"
    r"|prank|students?|customers?|clients?)"
)
_MEDIA = (
    r"(?:games?|podcasts?|short films?|school projects?|projects?|presentations?|apps?|websites?|youtube videos?|audio ?books?"
    r"|radio plays?|theat(?:er|re) (?:plays?|pieces?)|d&d sessions?)"
)
# "for my video game", "in our podcast about trains"; "for piano" and "for an old door" stay.
_PURPOSE = re.compile(
    rf"""[,;]?\s*\b(?:for|in|to\ use\ in|to\ put\ in(?:to)?|to\ go\ with|to\ play\ (?:in|at|during))\s+
    (?:(?:my|our|his|her|their)\s+(?:\w+\s+){{0,2}}?(?:{_THINGS.replace(" ", chr(92) + " ")})
      |(?:(?:an?|the|this|some|today's)\s+)?(?:\w+\s+)??(?:{_MEDIA.replace(" ", chr(92) + " ")}))\b
    (?:\s+(?:about|on|called|named)\s+(?:\w+\s*){{1,3}}?(?=$|[,.;!?]))?""",
    re.VERBOSE | re.IGNORECASE,
)
_SLANG = re.compile(
    r"[\s,]*(?<![\w'-])(?:lol|lmao|rofl|xd|ha(?:ha)+h?|he(?:he)+|omg"
    r"|pls|plz|thx|ty|tho|btw|tbh|imo|imho|idk|kinda|sorta|y'?know|you know|uh+|um+|eh|hm+|meh)"
    r"(?![\w'-])",
    re.I,
)
_LISTED = re.compile(r"(?:^|[\s:;,])(?:\(?(?P<number>[1-4])[).:]|(?P<letter>[a-d])\))\s+(?=\S)")
_SENTENCE = re.compile(r"(?<=[.!?;])\s+")


def content(text: str) -> list[str]:
    """The words of ``text`` that say what is heard.

    >>> content("make me a nice sound of it"), content("a nice dog")
    ([], ['dog'])
    """
    return [w for w in re.findall(r"[^\W\d_][\w'’-]*", text.lower()) if w not in _VAGUE and len(w) > 1]


def asked(text: str) -> str:
    """``text`` without its story and its purpose; as it is where nothing to be heard would be left.

    >>> asked("My son has a birthday. Could you make me a roaring dragon for his party? Thanks!")
    'a roaring dragon?'
    """
    bare = _PURPOSE.sub(" ", text)
    bare = re.sub(r"\s+([?.!,;])", r"\1", " ".join(bare.split())) if content(bare) else text
    told = re.match(r"(?P<before>[^:.!?]{8,120}):\s+(?P<what>\S.*)$", bare)
    if told and _STORY.search(told["before"]) and not _ASKED.search(told["before"]) and content(told["what"]):
        bare = told["what"]  # "you got it wrong twice, so listen: …"
    sentences = [s for s in _SENTENCE.split(bare) if s.strip()]
    wished = [_after_the_wish(s) for s in sentences]
    if any(wish for wish in wished):
        first = next(k for k, wish in enumerate(wished) if wish)
        own = sentences[first][: len(sentences[first]) - len(wished[first])]
        wished[first] = _named_before(wished[first], " ".join([*sentences[:first], own]))
        kept = [wish or sentences[k] for k, wish in enumerate(wished) if wish or (k > first and _tells(sentences[k]))]
        return " ".join(kept)
    if len(sentences) > 1:
        kept = [s for s in sentences if _tells(s)]
        if kept:
            return " ".join(kept)
    return bare


def plainly(text: str) -> str:
    """``text`` without the noises that people type between words: "lol", "hmm", "pls"."""
    plain = " ".join(_SLANG.sub(" ", text).split())
    return plain if plain.strip(" ,.;:!?") else text


def listed(text: str) -> tuple[str, ...]:
    """The things of a numbered list, two to four of them; nothing where there is none.

    >>> listed("I need: 1) a door slam 2) a car starting")
    ('a door slam', 'a car starting')
    """
    marks = list(_LISTED.finditer(text))
    said = [m["number"] or str("abcd".index(m["letter"].lower()) + 1) for m in marks]
    if len(marks) < 2 or said != [str(k + 1) for k in range(len(marks))]:
        return ()
    ends = [m.start() for m in marks[1:]] + [len(text)]
    things = tuple(
        re.sub(r"[\s,;]+(?:each|apiece)$", "", text[m.end() : end].strip(" ,.;:\n")) for m, end in zip(marks, ends, strict=True)
    )
    return things if all(content(thing) for thing in things) else ()


def _after_the_wish(sentence: str) -> str:
    """What follows "can you make me"; "" where the sentence wishes nothing, or nothing to be heard follows."""
    found = None
    for match in _ASKED.finditer(sentence):
        if content(sentence[match.end() :]):
            found = match
    if found is None:
        return ""
    before = sentence[: found.start()].strip(" ,;:-")
    # "a dog barking, I want it loud": the story is the thing itself
    if content(before) and not _STORY.search(before) and re.match(r"(?:it|that|this|them)\b", sentence[found.end() :], re.I):
        return ""
    if re.search(r"(?:it|that|this|them)\s*$", found[0].strip(), re.I) and content(before):
        return ""
    return sentence[found.end() :]


def _named_before(wish: str, before: str) -> str:
    """ "My father had a typewriter. I'd love to hear one again": a typewriter."""
    found = re.match(r"\s*(?:one|it|that|them)(?: again| once more)?\b(?! of\b)", wish, re.I)
    things = re.findall(
        r"\ban? (?!bit\b|lot\b|little\b)([a-z][\w -]*?)(?= (?:every|each|in|on|at|when|while|that|which|who|and|from|for|with"
        r"|all)\b|[,.;!?]|$)",
        before,
    )
    fond = r"(?:obsessed with|crazy about|loves?|likes?|into|(?:a )?fan of|collects?|about)"
    loved = re.findall(rf"\b{fond}\s+([a-z][a-z -]*?)s\b(?= and|[,.;!?]|$)", before)
    named = things or loved
    return f"a {named[-1]}{wish[found.end() :]}" if found and named else wish


def _tells(sentence: str) -> bool:
    return bool(content(sentence)) and not _STORY.search(sentence)
