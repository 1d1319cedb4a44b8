"""What a request says, as the two things AudioLDM 2's U-Net reads: the Language of Audio and text states.

Knows requests, the store and encoders. Does not know latents or samplers. Every request is encoded alone, so its conditions never
depend on what else is being made (diffusers pads texts to the longest neighbour, which shifts GPT-2's positions).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from encoders.base import Condition, ConditionCache, Encoder
from encoders.bridge import Bridge, BridgedReader
from encoders.clap import AudioLabeller
from encoders.eye import Eye
from encoders.loa import LoaWriter
from encoders.text import SentenceEncoder, pool
from generators.base import GenerationRequest, UnsupportedRequest
from media.audio import Audio, read_audio, resample
from media.image import load_image
from media.imu import stored_motion
from media.refs import MediaRef, MediaStore
from media.video import sample_frames

UnconditionalLoa = Literal["zeros", "gpt2"]

VIDEO_FRAMES = 6
MOST_SEEN = 255  # pictures that are remembered beside a new one
STRONG = r"\b(?:while|then|followed by|after that|at the same time as|together with|in the background of)\b|;"
WEAK = r",|\b(?:and|with|over)\b"
JOINING = r"\b(?:and|with)\b"
LEAST_VOTE = 0.05  # share of a picture's labels that must speak for its sound; blank pictures give 0.03
CLEAR = 0.8  # cosine to a known phrase from which a piece of a prompt surely is that sound
NEUTRAL = "wind"  # what an unrecognisable picture sounds like: an ambience that claims nothing


@dataclass(frozen=True)
class Conditions:
    """One request's conditions, each [1, L, D], and what stands for "nothing" in classifier-free guidance."""

    loa: Condition
    text: Condition
    null_loa: Condition
    null_text: Condition
    words: str  # what was understood, for ranking candidates and for people


class Conditioner(Protocol):
    """Turns requests into conditions; one implementation per kind of checkpoint."""

    def load(self) -> None: ...

    def conditions(self, request: GenerationRequest) -> Conditions: ...

    def scores(self, sounds: Sequence[Audio], known: Conditions) -> list[float]:
        """How well each sound fits the conditions: cosines in the joint space, as the paper ranks with CLAP."""

    def layers(self, words: str) -> list[str]:
        """The parts of words that are made apart and heard at once."""

    def differ(self, parts: Sequence[str]) -> bool:
        """Whether parts mean sounds of different kinds: "idling, then revving up" is one engine."""

    def one_sound(self, request: GenerationRequest) -> str | None:
        """The name of the one known sound that words, or a picture without words, ask for; None where it is none or several."""


