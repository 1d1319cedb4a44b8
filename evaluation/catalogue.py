"""The metrics that a study may name: what each is, what it needs, which way is better. Imports no torch and computes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from configs.registry import UnknownName

Need = Literal["reference", "caption", "sight", "video", "transcript", "seeds"]


@dataclass(frozen=True)
class Measure:
    """A metric by the name that a study's YAML gives it."""

    name: str
    title: str  # over its column
    formula: str  # what evaluation/measures.py computes
    embedder: str | None  # whose vectors, by name in the group loa.embedders
    better: Literal["lower", "higher", ""]
    needs: frozenset[Need]
    about: str  # one sentence: what, and after whom

    @property
    def arrow(self) -> str:
        return {"lower": "↓", "higher": "↑", "": ""}[self.better]


def _of(
    name: str, title: str, formula: str, embedder: str | None, better: Literal["lower", "higher", ""], needs: str, about: str
) -> Measure:
    return Measure(name, title, formula, embedder, better, frozenset(needs.split()), about)  # type: ignore[arg-type]


_FAD = "Fréchet distance of Gaussians fitted to the vectors of all made and all true sounds"
_KL = "mean KL(true || made) of the classes heard in a prompt's true and made sound, softmax, in nepers"
_BACK = "mean KL(made || true): the other direction, which punishes classes that the true sound has not"
_IS = "inception score: sure about each sound, different over all; one part, so it does not compare with tables of ten"
_KAD = "kernel distance (unbiased MMD², Gaussian kernel at the true sounds' median distance, times 100)"

CATALOGUE: dict[str, Measure] = {
    each.name: each
    for each in (
        # Our own embedder: its figures carry its name and stand beside no published ones.
        _of("nano-clap", "nano-clap", "words", "nano-clap", "higher", "caption", "cosine of caption and sound in nano's own space"),
        _of("nano-fad", "nano-FAD", "frechet", "nano-clap", "lower", "reference", f"{_FAD}; nano's tower"),
        _of("nano-kad", "nano-KAD", "kernel", "nano-clap", "lower", "reference", f"{_KAD}; nano's tower"),
        _of("nano-kl", "nano-KL", "kl", "nano-clap", "lower", "reference", f"{_KL}; nano's classes"),
        _of("nano-kl-reverse", "nano-KL⁻", "kl-reverse", "nano-clap", "lower", "reference", f"{_BACK}; nano's classes"),
        _of("nano-is", "nano-IS", "inception", "nano-clap", "higher", "", f"{_IS}; nano's classes"),
        # Public embedders, as the literature uses them.
        _of("fad", "FAD", "frechet", "vggish", "lower", "reference", f"{_FAD}; VGGish, 0.96 s windows (Kilgour et al. 2019)"),
        _of(
            "fad-inf",
            "FAD∞",
            "infinity",
            "vggish",
            "lower",
            "reference",
            "FAD extrapolated to endless sounds (Gui et al. 2024); VGGish",
        ),
        _of("fad-clap", "FAD-CLAP", "frechet", "clap", "lower", "reference", f"{_FAD}; LAION's CLAP"),
        _of("fd", "FD", "frechet", "panns-cnn14", "lower", "reference", f"{_FAD}; CNN14 at 16 kHz (audioldm_eval)"),
        _of("fd-32k", "FD-32k", "frechet", "panns-cnn14-32k", "lower", "reference", f"{_FAD}; CNN14 at 32 kHz"),
        _of("fd-passt", "FD-PaSST", "frechet", "passt", "lower", "reference", f"{_FAD}; PaSST"),
        _of("kad", "KAD", "kernel", "panns-cnn14-32k", "lower", "reference", f"{_KAD}; CNN14 at 32 kHz (Chung et al. 2025)"),
        _of("kad-vggish", "KAD-VGGish", "kernel", "vggish", "lower", "reference", f"{_KAD}; VGGish"),
        _of("kl", "KL", "kl", "panns-cnn14", "lower", "reference", f"{_KL}; CNN14 at 16 kHz (audioldm_eval)"),
        _of("kl-reverse", "KL⁻", "kl-reverse", "panns-cnn14", "lower", "reference", f"{_BACK}; CNN14 at 16 kHz"),
        _of("kl-sigmoid", "KLσ", "kl-sigmoid", "panns-cnn14", "lower", "reference", "KL(true || made) over independent classes; CNN14"),
        _of("kl-passt", "KL-PaSST", "kl", "passt", "lower", "reference", f"{_KL}; PaSST (audiocraft, TangoFlux)"),
        _of("is", "IS", "inception", "panns-cnn14", "higher", "", f"{_IS}; CNN14 at 16 kHz"),
        _of("clap", "CLAP", "words", "clap", "higher", "caption", "cosine of caption and sound; LAION's CLAP"),
        _of("imagebind", "IB", "sights", "imagebind", "higher", "sight", "cosine of picture or video and sound; ImageBind, times 1"),
        # Signals.
        _of(
            "sync",
            "sync",
            "sync",
            None,
            "lower",
            "video",
            "seconds between onsets seen and heard, absolute; no Synchformer, so no DeSync",
        ),
        _of("mcd", "MCD", "mcd", None, "lower", "reference transcript", "mel-cepstral distortion of speech in dB, after time warping"),
        _of("cer", "CER", "cer", None, "lower", "transcript", "character error rate of what wav2vec 2.0 writes down"),
        _of("loudness", "LUFS", "loudness", "loudness", "", "", "integrated loudness (BS.1770) of the mono mix"),
        _of("diversity", "diversity", "spread", "nano-clap", "higher", "seeds", "1 - cosine between a prompt's seeds; nano's tower"),
        _of(
            "duplicates",
            "duplicates",
            "duplicates",
            "nano-clap",
            "lower",
            "",
            "share of sounds with a twin (cosine > 0.999) under another prompt",
        ),
        _of(
            "failures",
            "failures",
            "failures",
            None,
            "lower",
            "",
            "share of cells without a usable sound: errors, silence, NaN, wrong length",
        ),
    )
}
DEFAULT = ("nano-clap", "nano-fad", "nano-kad", "nano-kl", "loudness", "diversity", "duplicates", "failures")


def check(names: Iterable[str]) -> list[Measure]:
    """The metrics of these names, in order; those of DEFAULT where there are none.

    Raises:
        UnknownName: with the nearest known name.
    """
    chosen = list(names) or list(DEFAULT)
    for name in chosen:
        if name not in CATALOGUE:
            raise UnknownName("metric", name, CATALOGUE)
    return [CATALOGUE[name] for name in chosen]
