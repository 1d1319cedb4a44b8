"""SmolLM2 as a chat model: a plan written by the small language model, checked and completed by the rules.

The model decides what the rules are unsure of (or everything, ``mode: alone``); its words are held to the JSON schema of the tools
that are bound, token by token. Numbers, references and quotations are read by the rules, which are exact there. 98 MB from a
registry package, no network; an adapter of 6 MB, which `training/router.py` makes, teaches it what to write.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from langchain_core.messages import BaseMessage
from pydantic import PrivateAttr

from configs.registry import MissingExtra
from configs.schema import default_home
from orchestrator.chat_model import ASK_PROMPT, WELCOME, Call, RulesChatModel, RulesOptions, Say, decide, english
from orchestrator.conversation import Conversation, media_of, text_of
from orchestrator.intents import SentenceEncoder
from orchestrator.parsing import parse
from orchestrator.plan import ASK, TALK, dialogue, question, schema

if TYPE_CHECKING:
    from encoders.smollm import Llama

MAX_TOKENS = 96
SURE = 0.75  # of the sentence classifier: below it the language model is asked
_OPEN = ("generate_audio", ASK, TALK, "describe_media")  # what the model may decide between where the rules are unsure


class LocalOptions(RulesOptions):
    """``mode``: "unsure" asks the language model where the rules are not sure, "alone" asks it always. ``adapter``: its file."""

    adapter: Path | None = None
    mode: Literal["unsure", "alone"] = "unsure"


class Writer:
    """Writes a plan for a request. Loads the weights when first asked."""

    def __init__(self, cache: Path | None, adapter: Path | None) -> None:
        self._cache, self._adapter = cache, adapter
        self._model: Llama | None = None
        self._grammars: dict[str, Any] = {}

    def _load(self) -> None:
        try:
            import llguidance
        except ModuleNotFoundError as missing:
            raise MissingExtra("chat model 'smollm2' needs the package 'llguidance': run 'make install' again") from missing
        from encoders.smollm import END, build, stored_tokenizer

        self._tokenizer = stored_tokenizer(self._cache)
        self._model = build(self._cache, adapter=self._adapter)
        self._llguidance, self._end = llguidance, END
        self._words = llguidance.LLTokenizer(self._tokenizer.to_str(), eos_token=END)

    def plan(self, asked: str, tools: Sequence[str], fields: Sequence[str]) -> dict[str, Any]:
        """The plan for ``asked`` (``plan.question``): greedy, token by token within the schema; {} where it ran out of room."""
        import torch

        if self._model is None:
            self._load()
        assert self._model is not None
        llguidance = self._llguidance
        shape = json.dumps(schema(tools, fields))
        if shape not in self._grammars:
            self._grammars[shape] = llguidance.LLMatcher.grammar_from_json_schema(shape)
        matcher = llguidance.LLMatcher(self._words, self._grammars[shape])
        ids = self._tokenizer.encode(dialogue(asked), add_special_tokens=False).ids
        written: list[int] = []
        allowed = torch.empty(1, -(-self._model.shape.vocabulary // 32), dtype=torch.int32)
        with torch.inference_mode():
            states, past = self._model(torch.tensor([ids]))
            while len(written) < MAX_TOKENS:
                forced = matcher.compute_ff_tokens()  # what the schema leaves no choice about costs no step of its own
                if not forced:
                    import llguidance.torch as masks

                    logits = self._model.logits(states[:, -1])
                    masks.fill_next_token_bitmask(matcher, allowed)
                    masks.apply_token_bitmask_inplace(logits, allowed)
                    forced = [int(logits.argmax())]
                if not matcher.consume_tokens(forced):
                    break
                written += [token for token in forced if token != self._end]
                if matcher.is_stopped():
                    break
                states, past = self._model(torch.tensor([forced]), past)
        text = self._tokenizer.decode(written)
        try:
            found: dict[str, Any] = json.loads(text)
        except json.JSONDecodeError:
            return {}
        return found


class LocalChatModel(RulesChatModel):
    """The rules with a language model beside them."""

    options: LocalOptions = LocalOptions()
    _writer: Writer = PrivateAttr()

    def __init__(self, options: LocalOptions, encoder: SentenceEncoder, writer: Writer) -> None:
        super().__init__(options, encoder)
        self._writer = writer

    @property
    def _llm_type(self) -> str:
        return "loa-smollm2"

    def _decide(self, messages: Sequence[BaseMessage], bound: Collection[str]) -> Call | Say:
        shares: list[float] = []

        def classify(text: str) -> tuple[str, float]:
            intent, share = self._classify(text)
            shares.append(share)
            return intent, share

        ruled = decide(messages, self.options, classify, bound)
        if self.options.mode == "unsure" and (not shares or min(shares) >= SURE or _settled(ruled)):
            return ruled
        return self._written(messages, bound, ruled, classify)

    def _written(
        self, messages: Sequence[BaseMessage], bound: Collection[str], ruled: Call | Say, classify: Callable[[str], tuple[str, float]]
    ) -> Call | Say:
        """The model's plan, where it names what the rules can complete; else what the rules said."""
        earlier, turn = Conversation.read(messages[:-1]), messages[-1]
        said = english(text_of(turn))
        if not said.strip():
            return ruled
        kinds = [ref.kind for ref in earlier.media if ref.kind != "audio"]
        prompts = [str(sound.request["prompt"]) for sound in earlier.sounds]
        asked = question(said, [ref.kind for ref in media_of(turn)], prompts, kinds)
        tools = [name for name in bound if self.options.mode == "alone" or name in _OPEN]
        plan = self._writer.plan(asked, sorted(tools), ("prompt", "negative"))
        tool = plan.get("tool")
        if tool == TALK:
            return ruled if isinstance(ruled, Say) and not ruled.asked else Say(WELCOME)
        if tool == ASK or not tool:
            return ruled if isinstance(ruled, Say) and ruled.asked else Say(ASK_PROMPT, "prompt")
        if isinstance(ruled, Call) and ruled.calls[0][0] == tool:
            return ruled
        forced = decide(messages, self.options, lambda text: (_INTENTS.get(str(tool), "generate"), 1.0), bound)
        if isinstance(forced, Call):
            return forced
        numbers = parse(said, self.options.backends)
        if tool == "generate_audio" and plan.get("prompt"):
            arguments = {"prompt": plan["prompt"], "seconds": numbers.seconds or self.options.seconds, "seed": numbers.seed}
            return Call(((tool, {name: value for name, value in arguments.items() if value is not None}),))
        return ruled


_INTENTS = {"generate_audio": "generate", "describe_media": "describe", "edit_audio": "change"}


def _settled(ruled: Call | Say) -> bool:
    """Whether exact rules found it: tools that only their own words call for, and whatever carries media."""
    return isinstance(ruled, Call) and (
        ruled.calls[0][0] not in ("generate_audio", "describe_media") or bool(ruled.calls[0][1].get("media"))
    )


def build_local(options: Mapping[str, Any], encoder: SentenceEncoder) -> LocalChatModel:
    """The chat model ``smollm2``.

    Raises:
        MissingExtra: there is no adapter; without one the model cannot route at all.
    """
    chosen = LocalOptions.model_validate(dict(options))
    adapter = chosen.adapter or Path(str(files("checkpoints") / "router" / "adapter.safetensors"))
    if not adapter.is_file():
        raise MissingExtra(
            f"chat model 'smollm2' needs its adapter at {adapter}, which is not there: train it (training/router.py) or use 'rules'"
        )
    return LocalChatModel(chosen, encoder, Writer(default_home() / "cache", adapter))