class NanoConditioner:
    """Text, pictures, video and sound for ``nano``: one small sentence encoder in the place of CLAP and of FLAN-T5.

    Args:
        writer: GPT-2 with projections; ``labeller``: the checkpoint's AudioMAE, audio tower and anchors.
        loa_mode: "zeros" removes the Language of Audio (an ablation).
        uncond_loa: "gpt2" writes the null LOA from the empty text (an ablation: training used zeros).
        anchor_cosine: how near a known phrase must be to a part of the prompt to be said beside it; None: never.
    """

    def __init__(
        self,
        store: MediaStore,
        writer: Callable[[], LoaWriter],
        labeller: AudioLabeller,
        *,
        text_length: int,
        loa_mode: str,
        uncond_loa: UnconditionalLoa = "zeros",
        anchor_cosine: float | None = None,
    ) -> None:
        self._store, self._writer, self._labeller = store, writer, labeller
        self._anchor_cosine = anchor_cosine
        self._text, self._images = SentenceEncoder(text_length), Eye()
        self._loa_mode, self._uncond = loa_mode, uncond_loa
        self._cache = ConditionCache()
        self._seen: dict[str, list[tuple[str, float]]] = {}  # what pictures and videos sound like, by their ids

    def load(self) -> None:
        self._text.load()
        self._labeller.load()

    def conditions(self, request: GenerationRequest) -> Conditions:
        loa, text, words = self._said(request)
        given = stored_parts(request)
        if given:
            loa = fitting(blend([(self._stored(ref), weight) for ref, weight in given]), loa)
        null_loa, null_text = loa.null(), text.null()
        if request.negative_prompt:
            null_loa, null_text = self._loa(request.negative_prompt), self._read(request.negative_prompt)
        elif self._uncond == "gpt2":
            null_loa = self._loa("")
        if self._loa_mode == "zeros":
            loa = null_loa = loa.null()
        return Conditions(loa, text, null_loa, null_text, words)

    def _said(self, request: GenerationRequest) -> tuple[Condition, Condition, str]:
        """LOA and text of what is asked for, and in words what was understood."""
        (words, named), heard = self._words(request), self._heard(request)
        text = self._read(words)
        loa = self._loa(named)
        if not words:  # a stored LOA alone: the text says nothing, and does not say "wind"
            text = text.null()
        if heard:
            truth = torch.stack([c.states for c in heard]).mean(0)
            states = (truth + loa.states) / 2 if request.prompt else truth
            loa = Condition("loa", states, loa.mask)
        return loa, text, words

    def scores(self, sounds: Sequence[Audio], known: Conditions) -> list[float]:
        if known.words:
            return self._labeller.fits(sounds, self._sentence(known.words))
        wanted_loa = known.loa.states.flatten()  # made from a stored LOA alone: the joint space is then that of A(x)
        return [float(torch.cosine_similarity(self._labeller.loa(s).states.flatten(), wanted_loa, dim=0)) for s in sounds]

    def _read(self, words: str) -> Condition:
        """Token states of a text, for the U-Net."""
        return self._cache.get(("text", words), lambda: self._text.tokens([words]))

    def _sentence(self, words: str) -> np.ndarray:
        """The text's unit vector [D], from the token states that the U-Net reads: one pass through the encoder for both."""
        vector: np.ndarray = pool(self._read(words)).numpy()[0]
        return vector

    def _loa(self, words: str) -> Condition:
        """What GPT-2 writes after a text."""
        return self._cache.get(("loa", words), lambda: self._written(self._read(words)))

    @torch.no_grad()
    def _written(self, text: Condition) -> Condition:
        """LOA after text states; their mean stands in CLAP's place."""
        return self._writer()(Condition("clap", pool(text)[:, None], torch.ones(1, 1, dtype=torch.bool)), text)

    def _words(self, request: GenerationRequest) -> tuple[str, str]:
        """What the U-Net reads and what GPT-2 reads: the prompt, and what pictures, video and sounds show, in words.

        Parts of the prompt in words that training never saw are translated: the U-Net reads the names of the sounds meant before
        the prompt, GPT-2 the names in the place of those parts. "" where only a stored LOA is given.
        """
        parts = [(part, self._meant(part)) for part in self._sounds(request.prompt)] if request.prompt else []
        names = [name for _, name in parts if name]
        said = [*names, request.prompt] if request.prompt else []
        named = [name or part for part, name in parts] if names else said[:]
        media = [ref for ref in request.media if ref.kind != "condition"]
        seen = [words for ref in media if (words := self.understand(ref)) is not None]
        nothing = NEUTRAL if media else ""
        return ", ".join(dict.fromkeys(said + seen)) or nothing, ", ".join(dict.fromkeys(named + seen)) or nothing

    def _sounds(self, prompt: str) -> list[str]:
        """The parts of a prompt that are sounds of their own.

        "While" and "then" stand between two sounds. "And", "with", "over" and commas do so only where what they part is clearly two
        known sounds: a brook babbling over stones is one.
        """
        anchors, sounds = self._labeller.anchors, []
        for part in parts_of(prompt):
            pieces = parts_of(part, WEAK)
            if anchors is not None and len(pieces) > 1:
                meant = [anchors.meant(self._sentence(piece)) for piece in pieces]
                if len({name for name, _ in meant}) > 1 and min(cosine for _, cosine in meant) >= CLEAR:
                    sounds += pieces
                    continue
            sounds.append(part)
        return sounds

    def layers(self, words: str) -> list[str]:
        """As ``_sounds``, but "and" parts two layers only where both are called by their names: much else is one sound described."""
        anchors, layers = self._labeller.anchors, []
        for part in parts_of(words):
            pieces = parts_of(part, JOINING)
            names = [anchors.meant(self._sentence(piece))[0] for piece in pieces] if anchors and len(pieces) > 1 else []
            named = len(set(names)) == len(pieces) > 1 and all(name and says(p, name) for p, name in zip(pieces, names, strict=True))
            layers += pieces if named else [part]
        return layers

    def differ(self, parts: Sequence[str]) -> bool:
        anchors = self._labeller.anchors
        if anchors is None:
            return True
        return len({anchors.meant(self._sentence(part))[0] or part for part in parts}) > 1

    def one_sound(self, request: GenerationRequest) -> str | None:
        anchors, prompt = self._labeller.anchors, request.prompt
        if prompt and request.media:
            return None
        parts = self._sounds(prompt) if prompt else [words for ref in request.media if (words := self.understand(ref)) is not None]
        if len(parts) != 1 or anchors is None or self._anchor_cosine is None:
            return None
        name, cosine = anchors.meant(self._sentence(parts[0]))
        return name if name and (cosine >= self._anchor_cosine or says(parts[0], name)) else None

    def _meant(self, part: str) -> str | None:
        """The known sound that a part of a prompt means in words of its own; None where it is named already, or none is near.

        The sentence encoder knows far more words than the small generator was trained on; its neighbours translate them.
        """
        anchors = self._labeller.anchors
        if self._anchor_cosine is None or anchors is None:
            return None
        name, cosine = anchors.meant(self._sentence(part))
        return name if name and cosine >= self._anchor_cosine and not says(part, name) else None

    def understand(self, ref: MediaRef) -> str | None:
        """The known sound of what a picture or video shows, the phrase nearest to a sound; None where nothing that sounds is seen."""
        anchors = self._labeller.anchors
        assert anchors is not None
        if ref.kind == "audio":
            return anchors.nearest(self._labeller.encode([self._sound(ref)]).states[0, 0].numpy())[0]
        path = self._store.path(ref)
        if ref.id not in self._seen:
            frames = [load_image(path)] if ref.kind == "image" else sample_frames(path, VIDEO_FRAMES)
            self._seen = {**dict(list(self._seen.items())[-MOST_SEEN:]), ref.id: self._images.heard(frames)}
        heard = self._seen[ref.id]
        if not heard or heard[0][1] < LEAST_VOTE:
            return None
        words = heard[0][0]
        return words if words in anchors.texts else anchors.nearest(self._sentence(words))[0]

    def _sound(self, ref: MediaRef) -> Audio:
        return stored_sound(self._store, ref)

    def _heard(self, request: GenerationRequest) -> list[Condition]:
        return [self._labeller.loa(self._sound(ref)) for ref in request.media if ref.kind == "audio"]

    def _stored(self, ref: MediaRef) -> Condition:
        """A stored condition, or the LOA of a stored sound."""
        if ref.kind == "audio":
            return self._labeller.loa(self._sound(ref))
        return read_loa(self._store, ref)


