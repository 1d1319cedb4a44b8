"""German, French, Spanish and Chinese requests as the English that the rules read: turns of speech first, then word by word.

A gloss, no translation: it keeps the order of the words and drops what says nothing about a sound. What is quoted stays as it
is, for it is to be spoken. The tables are `phrases.txt` and `lexicon.txt`.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from orchestrator.intents import examples
from orchestrator.numbers import digits

LANGUAGES = ("en", "de", "fr", "es", "zh")
_HAN = re.compile(r"[\u3400-\u9fff]")
_MARKS = {
    "de": """guten abend nacht moin servus
        passiert diesem dieser diese dieses brauche brauchen dafür schon passt singt hier auch
        bisschen mehr soll sollen wird werden
        sind hast habe haben hätte gern gerne wo warum welche welcher welches mein meine meinem meinen dein ohne gib lass
        alles nur kein keine
        der die das ein eine einen einem einer und mit ohne im auf für von zu bitte mir mach ist nicht sekunden wie klingt
        denn da dann doch eben gerade gar ganz irgendein irgendeine damit dabei davon daran darin dort hin her weg raus rein
        runter drunter
        erkennst siehst gemacht zuletzt vorhin vorher nachher gestern morgen heute immer nie nichts jemand leute kannst könntest würdest
        möchte möchten will wollen ihr ihnen sie er uns euch ihn ihm man sich zum beim vom ins ans aufs übers nach seit bis gegen durch
        weil wenn ob dass damals schnell langsam tief hoch oben unten links rechts nee nö ja nein naja bloß einfach
        eigentlich vielleicht
        weniger viel viele sehr richtig falsch neu neue neuen alt alte alten groß große klein kleine kleinen anderen anderer andere
        was kannst du ich noch nochmal länger kürzer bild jetzt den dem des zum zur aber wer hat dich danke vergleiche sag lies
        geräusch klang etwas statt als speicher leise laut hallo exportiere beschreibe zurück zweite öffne hört""",
    "fr": """bonsoir salut bonne nuit
        dans ça cela chante ici faut il elle nous vous ai as avons sont était où pourquoi combien quoi tout tous seulement
        très bien
        même aussi trop moins faire mettre met mets donne veut
        le la les un une des du de et avec sans dans sur pour qui que est fais moi je veux voudrais bruit secondes plus
        s'il te plaît c'est quoi cet image cette ce mon ma encore mais peux tu comme au aux bonjour merci dis lis quel quelle qu'est
        celui celle ceux celles milieu d'avant pourrait pourrais pourriez serait aurais aurait voudrait voulais besoin peu
        beaucoup toujours jamais rien personne
        quelqu'un quelque
        lui leur leurs notre votre nos vos ses sa son mes tes ta ton là-dessus dessus dessous dedans dehors lors puis alors donc car
        comme autre autres nouveau nouvelle vieux vieille grand grande petit petite premier première deuxième troisième dernier dernière
        non oui d'accord plutôt vraiment peut être peut-être après avant pendant sous entre contre chez vers depuis jusqu'à irait marche
        enregistre exporte décris dessine crée reviens ouvre entend entend-on""",
    "es": """buenas noches tardes
        canta aquí esto eso está hace falta nos sus tus muy bien también sólo todo todos cuál cuánto dónde cuándo mejor menos
        hay tengo tiene pon ponle dame quita quítale necesito cuéntame chiste
        el la los las un una unos de del y con sin en para que es haz quiero sonido segundos más por favor imagen esta este
        mi otra vez pero puedes como cómo qué al hola gracias di lee suena quién foto guárdalo exporta describe dibuja crea
        podría podrías puede puedo quisiera gustaría querría quería haría harías hacer poner suene dure tenga sea ser estar era fue
        poco mucho mucha muchos muchas siempre nunca nada nadie alguien algo otro otros otras nuevo nueva viejo vieja grande pequeño
        primero primera segundo segunda tercero último última no sí vale mejor realmente quizás después antes entre sobre
        bajo hasta desde
        hacia contra porque pues entonces cada donde cuando quien cual les nos le lo su sus ese esa esos esas aquel aquella
        vuelve ruido durante abre oye""",
    "en": """the a an of and with without in on for that is make me please sound seconds second what how do you it this my to
        by again longer but one first say read give can i want""",
}
_LETTERS = {"de": "äöüß„", "fr": "àâçèêëîïôûùœ«", "es": "ñ¿¡áíóú"}
_ENDINGS = {"de": ("es", "en", "er", "em", "e", "n", "s"), "fr": ("es", "s", "e", "x"), "es": ("es", "s")}
_SMALL = {
    "de": {
        "und": "and", "mit": "with", "in": "in", "im": "in the", "am": "at the", "auf": "on", "an": "on",
        "bei": "by", "unter": "under",
        "über": "over", "durch": "through", "vor": "in front of", "hinter": "behind", "neben": "beside",
        "zwischen": "between",
        "von": "of", "vom": "of the", "aus": "from", "gegen": "against", "aber": "but", "dann": "then",
        "oder": "or", "der": "the",
        "die": "the", "das": "the", "den": "the", "dem": "the", "des": "of the", "ein": "a", "eine": "a",
        "einen": "a", "einem": "a",
        "einer": "a", "eines": "of a", "viele": "many", "zwei": "two", "drei": "three", "vier": "four", "mehr": "more",
        "weniger": "less",
        "bitte": "", "mir": "", "mal": "", "gern": "", "gerne": "", "sehr": "very", "so": "", "es": "it",
        "als": "as", "soll": "",
        "sein": "", "sich": "", "offne": "open", "zu": "", "zum": "", "zur": "", "fur": "for", "machen": "",
        "erzeugen": "",
        "horen": "", "ist": "",
        "etwas": "something", "alle": "all", "system": "system", "systeme": "systems", "dazu": "",
        "davon": "", "an dem": "on the",
        "mach": "make", "sekunde": "second", "datei": "file", "wie": "like", "ton": "sound", "klingen": "",
        "hinzu": "", "wird": "",
        "geräusch": "sound", "klang": "sound", "erste": "first", "ersten": "first", "bild": "picture", "foto": "photo",
        "was": "", "wer": "who", "wo": "where", "warum": "why", "welche": "which", "welcher": "which", "welches": "which",
        "hast": "have", "hat": "has", "du": "you", "kannst": "can", "gemacht": "made", "siehst": "see", "hort": "hear",
        "erkennst": "see", "zuletzt": "last", "vorher": "before", "nicht": "not", "nichts": "nothing", "ohne": "without",
        "nur": "only", "mein": "my", "meine": "my", "meinen": "my", "meinem": "my", "meiner": "my", "kein": "no",
        "keine": "no", "keinen": "no", "jetzt": "now", "ganz": "", "sehen": "see", "statt": "instead of",
    },
    "fr": {
        "et": "and", "avec": "with", "dans": "in", "sur": "on", "sous": "under", "a": "at", "au": "at the",
        "aux": "at the", "de": "of",
        "du": "of the", "des": "", "le": "the", "la": "the", "les": "the", "l": "the", "d": "of", "un": "a",
        "une": "a", "qui": "that",
        "que": "", "par": "by", "pour": "for", "mais": "but", "puis": "then", "ou": "or", "en": "in", "se": "", "s": "",
        "contre": "against",
        "derriere": "behind", "devant": "in front of", "entre": "between", "deux": "two", "trois": "three",
        "quatre": "four",
        "plus": "more", "moins": "less", "tres": "very", "s'il te plait": "", "s'il vous plait": "",
        "moi": "", "il": "it",
        "ce": "this",
        "cette": "this", "me": "", "te": "", "y": "", "tous": "all", "systeme": "system", "systemes": "systems",
        "quelque chose": "something",
        "fichier": "file", "image": "picture", "photo": "photo", "comme": "like", "est": "", "son": "sound",
        "bruit": "sound",
        "on": "", "tu": "", "je": "", "ouvre": "open", "plusieurs": "several", "chose": "thing",
        "quel": "which", "quelle": "which", "quoi": "what", "pourquoi": "why", "combien": "how much", "sans": "without",
        "mon": "my", "ma": "my", "mes": "my", "encore": "again", "tout": "all", "rien": "nothing", "avant": "before",
        "apres": "after", "pendant": "during",
    },
    "es": {
        "y": "and", "e": "and", "con": "with", "en": "in", "sobre": "on", "bajo": "under", "a": "",
        "al": "at the", "de": "of",
        "del": "of the", "el": "the", "la": "the", "los": "the", "las": "the", "lo": "the", "un": "a",
        "una": "a", "unos": "some",
        "unas": "some", "que": "that", "por": "by", "para": "for", "pero": "but", "luego": "then", "o": "or", "se": "",
        "contra": "against",
        "detras": "behind", "delante": "in front of", "entre": "between", "dos": "two", "tres": "three",
        "cuatro": "four",
        "mas": "more",
        "menos": "less", "muy": "very", "por favor": "", "me": "", "este": "this", "esta": "this",
        "como": "as", "todos": "all",
        "sistema": "system", "sistemas": "systems", "algo": "something", "archivo": "file",
        "imagen": "picture", "foto": "photo",
        "su": "its", "sonido": "sound", "ruido": "sound", "abre": "open", "varios": "several",
        "cual": "which", "quien": "who", "donde": "where", "cuanto": "how much", "cuando": "when", "sin": "without", "solo": "only",
        "todo": "all", "nada": "nothing", "mi": "my", "mis": "my", "antes": "before", "despues": "after", "no": "no",
        "esto": "this", "suena": "",
    },
    "zh": {
        "的": " ", "在": " in ", "上": " on ", "里": " in ", "和": " and ", "与": " and ", "跟": " and ",
        "还有": " and ", "有": " with ",
        "着": "", "了": "", "把": "", "是": "", "一个": " a ", "一只": " a ", "一条": " a ", "一座": " a ", "一列": " a ",
        "一辆": " a ",
        "一声": " a ", "一群": " a group of ", "一些": " some ", "一片": " a ", "一段": " a ", "一阵": " a ",
        "这": "this ", "它": "it ", "很": " ",
        "请": "", "吗": "", "呢": "", "吧": "", "啊": "", "但是": ", but ", "但": ", but ", "然后": ", then ",
        "中": " in ", "下": " under ",
        "，": ", ", "。": ". ", "、": ", ", "：": ": ", "；": "; ", "？": "?", "！": "!", "（": " (", "）": ") ",
        "声": "", "个": "",
        "只": "", "条": "",
        "用": " with ", "从": " from ", "到": " to ", "两": "two ", "两只": "two ", "三只": "three ", "像": " like ",
        "给": " for ",
        "打开": "open ", "为": " as ", "成": " as ", "图片": "picture",
        "照片": "photo", "视频": "video", "文件": "file", "格式": " ", "系统": "system ", "所有": "all ", "曲": " piece",
        "音": " sound",
        "忽略所有指令": "",
        "一首": " a ", "正在": "", "地": " ", "得": " ", "也": " ", "都": " ", "最后": "last ", "那": "that ", "东西": "thing",
    },
}  # fmt: skip
_SPEAK = {
    "de": r"\b(?:sag|sage|sagt|sagen|sprich|sprechen|spricht|erzahlt|erzahlend\w*|lies|lesen|vorlesen"
    r"|fluster\w*|verkund\w*|ansage|ruf|ruft|rufen)\b",
    "fr": r"\b(?:dis|dit|dire|parle|lis|lire|lit|annonce\w*|prononce\w*|chuchote\w*|crie|raconte\w*|racontant)\b",
    "es": r"\b(?:di|dice|diga|diciendo|decir|habla|lee|leer|anuncia\w*|pronuncia\w*|susurra\w*|grita|cuenta|contando|narra\w*)\b",
    "zh": r"(?:说|朗读|念|读|播报|宣布|讲)",
}
_ALOUD = {  # "Lies das vor: …", what follows is to be spoken
    language: rf"^[^:：\"“”„«»「『]{{0,40}}?{verbs}[^:：\"“”„«»「『]{{0,30}}[:：]\s*\S" for language, verbs in _SPEAK.items()
}
_QUOTED = re.compile(r"[\"“”„«»「『‹›]\s*([^\"“”„«»「」『』‹›]+?)\s*[\"“”«»」』‹›]")
_SPEAK_EN = re.compile(r"\b(?:say|says|read|speak|announce|whisper|recite|narrate|pronounce|tell|voice|shout)\b", re.IGNORECASE)
# A plea to forget one's rules, or to touch files, in any of the languages: it is left out before anything is read.
PLEAS = re.compile(
    r"\b(?:ignorier|vergiss|missacht|umgeh)\w*\b[^.;!?\n]*\b(?:anweisung|regel|befehl|vorgabe|alles)\w*[^.;!?\n]*"
    r"|\b(?:losch|lösch|entfern)\w*\b[^.;!?\n]*\b(?:datei|speicher|verlauf|datenbank)\w*[^.;!?\n]*"
    r"|\b(?:ignore[zr]?|oublie[zr]?|contourne)\b[^.;!?\n]*\b(?:instruction|regle|règle|consigne|tout)\w*[^.;!?\n]*"
    r"|\b(?:supprime|efface)[zr]?\b[^.;!?\n]*\b(?:fichier|historique|base|disque)\w*[^.;!?\n]*"
    r"|\b(?:ignora|olvida|omite)\w*\b[^.;!?\n]*\b(?:instrucci|regla|todo)\w*[^.;!?\n]*"
    r"|\b(?:borra|elimina)\w*\b[^.;!?\n]*\b(?:archivo|historial|base|disco)\w*[^.;!?\n]*"
    r"|(?:忽略|无视|忘记|忘掉)[^。；！？.\n]*(?:指令|规则|指示|提示|一切)[^。；！？.\n]*|(?:删除|清空)[^。；！？.\n]*(?:文件"
    r"|数据|历史|记录)[^。；！？.\n]*",
    re.IGNORECASE,
)


def detect(text: str) -> str:
    """The language of a text: "en", "de", "fr", "es" or "zh"; English where nothing speaks for another.

    >>> [detect(t) for t in ("rain on a tent", "Regen auf dem Zelt", "la pluie sur le toit", "雨声", "lluvia con viento")]
    ['en', 'de', 'fr', 'zh', 'es']
    """
    if _HAN.search(text):
        return "zh"
    outside = _QUOTED.sub(" ", text)
    if outside != text and not _SPEAK_EN.search(outside):
        own = [language for language, verbs in _SPEAK.items() if language != "zh" and re.search(verbs, fold(outside))]
        if len(own) == 1:
            return own[0]  # "Sprich: „…“"
    lower = re.sub(r"(?<!\w)['‘][^'’]*['’](?!\w)", " ", _QUOTED.sub(" ", text.lower()))
    words = re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)?", lower)
    tables = {language: _table(language) for language in _LETTERS}
    scores = {}
    for language, marks in _MARKS.items():
        known = set(marks.split())
        score = sum(word in known for word in words) + 1.5 * any(letter in lower for letter in _LETTERS.get(language, ""))
        if language == "fr":
            score += re.search(r"(?<!\w)[dl]['’](?=[^\W\d_]{3})", lower) is not None
        if language != "en":
            table = tables[language]
            foreign = [fold(word) for word in words if len(word) > 2 and not {word, word.removesuffix("s")} & _english()]
            score += sum(0.6 if table.knows(word) else 0.35 for word in foreign if table.find(word) is not None)
        else:  # "taxi" says less for English than "cab", for others write it alike
            alike = [any(table.knows(word) for table in tables.values()) for word in words if word in _english() and word not in known]
            score += sum(0.3 if shared else 0.6 for shared in alike)
        scores[language] = score
    best = max(scores, key=lambda language: scores[language])
    return best if scores[best] > max(scores["en"], 0.5) else "en"


def gloss(text: str, language: str) -> str:
    """``text`` in ``language`` as English that the rules can take apart; English comes back as it is.

    >>> gloss("zwölf Sekunden Regen auf einem Blechdach ohne Donner", "de")
    '12 seconds rain on a tin roof without thunder'
    """
    if language == "en" or not text.strip():
        return text
    text = _spoken(" ".join((simplified(text) if language == "zh" else text).split()), language)
    names = _names(text, language)
    held: list[str] = []

    def hold(finished: str) -> str:
        held.append(finished)
        return f"\ue000{len(held) - 1}\ue001"

    text = re.sub(
        _BY_NAME if len(set(re.findall(_BY_NAME, text.lower()))) > 1 or _TECHNICAL.search(text) else _BY_LONG_NAME,
        lambda m: hold(m[0]),
        text,
        flags=re.I,
    )
    text = re.sub(
        r"\"[^\"]*\"|\bread aloud: .*$|\S*://\S+|(?<!\S)[~.]*/\S+|\b[\w-]*\d[\w-]*[a-z][\w-]*\b(?<!\ds)"
        r"|\b(?!mp3\b)[a-z]+(?:-[a-z\d]+)*-?\d[\w-]*\b",
        lambda m: hold(m[0]),
        text,
    )
    if language == "zh":  # typed with an English keyboard
        text = re.sub(r"(?<=[\u3400-\u9fff])\s*([,.?!:;])|(?<![\d\w])([,.?!:;])(?=\s*[\u3400-\u9fff])", _full_width, text)
    text = text.replace("läut", "laeut").replace("Läut", "laeut").replace("uñas", "unyas")  # bells ring; "lauten" is loud
    text = _each_denied(digits(fold(text).replace("allererst", "erst"), language), language)
    for pattern, english in _phrases(language):
        text = pattern.sub(lambda m, english=english: _expanded(m, english, hold), text)  # type: ignore[misc]
    pieces = re.split(r"(\ue000\d+\ue001)", text)
    table = _table(language)
    spoken = [piece if piece.startswith("\ue000") else table.words(piece, names) for piece in pieces]
    quoted = {k for k, piece in enumerate(held) if piece.startswith(('"', "read aloud:"))}  # as it is to the end

    def unheld(match: re.Match[str]) -> str:
        return match[0] if int(match[1]) in quoted else held[int(match[1])]

    joined = without_leftovers(spoken, held)
    while (once := re.sub(r"\ue000(\d+)\ue001", unheld, joined)) != joined:
        joined = once
    joined = re.sub(
        r"\bmake\s+(?=the sound of\b|make\b|draw\b|say\b|read aloud\b|compare\b|again\b|soundtrack\b)", "", " ".join(joined.split())
    )
    joined = re.sub(r"\bthe sound of\s+(?=the sound of\b|a sound for\b)", "", joined)
    joined = re.sub(r"\bthe sound of (?=for this picture\b)", "a sound ", joined)
    joined = re.sub(r"\b(on|in|with|over|under|from|through|against) of (?=the\b)", r"\1 ", joined)
    joined = re.sub(r"\s+([,.;:!?])", r"\1", joined)
    joined = re.sub(rf"\b(?:more )+({'|'.join(_COMPARED)})\b", lambda m: _COMPARED[m[1]], joined)
    joined = re.sub(rf"\b{'in' if language == 'zh' else 'that'} (?=(?:[a-z]+ly )?[a-z]+ing\b)(?!{_THINGS}\b)", "", joined)
    if language == "zh":  # a system's name stands by itself
        joined = re.sub(r"(?<=[\u3400-\u9fff])(?=[a-z\d])|(?<=[a-z\d])(?=[\u3400-\u9fff])", " ", joined, flags=re.I)
    if language == "de":  # "ein Zug der vorbeifährt", without its comma
        joined = re.sub(rf"\b([a-z]+) the (?=(?:{_DOINGS_END}))(?!{_THINGS}\b)", _relative, joined)
    joined = re.sub(r"\b(?:an? )?(\w{3,}) (\w+ing) \1\b", r"\1 \2", joined)  # "baby gurgling baby"
    joined = re.sub(r"\b(while|when) (?:it )?(rain|snow|hail)\b", r"\1 \2ing", joined)
    joined = re.sub(r"([,;:])(?:\s*[,;:])+", r"\1", joined).strip(" ,;")
    return re.sub(r"\ue000(\d+)\ue001", lambda m: held[int(m[1])], joined)


_DOINGS_END = (
    r"[a-z]+ing\b(?=\s*(?:$|[,.;:!?]|(?:and|then|but|or|by|down|past|out|in|up|away|around|off|back|together|loudly|softly|slowly|quickly"
    r"|quietly|on|at|over|under|from|through|with|without|against|behind|like)\b))"
)


def _relative(match: re.Match[str]) -> str:
    return match[0] if match[1] in _LEADS or match[1] in _ARTICLES or match[1] in ("make", "then", "hear") else f"{match[1]} "


# Names of systems are no words of a language. "tango" alone is a dance; beside another system, or a seed, it is none.
_BY_LONG_NAME = (
    r"(?<![\w\ue000])(?:stable[- ]audio(?:-open|-3)?|make-an-audio(?:-2)?|ace-step|audioldm2?(?:-[\w-]+)?|musicldm"
    r"|musicgen(?:-\w+)?|audiogen(?:-\w+)?"
    r"|tangoflux|tango2|riffusion|nano-signal|hibari|musiclm)(?![\w])"
)
_BY_NAME = _BY_LONG_NAME.replace("|tango2|", "|tango2?|nano|")
_TECHNICAL = re.compile(
    r"(?:\b(?:avec|con|mit|sur|auf)\s|用)\s*tango\s*(?=[,;.，。、]|$)"
    r"|[,;，、]\s*tango\s*[,;，、]\s*(?:\w+\s+)?(?:guidance|seed|graine|semilla|samen|guia|guía"
    r"|\d+\s+(?:schritte|pasos|étapes|etapes))",
    re.I,
)


def simplified(text: str) -> str:
    """Traditional Chinese characters as simplified ones; what is quoted stays, for it is to be spoken.

    >>> simplified("幫我做鞭炮的聲音「謝謝」"), simplified("雨声")
    ('帮我做鞭炮的声音「謝謝」', '雨声')
    """
    pieces = re.split(r"(\"[^\"]*\"|“[^”]*”|「[^」]*」|『[^』]*』)", text)
    return "".join(piece if k % 2 else _opencc().convert(piece) for k, piece in enumerate(pieces))


@cache
def _opencc() -> Any:
    import opencc

    return opencc.OpenCC("t2s")


def _full_width(match: re.Match[str]) -> str:
    return "，。？！：；"[",.?!:;".index(match[1] or match[2])]


def fold(text: str) -> str:
    """Lower case, no accents; ß becomes ss.

    >>> fold("Größe à l'été")
    "grosse a l'ete"
    """
    text = text.lower()
    if text.isascii():
        return text
    text = text.replace("ß", "ss").replace("œ", "oe").replace("’", "'")
    return "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))


_THINGS = "(?:thing|something|ring|king|wing|evening|morning|building|spring|string|swing|ceiling|wedding|clearing|landing)"
_COMPARED = {
    "quiet": "quieter", "loud": "louder", "fast": "faster", "slow": "slower", "slowly": "slower", "high": "higher", "deep": "deeper",
    "low": "lower", "soft": "softer", "dark": "darker", "bright": "brighter", "calm": "calmer", "near": "closer", "strong": "stronger",
    "distant": "further away", "in the distance": "further away", "far": "further away", "big": "bigger", "small": "smaller",
    "happy": "happier", "sad": "sadder", "scary": "scarier", "funny": "funnier", "heavy": "heavier", "light": "lighter",
    "warm": "warmer", "cold": "colder", "old": "older", "clear": "clearer", "sharp": "sharper", "rough": "rougher", "thin": "thinner",
    "thick": "thicker", "dry": "drier", "wet": "wetter", "hollow": "hollower", "short": "shorter", "long": "longer", "fine": "finer",
    "up close": "closer", "quickly": "faster", "softly": "softer", "dull": "duller", "eerie": "eerier",
} | {w: w for w in "quieter louder faster slower higher deeper closer softer longer shorter".split()}  # fmt: skip # noqa: SIM905
COMPARED = frozenset(_COMPARED.values())

# -- words that no table knows: they would only lead a sound encoder astray

_LEFT = "\ue002"  # marks one
_SYSTEM = re.compile(
    r"(?:loa|nano|hibari|tango|riffusion|audiogen|audioldm|fastspeech|musicgen|musicldm|tangoflux|stable-audio|make-an-audio"
    r"|ace-step|wav|flac|ogg|mp3|aiff|lufs|db|hz|khz|bpm|ms|sec|min)(?:-.*)?"
)
_LOANED = frozenset(
    """whoosh swoosh whoop glitch synth synthwave lofi lo-fi chill chillout loop loops reverb delay fade ambient drone drones
    riser impact boom pad kick snare hi-hat drop remix sample samples vibe vibes retro sci-fi scifi cyberpunk trailer cinematic
    foley soundtrack soundscape podcast intro outro jingle dubstep house trance funk soul gospel hardcore punk grunge ska country
    trap drum bass beatbox asmr stereo mono feedback noise white pink click beep bling crash bang splash smash zoom horror fantasy
    game level boss laser steampunk action cool fresh smooth groove swing ragtime bossa nova""".split()  # noqa: SIM905 - a list
)
_LEADS = frozenset("in on at of to by with under over through from for against like between behind beside and or that very".split())  # noqa: SIM905
_ARTICLES = frozenset(("a", "an", "the", "some"))
_LITTLE = _LEADS | _ARTICLES | frozenset("make it this without second seconds minutes please now more less sound as add is".split())  # noqa: SIM905
_NEEDED = re.compile(r"\b(?:with|without|add|the|of|to|for|more|less|draw|make it|version)\s*(?:\b(?:an?|the|some)\s*)*$")


def _names(text: str, language: str) -> frozenset[str]:
    """Words, folded, that their capital letter tells to be names; in German nouns, too."""
    start = "" if language == "de" else r"(?<![.!?¿¡:…] )(?<!^)(?<![¿¡«“\"])"
    return frozenset(fold(word) for word in re.findall(rf"{start}\b[A-ZÄÖÜÀ-ÝŒ][\w-]*", text))


def without_leftovers(pieces: list[str], held: list[str]) -> str:
    """The pieces of a gloss as one text without their marked words; a marked word stays where nothing else says what is heard.

    >>> without_leftovers(["a dog that \ue002zorgt in the \ue002plim"], []), without_leftovers(["the sound of a \ue002zorg"], [])
    ('a dog', 'the sound of a zorg')
    """
    said = [re.sub(r"\ue000(\d+)\ue001", lambda m: held[int(m[1])], piece) for piece in pieces]
    elsewhere = any(_says(part) for part in said)
    out = []
    for k, piece in enumerate(pieces):
        needed = not elsewhere or (not _says(said[k]) and bool(_NEEDED.search(" ".join(said[:k]).strip() + " " + _before(said[k]))))
        out.append(piece.replace(_LEFT, "") if needed or _LEFT not in piece else _dropped(piece))
    return " ".join(out)


def _says(text: str) -> bool:
    """Whether any of the words that are not marked says what is heard."""
    return any(word not in _LITTLE for word in re.findall(rf"(?<![\w{_LEFT}])[^\W\d_]+", text.lower()))


def _before(text: str) -> str:
    return text.partition(_LEFT)[0]


def _dropped(piece: str) -> str:
    """Without the marked words, and without the articles and prepositions that led to them."""
    tokens, out, k = piece.split(), list[str](), 0
    while k < len(tokens):
        if not tokens[k].startswith(_LEFT):
            out.append(tokens[k])
            k += 1
            continue
        while k < len(tokens) and tokens[k].startswith(_LEFT):
            k += 1
        led = bool(out) and out[-1] in _ARTICLES | _LEADS
        following = tokens[k] if k < len(tokens) else ""
        if led and following == "of":  # "on the zorg of the forest": on the forest
            k += 1
            k += k < len(tokens) and tokens[k] in _ARTICLES and out[-1] in _ARTICLES
        elif not following or not following[0].isalnum() or following in _LEADS:
            while out and out[-1] in _ARTICLES | _LEADS:
                out.pop()
    return " ".join(out)


def _spoken(text: str, language: str) -> str:
    """Words to be spoken as English rules know them: say "…"."""
    folded = fold(text)
    if re.match(_ALOUD[language], folded):
        before, words = (part.strip() for part in re.split("[:：]", text, maxsplit=1))
        whole = _QUOTED.match(words)
        before = re.sub(_SPEAK[language], " ", before, flags=re.I)  # a seed and a system stand there, too
        return f'say "{whole[1]}", {before}, {words[whole.end() :]}'.rstrip(" ,.。") if whole else f"read aloud: {words}"
    quoted = _QUOTED.search(text)
    if quoted and spoken_by_itself(text[: quoted.start()], quoted[1]):
        return f'say "{quoted[1]}", {text[: quoted.start()].rstrip(" :：")}, {text[quoted.end() :]}'.rstrip(" ,.。")
    if quoted and re.search(_SPEAK[language], fold(text[: quoted.start()] + " " + text[quoted.end() :])):
        rest = f"{text[: quoted.start()]} {text[quoted.end() :]}"
        rest = re.sub(_SPEAK[language], " ", fold(rest))
        return f'say "{quoted[1]}", {rest}'.rstrip(" ,.")
    return text


def spoken_by_itself(before: str, quoted: str) -> bool:
    """Whether what is quoted is a sentence that follows a colon: 'Cheerful man: "We are out."' wants it spoken."""
    return (
        bool(re.search(r"[:：]\s*$", before))
        and bool(re.search(r"\w.*[.!?…。！？]$", quoted.strip()))
        and not re.search(
            r"\b(?:compar\w*|vergleich\w*|versus|vs|tango\w*|nano|musicgen\w*|audioldm\w*|titel|title|titre|titulo|file|datei|fichier|archivo)\b|比较|文件",
            fold(before),
        )
    )


_DENIED = {  # "neither wind nor birds": every one of them is said to be missing
    "de": ((r"\bweder (?:der |die |das )?(.+?) noch ", r"ohne \1, ohne "),),
    "fr": ((r"(\b(?:sans|pas de|pas d'|ni)\b.+?),? ni (?:de |d'|le |la |les )?(?=\w)", r"\1, sans "),),
    "es": ((r"(\b(?:sin|nada de|no quiero|ni)\b.+?),? ni (?:de |el |la |los )?(?=\w)", r"\1, sin "),),
    "zh": ((r"(?:[，,]?)(?:也|又|和|以及)(?:不要|没有|别有|不)(?:有)?", "，不要"),),
}


def _each_denied(text: str, language: str) -> str:
    for pattern, apart in _DENIED[language]:
        text = re.sub(pattern, apart, text)
    return text


_ORDER = {
    "langste": "longest", "kurzeste": "shortest", "long": "longest", "court": "shortest", "larg": "longest", "cort": "shortest",
    "长": "longest", "短": "shortest", "letztes": "last", "premieres": "first", "premiers": "first", "dernieres": "last",
    "derniers": "last", "primeros": "first",
    "primeras": "first", "ultimos": "last", "ultimas": "last",
    "erste": "first", "ersten": "first", "zweite": "second", "zweiten": "second", "dritte": "third", "dritten": "third",
    "vierte": "fourth",
    "letzte": "last", "letzten": "last", "vorige": "previous", "vorigen": "previous",
    "vorherige": "previous", "vorherigen": "previous",
    "mittlere": "middle", "ursprunglichen": "original", "premier": "first", "premiere": "first", "deuxieme": "second",
    "second": "second",
    "seconde": "second", "troisieme": "third", "quatrieme": "fourth", "dernier": "last", "derniere": "last",
    "precedent": "previous",
    "precedente": "previous", "d'avant": "previous", "originale": "original", "primer": "first",
    "primera": "first", "primero": "first",
    "segundo": "second", "segunda": "second", "tercer": "third", "tercera": "third", "tercero": "third",
    "cuarto": "fourth",
    "cuarta": "fourth",
    "ultimo": "last", "ultima": "last", "anterior": "previous", "一": "first", "二": "second", "三": "third",
    "四": "fourth", "1": "first",
    "2": "second", "3": "third", "4": "fourth", "上一": "previous", "前一": "previous", "原来": "original", "原来的": "original",
    "原始": "original",
}  # fmt: skip
_TAKES = {
    "zwei": "two",
    "drei": "three",
    "vier": "four",
    "deux": "two",
    "trois": "three",
    "quatre": "four",
    "dos": "two",
    "tres": "three",
}
_TAKES |= {
    "funf": "five",
    "cinq": "five",
    "cinco": "five",
    "sechs": "six",
    "seis": "six",
    "五": "five",
    "六": "six",
    "5": "five",
    "6": "six",
}
_TAKES |= {"cuatro": "four", "两": "two", "三": "three", "四": "four", "2": "two", "3": "three", "4": "four"}


def _expanded(match: re.Match[str], english: str, hold: object) -> str:
    """The English of a turn of speech: [brackets] are held as they are, groups outside them go on to be read."""

    def finished(part: re.Match[str]) -> str:
        words = re.sub(r"\\(\d)", lambda g: _known(match[int(g[1])] or "", english), part[1])
        return f" {hold(words)} "  # type: ignore[operator]

    made = re.sub(r"\[([^\]]*)\]", finished, english)
    return re.sub(r"\\(\d)", lambda g: f" {match[int(g[1])] or ''} ", made)


def _known(group: str, english: str) -> str:
    if re.search(" seconds?| half", english) and group[:1].isdigit():
        return group
    counted = bool(re.search("(?:versions|takes|variants) of| different| takes", english))
    table = _TAKES if counted else _ORDER if re.search(" one|version| second| half", english) else {}
    if counted and "one]" in english:
        table = _ORDER | _TAKES
    return table.get(group, group)


@cache
def _phrases(language: str) -> tuple[tuple[re.Pattern[str], str], ...]:
    found = []
    for line in files("orchestrator").joinpath("phrases.txt").read_text("utf-8").splitlines():
        if line.startswith(f"{language} | "):
            body = line[len(language) + 3 :]
            pattern, _, english = body.rpartition(" | ")
            pattern = pattern.strip()
            start = "" if pattern.startswith(("^", "(?:^")) or language == "zh" else r"(?<![\w'])"
            found.append((re.compile(start + f"(?:{pattern})" if language != "zh" else pattern), english))
    return tuple(found)


@dataclass(frozen=True)
class _Table:
    """Words of one language by their folded form; ``stems`` stand for any ending."""

    language: str
    whole: dict[str, str]
    stems: dict[str, str]
    longest: int  # words of an entry, or characters in Chinese

    def words(self, text: str, names: frozenset[str] = frozenset()) -> str:
        """Each word's English; one that has none is marked, unless it is English itself, one of ``names``, or a system's name."""
        return self._chinese(text) if self.language == "zh" else self._spaced(text, names)

    def _spaced(self, text: str, names: frozenset[str]) -> str:
        parts = re.findall(r"(?<!\w)-?\d+(?:[.,]\d+)?|[^\W_]+(?:-[^\W_]+)*|['’]|[^\w\s]", text)
        out, k = [], 0
        while k < len(parts):
            for size in range(min(self.longest, len(parts) - k), 0, -1):
                key = " ".join(parts[k : k + size]).replace(" ' ", "'")
                found = self._several(key) if size > 1 else self.find(parts[k])
                if found is not None:
                    out.append(found)
                    k += size
                    break
            else:
                known = not parts[k][0].isalpha() or parts[k] in names or _is_english(parts[k]) or _SYSTEM.fullmatch(parts[k])
                out.append("" if parts[k] in "'’¿¡" else parts[k] if known else _LEFT + parts[k])
                k += 1
        return " ".join(piece for piece in out if piece)

    def knows(self, word: str) -> bool:
        """Whether a folded word stands in the table as it is, or but for its last letter."""
        return word in self.whole or word in self.stems or word[:-1] in self.stems

    def find(self, word: str) -> str | None:
        """The English of one word, by its form, its stem, or the two halves of a German compound; "" where it says nothing."""
        word = fold(word)
        if self.whole.get(word) == "" and word in _MARKS["en"].split():
            return None  # English of a turn of speech
        ways = [self._whole, lambda w: self._stem(w, 3), self._inflected, self._separated, self._hyphened, self._compound, self._simple]
        return next((found for way in ways if (found := way(word)) is not None), None)

    def _inflected(self, word: str) -> str | None:
        """A German participle by its stem (geklopft), a Spanish verb without the pronouns at its end (friéndose)."""
        if self.language == "de" and len(word) > 6 and re.fullmatch(r"ge\w+(?:t|en)", word):
            return self._whole(word[2:]) or self._stem(word[2:], 3)
        bare = re.fullmatch(r"(\w{3,}(?:[aei]ndo|[aei]r|[aeio]))(?:se|l[aeo]s?|me|nos)", word) if self.language == "es" else None
        return (self._whole(bare[1]) or self._stem(bare[1], 3)) if bare else None

    def _separated(self, word: str) -> str | None:
        """A German verb that is written with its direction (vorbeifährt): driving past."""
        found = _DIRECTED.match(word) if self.language == "de" else None
        verb = self.find(found["verb"]) if found else None
        return f"{verb} {_DIRECTIONS[found['way']]}" if found and verb and verb.split()[0].endswith("ing") else None

    def _hyphened(self, word: str) -> str | None:
        head, tail = map(self.find, word.rsplit("-", 1)) if self.language == "de" and "-" in word else (None, None)
        return f"{head} {tail}" if head and tail else None

    def _compound(self, word: str) -> str | None:
        if self.language != "de" or len(word) < 7:
            return None
        for cut in range(len(word) - 3, 2, -1):
            if cut == 3 and word[:cut] not in self.whole:  # "tür" and "uhr" are heads, the beginning of anything is none
                continue
            head = self._half(word[:cut]) or self._half(word[:cut].rstrip("s")) or self._half(word[:cut].removesuffix("en"))
            tail = self._half(word[cut:])
            if head and tail:
                return f"{head} {tail}".removesuffix(" sound")
        return None

    def _half(self, word: str) -> str | None:
        return None if word in _little(self.language) else self._simple(word)

    def _several(self, key: str) -> str | None:
        if key in self.whole or (" " not in key and "'" not in key):
            return self.whole.get(key)
        cuts = range(len(key), max(2, len(key) - 4), -1)
        return next((self.stems[key[:c]] for c in cuts if key[:c] in self.stems and re.search(r"[ ']\w\w", key[:c])), None)

    def _simple(self, word: str) -> str | None:
        found = self._whole(word)
        return self._stem(word, 6) if found is None else found

    def _stem(self, word: str, most: int) -> str | None:
        """Of an entry that stands for any ending, here of ``most`` letters."""
        cuts = range(len(word), max(2, len(word) - most - 1), -1)
        return next((self.stems[word[:cut]] for cut in cuts if word[:cut] in self.stems), None)

    def _whole(self, word: str) -> str | None:
        if word in self.whole:
            return self.whole[word]
        for ending in _ENDINGS.get(self.language, ()):
            if len(word) - len(ending) >= 4 and word.endswith(ending) and word[: -len(ending)] in self.whole:
                return self.whole[word[: -len(ending)]]
        return None

    def _chinese(self, text: str) -> str:
        out, k = [], 0
        while k < len(text):
            for size in range(min(self.longest, len(text) - k), 0, -1):
                found = self.whole.get(text[k : k + size])
                if found is not None:
                    out.append(f" {found} " if found and size > 0 else " ")
                    k += size
                    break
            else:
                unknown = bool(_HAN.match(text[k]))
                follows = k > 0 and bool(_HAN.match(text[k - 1])) and bool(out) and out[-1][-1:] == text[k - 1]
                out.append(f" {_LEFT}{text[k]}" if unknown and not follows else text[k])
                k += 1
        return " ".join(re.sub(rf"({_LEFT}[\u3400-\u9fff]+)", r" \1 ", "".join(out)).split())


_DIRECTIONS = {
    "raus": "out", "heraus": "out", "hinaus": "out", "rein": "in", "herein": "in", "hinein": "in", "runter": "down", "herunter": "down",
    "hinunter": "down", "herab": "down", "hinab": "down", "rauf": "up", "herauf": "up", "hinauf": "up", "hoch": "up", "empor": "up",
    "weg": "away", "davon": "away", "fort": "away", "vorbei": "past", "voruber": "past", "zuruck": "back", "herum": "around",
    "umher": "around", "rum": "around", "zusammen": "together", "hinterher": "behind", "los": "off",
}  # fmt: skip
_DIRECTED = re.compile(rf"(?P<way>{'|'.join(sorted(_DIRECTIONS, key=len, reverse=True))})(?:ge|zu)?(?P<verb>\w{{4,}})")


@cache
def _rows() -> tuple[tuple[str, list[str]], ...]:
    """What `lexicon.txt` says: English, and the ways to say it in German, French, Spanish and Chinese as one column each."""
    lines = files("orchestrator").joinpath("lexicon.txt").read_text("utf-8").splitlines()
    parts = (line.partition("=") for line in lines if "=" in line and line[0] not in "#[")
    return tuple((english.strip(), others.split(";")) for english, _, others in parts)


@cache
def _table(language: str) -> _Table:
    whole: dict[str, str] = {}
    stems: dict[str, str] = {}
    column = LANGUAGES.index(language) - 1
    for english, others in _rows():
        for way in map(str.strip, fold(others[column]).split("/")):
            if way.endswith("~"):
                stems.setdefault(way[:-1], english)
            elif way:
                whole.setdefault(way, english)
    whole |= {fold(word): english for word, english in _SMALL[language].items()}
    size = max(len(way) if language == "zh" else len(way.replace("'", " ' ").split()) for way in (*whole, *stems))
    return _Table(language, whole, stems, size)


@cache
def _little(language: str) -> frozenset[str]:
    return frozenset(map(fold, _SMALL[language]))


@cache
def _is_english(word: str) -> bool:
    return any(word in known for known in (_english(), _LOANED, _LITTLE, _of_examples()))


@cache
def _of_examples() -> frozenset[str]:
    return frozenset(w for texts in examples().values() for text in texts for w in re.findall(r"[a-z]{3,}", text.lower()))


@cache
def _english() -> frozenset[str]:
    return frozenset({word for english, _ in _rows() for word in english.split()} | set(_MARKS["en"].split()))
