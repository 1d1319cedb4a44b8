"""What people say for courtesy, in five languages: left out before a request is read, or answered if it is all.

Pure functions over text as it was typed. What is to be spoken stays whole. Knows nothing of sounds and tools.
"""

from __future__ import annotations

import re

from orchestrator.corrections import corrected, put_right

_GREETING = (
    r"hi|hello|hey|heya|yo|good (?:morning|afternoon|evening|day)|greetings|howdy|excuse me"
    r"|hallo|hallöchen|guten (?:tag|morgen|abend)|tach|servus|moin(?: moin)?|grüß(?:e| dich| gott| euch)|gruess gott|gruss gott"
    r"|bonjour|bonsoir|salut|coucou|hola|buen[oa]s(?: d[íi]as| tardes| noches)?|你好|您好|嗨|哈喽|早上好|下午好|晚上好|早"
)
_THANKS = (
    r"ta(?: very much| muchly)?|(?:many |a thousand |so )?thanks?(?: you)?(?: (?:so|very) much| a lot| a bunch| a million"
    r"| a ton| heaps| ever so much"
    r"| in advance| again)*|thx|ty"
    r"|cheers|much obliged"
    r"|(?:vielen |herzlichen |besten |tausend |lieben )?dank(?:e|esch[öo]n)?(?: (?:dir|ihnen|euch))?(?: (?:sehr|sch[öo]n"
    r"|vielmals))?(?: im voraus)?"
    r"|merci(?: (?:beaucoup|bien|infiniment|mille fois))?(?: d['’]avance| [àa] (?:vous|toi))?|mille mercis?"
    r"|(?:muchas |mil |much[íi]simas )?gracias(?: de antemano| por adelantado)?(?: a ti)?"
    r"|(?:非常|十分|太)?(?:谢谢|多谢|感谢|谢了|辛苦)(?:你|您|啦|了|大家)*"
)
_PRAISE = (
    r"(?:(?:that's|that is|it's|this is|that was|sounds?|so|very|really|wow|oh|it was|das ist|das war|es war|sehr|echt|wirklich"
    r"|total|c'est|c'était|très|tres|trop|fue|era"
    r"|es|está|esta|muy|qué|que|me|ha|ha gustado|me ha|ja(?:ja)+|haha(?:ha)*|太|真|很|非常|好|蛮|挺) ?)*"
    r"(?:great|good|nice|wow|omg|lol|haha|amazing|awesome|cool|lovely|perfect|beautiful|wonderful|brilliant|fantastic|excellent"
    r"|good job|well done|love it|i love it|spot on|a belter|bang on|nailed it|sorted|ace|brill|lush"
    r"|gut|toll|klasse|super|prima|perfekt|wunderbar|fantastisch|genial|nett|schön|hübsch|spitze|geil"
    r"|génial|genial|parfait|top|magnifique|bien|bravo|chouette|nickel|joli|beau"
    r"|perfecto|buen[oa]|encantado|gustado|jaja\w*|mdr|哈哈+|estupendo|fantástico|fantastico|excelente|me encanta|guay"
    r"|increíble|increible|precios[oa]|bonit[oa]|lind[oa]"
    r"|棒|好听|厉害|完美|不错|赞|喜欢|好)(?: (?:gemacht|so|job|work|one))?(?:了|极了|呀|啊)?"
)
_BYE = (
    r"(?:good)?bye(?: bye)?|see you(?: (?:later|soon|tomorrow))?|good night|tschüss?|tschuess?|auf wiedersehen|bis (?:bald|dann"
    r"|später|morgen)"
    r"|gute nacht|au revoir|à (?:bientôt|demain|plus)|bonne (?:nuit|journée|soirée)|adi[óo]s|hasta (?:luego|pronto|ma[ñn]ana)"
    r"|buenas noches"
    r"|再见|拜拜|晚安|回头见"
)
_ENOUGH = (
    r"never ?mind|all good|forget it|leave it(?: (?:like that|as it is))?|(?:that's|thats|that is|this is|it's|it is) (?:it|all"
    r"|fine|enough|good|ok"
    r"|okay|alright|right)|got it|i see|good enough|sounds good|we're done|i'm done|no,? (?:thanks|thank you)"
    r"|passt(?: schon| so)?|schon gut|alles (?:gut|klar)|das (?:reicht|genügt|war's|passt)(?: mir)?(?: so)?|lass gut sein|egal"
    r"|c'est (?:bon|bien comme [çc]a)|[çc]a (?:ira|va aller|suffit)|laisse tomber|tant pis"
    r"|as[íi] est[áa] (?:bien|perfecto)|est[áa] (?:bien|perfecto)(?: as[íi])?|d[ée]jalo(?: as[íi])?|da igual|listo|ya est[áa]"
    r"|就这样|可以了|不用了|没事|算了|够了|行了|好了"
)
# Clauses that ask nicely and nothing else.
_NICETIES = (
    r"(?:i )?hope (?:you're|you are|this finds you|all is)[^.!?]*|how are you(?: (?:doing|today))*|sorry (?:to (?:bother"
    r"|trouble|disturb) you"
    r"(?: again)?|for (?:the bother|bothering you|disturbing(?: you)?))|if (?:it|that) (?:isn't|is not|wouldn't be|would not be"
    r"|'s not) too much"
    r" (?:bother|trouble|to ask)|if (?:you don't|you do not|you wouldn't) mind|if you (?:would|could)(?: be so kind)?(?: "
    r"please)?|when you (?:have|get)"
    r" (?:a|some) (?:moment|minute|time|chance)|no (?:rush|hurry)|take your time|i'?d appreciate it|would be (?:great|nice"
    r"|lovely|awesome|cool)"
    r"|entschuldig(?:e|en sie|ung)(?: bitte)?(?: die störung| dass ich störe)?(?: bitte)?|wenn (?:es|das) (?:geht|ihnen|dir"
    r"|keine|nicht)[^,.!?]*"
    r"|wie geht(?:'s| es)(?: dir| ihnen)?|sei(?:en sie)? so (?:gut|nett|lieb)(?: und)?|wäre (?:toll|super|nett|schön)"
    r"|(?:excusez|excuse)-moi(?: de vous déranger)?|désolée? de (?:vous|te) déranger|si (?:ça|cela) ne (?:vous|te) dérange pas"
    r"|comment (?:allez-vous|vas-tu|ça va)|j'espère que (?:vous|tu) [^.!?]*"
    r"|(?:perdón|perdona|perdone|disculpa|disculpe)(?: la molestia| que (?:te|le|os) moleste)?|si no es (?:mucha )?molestia|si "
    r"no te importa"
    r"|espero que (?:est[ée]s|est[ée])[^.!?]*|cuando puedas|不好意思(?:打扰(?:了|一下|您)?)?|打扰(?:一下|了)|抱歉|如果(?:方便"
    r"|可以)的话"
)
_GREETS = re.compile(
    rf"^\W*(?:{_GREETING}|dear)(?:(?:[ ,]+(?!i\b|we\b|you\b)[\w'-]+){{0,2}}?[,!.:]+\s*|[,，！!。]\s*)(?=\W*\w+\W*\w)"
    r"|^\W*(?:hallo|hey|moin|servus|bonjour|bonsoir|salut|hola|buenos d[íi]as|你好|您好)(?: (?=\w+ \w+)|(?=[\u3400-\u9fff]{3}))",
    re.I,
)
_FILLS = re.compile(
    r"^\W*(?:(?:um+|uh+|er+m?|hm+|ah|oh|ok(?:ay)?|so|well|also|na|naja|nee|nö|ne|äh+m?|öhm?|ja|euh|bon|ben|alors|bueno|pues|eh"
    r"|vale|嗯|呃|那个|哦|好的?)"
    r"\s*[,，.…]+\s*)+(?=\w)",
    re.I,
)
_CLAUSE = re.compile(
    rf"(?:^|(?<=[,.!?;:，。！；]))\s*(?:but |and |und |et |y )?(?:{_NICETIES})\s*(?:[,.!?;:，。！；]+|(?: but| aber| mais"
    rf"| pero)\b|$)",
    re.I,
)
_ENDS = re.compile(
    rf"(?:(?<=[.!?。！？])|[,;，；]|\s[-–])\s*(?:{_THANKS})(?:[\s,.!]+(?-i:[A-Z])\w+)?[\s!.。！]*$|(?<=\w)\s+(?:thx|thanks"
    rf"|merci|danke|gracias|谢谢)[\s!.。！]*$",
    re.I,
)
_YES = r"(?:ok|okay|ja|yes|no|nein|oui|non|s[íi]|bueno|well|oh|ah|alright|wow|so|好的?|嗯|行)"
_KINDS = tuple(
    (kind, re.compile(rf"\W*(?:{_YES}\W*)*(?:{words}){more}", re.I))
    for kind, words, more in (
        ("hello", _GREETING, r"(?:\W+(?:there|again|loa|zusammen|大家))?\W*"),
        ("bye", _BYE, r"(?:\W+\w+)?\W*"),
        ("thanks", f"{_ENOUGH}|{_THANKS}|{_PRAISE}", rf"(?:\W*(?:{_THANKS}|{_PRAISE}|{_ENOUGH}|{_BYE}|then|now|for now"
        "|for today|everyone|dear|mate|man|dir|jetzt|so|吧|了|呢))*"
        r"(?:\W+(?:crack|legend|star|hero|champ|boss|mate|buddy|t[íi]o|chef|alter|maestro)\b)?"
        r"(?:\W+(?:you|you've|du|tu|me|te|that|das|ça|eso|esto|m'as)\b[^.!?:]{0,40}(?:sav|help|rescu|gerettet|geholfen|sauv|aid|salv|ayud)\w*[^.!?:]{0,30})?"
        r"(?:\W+(?:for|für|pour|por|de)\b[^.!?:]*)?(?:,\s*\w+)?\W*"),
    )
)  # fmt: skip
_SPOKEN = re.compile(
    r"[\"“„«「『]|\b(?:say|says|saying|read|reads|speak|speaks|announce|whisper|whispers|recite|narrate|voice|sag|sage|sagt"
    r"|sagen|lies|lesen"
    r"|sprich|spricht|dis|dit|dire|lis|lire|di|diga|diciendo|decir|lee|leer)\b|(?<!我是)(?<!我)[说读念讲]",
    re.I,
)


def small_talk(text: str) -> str:
    """What a text is if it is nothing but courtesy: "hello", "thanks" (nothing more is wanted, too), "bye"; else "".

    >>> small_talk("Passt schon, danke!"), small_talk("bonsoir"), small_talk("great dog")
    ('thanks', 'hello', '')
    """
    return next((kind for kind, pattern in _KINDS if pattern.fullmatch(text)), "")


def without_courtesy(text: str) -> str:
    """The text without greeting, thanks and niceties, and without what it takes back itself.

    >>> without_courtesy("Good evening! Sorry to bother you, could you make a kettle whistling? Many thanks, Edith")
    'could you make a kettle whistling?'
    >>> without_courtesy("rain. no wait, I meant hail"), without_courtesy("zehn Sekunden Meer, nein, lieber zwölf Sekunden")
    ('hail', 'zwölf Sekunden Meer')
    """
    if small_talk(text):
        return text
    if _SPOKEN.search(text):
        led = put_right(_GREETS.sub("", text))
    else:  # what takes something back may sound like a courtesy: "pardon"
        led = _CLAUSE.sub(" ", corrected(_ENDS.sub("", _GREETS.sub("", _FILLS.sub("", text)))))
    return led.strip() if re.search(r"\w", led) else text