def parts_of(prompt: str, between: str = STRONG) -> list[str]:
    """A prompt cut where one sound ends and the next begins.

    >>> parts_of("a dog barks while rain falls, then thunder")
    ['a dog barks', 'rain falls', 'thunder']
    """
    return [part.strip(" ,;") for part in re.split(between, prompt) if part.strip(" ,;")] or [prompt]


def says(text: str, name: str) -> bool:
    """Whether a text holds all words of a name, plural or not.

    >>> says("two old church bells ring", "church bell"), says("a dogged fight", "dog")
    (True, False)
    """
    words = {word.removesuffix("s") for word in re.findall(r"[a-z]+", text.lower())}
    return all(word.removesuffix("s") in words for word in name.lower().split())


class HubConditioner:
    """Text for the public AudioLDM 2 folders: CLAP's text tower and FLAN-T5.

    Each text is encoded alone and unpadded, so GPT-2 meets the positions it was trained on and its LOA equals that of diffusers
    for a single prompt; the U-Net then reads the text padded to a fixed length, where the padding is masked.
    ``uncond_loa`` "zeros" is the official form; "gpt2" runs GPT-2 on the empty text, as diffusers does.

    These weights know words only. With a ``bridge`` (encoders/bridge.py) and the encoder that it begins at, pictures, videos, sounds
    and motion take the place of words: GPT-2 reads their vector, brought into CLAP's space, and GPT-2 and the U-Net read the FLAN-T5
    states of the captions nearest to it.
    """

    def __init__(
        self,
        store: MediaStore,
        parts: Any,
        writer: Callable[[], LoaWriter],
        *,
        text_length: int,
        uncond_loa: UnconditionalLoa,
        bridge: tuple[Bridge, Encoder] | None = None,
    ) -> None:
        self._store, self._parts, self._writer, self._length, self._uncond = store, parts, writer, text_length, uncond_loa
        self._reader = BridgedReader(*bridge, self.t5, length=text_length) if bridge else None
        self._cache = ConditionCache()

    def load(self) -> None:
        """The parts are handed in loaded."""

    def conditions(self, request: GenerationRequest) -> Conditions:
        loa, text, words = self._read(request)
        given = stored_parts(request)
        if given:
            loa = fitting(blend([(read_loa(self._store, ref), weight) for ref, weight in given]), loa)
        null_loa, null_text = self._null(request, loa, text)
        return Conditions(loa, text, null_loa, null_text, words)

    def _read(self, request: GenerationRequest) -> tuple[Condition, Condition, str]:
        """LOA and text of what is asked for, and in words what was understood."""
        inputs = [self._perceived(ref) for ref in request.media if ref.kind != "condition"]
        if not inputs:
            return *self._written(request.prompt), request.prompt
        assert self._reader is not None, "without a bridge the capabilities refuse pictures, videos and sounds"
        said = (self.clap(request.prompt), self.t5(request.prompt)) if request.prompt else None
        clap, text, caption = self._reader.read(inputs, said)
        with torch.no_grad():
            loa = self._writer()(clap, text)
        return loa, padded(text, self._length), request.prompt or caption

    def _perceived(self, ref: MediaRef) -> tuple[str, Any]:
        """The bridge's name for a kind of input, and what ImageBind reads of it."""
        from encoders.imagebind import clip_frames

        if ref.kind == "audio":
            return "audio", stored_sound(self._store, ref)
        path = self._store.path(ref)
        if ref.kind == "motion":
            return "imu", stored_motion(path)
        return "vision", load_image(path) if ref.kind == "image" else clip_frames(path)

    def _null(self, request: GenerationRequest, loa: Condition, text: Condition) -> tuple[Condition, Condition]:
        """LOA and text of what is not asked for."""
        if self._uncond == "zeros" and not request.negative_prompt:
            return loa.null(), padded(self._cache.get(("t5", "", "0"), lambda: self.t5("")), self._length)
        # diffusers pads the null text to the prompt's own length, and GPT-2 sees that padding. (It also cuts a longer one
        # to that length, silently; here a negative prompt is read to its end.)
        return self._written(request.negative_prompt, int(text.mask.sum()))

    def layers(self, words: str) -> list[str]:
        return parts_of(words)

    def differ(self, parts: Sequence[str]) -> bool:
        return True

    def one_sound(self, request: GenerationRequest) -> str | None:
        return None

    @torch.no_grad()
    def scores(self, sounds: Sequence[Audio], known: Conditions) -> list[float]:
        words = self.clap(known.words, self._parts.ranker).states[0, 0]
        return [float(torch.cosine_similarity(self._heard(sound), words, dim=0)) for sound in sounds]

    def _heard(self, sound: Audio) -> Tensor:
        return clap_sound(self._parts.ranker, self._parts.feature_extractor, sound)

    @torch.no_grad()
    def _written(self, words: str, length: int = 0) -> tuple[Condition, Condition]:
        """LOA of a text, and the text for the U-Net; ``length`` pads it for GPT-2 too."""
        text = self._cache.get(("t5", words, str(length)), lambda: self.t5(words, length))
        loa = self._cache.get(("loa", words, str(length)), lambda: self._writer()(self.clap(words), text))
        return loa, padded(text, self._length)

    def clap(self, words: str, model: Any = None) -> Condition:
        """CLAP's projected text vector [1, 1, D]; the authors' files hold a second CLAP that ranks."""
        vector = clap_words(model or self._parts.text_encoder, self._parts.tokenizer, words)
        return Condition("clap", vector[:, None], torch.ones(1, 1, dtype=torch.bool))

    def t5(self, words: str, length: int = 0) -> Condition:
        """FLAN-T5's last hidden states [1, L, D]: as long as the text, or padded to ``length`` where that is more."""
        return t5_words(self._parts.text_encoder_2, self._parts.tokenizer_2, words, longest=self._length, length=length)


@torch.no_grad()
def clap_words(model: Any, tokenizer: Any, words: str) -> Tensor:
    """CLAP's unit vector [1, D] of a text, read unpadded. Folders of AudioLDM hold the text tower alone."""
    whole = hasattr(model, "get_text_features")
    longest = (model.config.text_config if whole else model.config).max_position_embeddings - 2  # RoBERTa counts from 2
    tokens = tokenizer([words], max_length=longest, truncation=True, return_tensors="pt")
    if not whole:
        return torch.nn.functional.normalize(model(tokens.input_ids, attention_mask=tokens.attention_mask).text_embeds, dim=-1)
    out = model.get_text_features(tokens.input_ids, attention_mask=tokens.attention_mask)
    vector: Tensor = out if isinstance(out, Tensor) else out.pooler_output
    return vector


@torch.no_grad()
def clap_sound(model: Any, extract: Any, sound: Audio) -> Tensor:
    """CLAP's unit vector [D] of a sound."""
    mono = resample(sound, extract.sampling_rate).samples.mean(0)[: extract.nb_max_samples]  # longer ones it cuts by chance
    features = extract(mono, sampling_rate=extract.sampling_rate, return_tensors="pt")
    out = model.get_audio_features(**features)
    vector: Tensor = out if isinstance(out, Tensor) else out.pooler_output
    return vector[0]


@torch.no_grad()
def t5_words(model: Any, tokenizer: Any, words: str, *, longest: int, length: int = 0) -> Condition:
    """T5's last hidden states [1, L, D] of a text cut to ``longest`` tokens: at its own length, or padded to ``length``."""
    own = len(tokenizer(words, truncation=True, max_length=longest).input_ids)
    tokens = tokenizer([words], return_tensors="pt", padding="max_length", truncation=True, max_length=max(own, length))
    states = model(tokens.input_ids, attention_mask=tokens.attention_mask)[0]
    return Condition("t5", states, tokens.attention_mask.bool())


class SpeechConditioner(HubConditioner):
    """Speech: GPT-2 reads CLAP's vector of the prompt (the voice) and the transcript's phonemes; the U-Net reads LOA only."""

    def _read(self, request: GenerationRequest) -> tuple[Condition, Condition, str]:
        voice, words = request.prompt, request.transcript or ""
        loa = self._cache.get(("loa", voice, words), lambda: self._spoken(voice, self.phonemes(words)))
        return loa, UNREAD, voice

    def _null(self, request: GenerationRequest, loa: Condition, text: Condition) -> tuple[Condition, Condition]:
        if self._uncond == "zeros" and not request.negative_prompt:
            return loa.null(), UNREAD
        voice, silence = request.negative_prompt, self.phonemes("")
        silence = Condition("phonemes", torch.zeros_like(silence.states), torch.zeros_like(silence.mask))
        return self._cache.get(("null", voice), lambda: self._spoken(voice, silence)), UNREAD

    @torch.no_grad()
    def _spoken(self, voice: str, phonemes: Condition) -> Condition:
        return self._writer()(self.clap(voice), phonemes)

    @torch.no_grad()
    def phonemes(self, words: str) -> Condition:
        """States [1, L, D] of VITS' text encoder; L is fixed and what lies beyond the words is masked."""
        ids, mask = self._parts.phoneme_ids(words)
        states = self._parts.text_encoder_2(ids, attention_mask=mask, padding_mask=mask[..., None].float())[0]
        return Condition("phonemes", states, mask.bool())


UNREAD = Condition(
    "none", torch.zeros(1, 1, 1), torch.ones(1, 1, dtype=torch.bool)
)  # where a U-Net has no place for a second condition


def stored_sound(store: MediaStore, ref: MediaRef) -> Audio:
    """A stored sound, or the part of it that ``ref.span`` names.

    Raises:
        UnsupportedRequest: the span lies outside the sound.
    """
    sound = read_audio(store.path(ref))
    if ref.span is None:
        return sound
    first, last = (int(t * sound.sample_rate) for t in ref.span)
    if not 0 <= first < min(last, sound.samples.shape[1]):
        raise UnsupportedRequest(f"the span {ref.span} lies outside the sound, which is {sound.seconds:g} s long")
    return Audio(sound.samples[:, first:last], sound.sample_rate)


def padded(condition: Condition, length: int) -> Condition:
    """The same sequence followed by masked zeros up to ``length``."""
    missing = length - condition.states.shape[1]
    states = torch.nn.functional.pad(condition.states, (0, 0, 0, missing))
    return Condition(condition.name, states, torch.nn.functional.pad(condition.mask, (0, missing)))


def stored_parts(request: GenerationRequest) -> list[tuple[MediaRef, float]]:
    """Stored LOA with their weights; a condition among the media counts once."""
    return [*request.loa, *((ref, 1.0) for ref in request.media if ref.kind == "condition")]


def fitting(loa: Condition, written: Condition) -> Condition:
    """``loa``, if it has the shape of what this model writes.

    Raises:
        UnsupportedRequest: it comes from another model.
    """
    if loa.states.shape != written.states.shape:
        got, own = tuple(loa.states.shape[1:]), tuple(written.states.shape[1:])
        raise UnsupportedRequest(f"the stored LOA is {got} and this model's is {own} (tokens, width): it comes from another model")
    return loa


def blend(parts: list[tuple[Condition, float]]) -> Condition:
    """The weighted mean of LOA sequences of one shape.

    Raises:
        UnsupportedRequest: weights that sum to zero, or sequences of different shapes.
    """
    total = sum(weight for _, weight in parts)
    if total <= 0 or any(weight < 0 for _, weight in parts):
        raise UnsupportedRequest("the weights of --loa must not be negative and must sum to more than zero")
    shapes = {tuple(c.states.shape) for c, _ in parts}
    if len(shapes) != 1:
        raise UnsupportedRequest(f"the stored conditions have different shapes {sorted(shapes)}; they come from different models")
    states = torch.stack([c.states * (weight / total) for c, weight in parts]).sum(0)
    return Condition("loa", states, parts[0][0].mask)


def read_loa(store: MediaStore, ref: MediaRef) -> Condition:
    """A condition that ``loa_bytes`` wrote."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(store.path(ref).read_bytes())
    except SafetensorError as error:
        raise UnsupportedRequest(f"{ref.id} is no stored condition ({error}); give a file written with --loa-out") from error
    if "loa" not in tensors or tensors["loa"].ndim != 3:
        raise UnsupportedRequest("the stored condition holds no LOA sequence; give a file written with --loa-out")
    states = tensors["loa"].float()
    return Condition("loa", states, torch.ones(states.shape[:2], dtype=torch.bool))


def loa_bytes(condition: Condition) -> bytes:
    """safetensors bytes of a LOA sequence [1, N, D]."""
    from safetensors.torch import save

    return save({"loa": condition.states.contiguous()})


def envelope_bytes(curve: np.ndarray) -> bytes:
    """safetensors bytes of a loudness curve [N] in 0..1, whose points are spread evenly over the whole sound."""
    from safetensors.torch import save

    assert curve.ndim == 1 and curve.min() >= 0 and curve.max() <= 1, "media.curve.read_curve checks what people give"
    return save({"envelope": torch.from_numpy(np.array(curve, np.float32))})


def read_envelope(store: MediaStore, ref: MediaRef, frames: int) -> Tensor:
    """A stored loudness curve, stretched over ``frames`` mel frames: [frames] in 0..1.

    Raises:
        UnsupportedRequest: the stored condition is no envelope.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        curve = load(store.path(ref).read_bytes())["envelope"].float().numpy()
    except (SafetensorError, KeyError) as error:
        raise UnsupportedRequest(
            f"{ref.id} is no stored envelope; give a .npy or .csv row of loudness values with --envelope"
        ) from error
    at = (np.arange(frames) + 0.5) / frames * len(curve) - 0.5
    return torch.from_numpy(np.interp(at, np.arange(len(curve)), curve).astype(np.float32))


def envelope_channels(curve: Tensor | None, latent_frames: int, bins: int, down: int) -> Tensor:
    """What the U-Net reads of a loudness curve: [down + 1, latent_frames, bins].

    One latent frame covers ``down`` mel frames; each of them is a channel, so timing finer than a latent frame is kept. The last
    channel is 1 where a curve is given. Without a curve all is zero; beyond its end it is silent.
    """
    channels = torch.zeros(down + 1, latent_frames, bins)
    if curve is not None:
        whole = torch.zeros(latent_frames * down)
        known = min(len(curve), len(whole))
        whole[:known] = curve[:known]
        channels[:down] = whole.reshape(latent_frames, down).T[:, :, None]
        channels[down] = 1.0
    return channels
