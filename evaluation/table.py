"""The benchmark's figures as text for people: checkpoints side by side. Knows the JSON of evaluation.nano and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# What a line says, and where its figure lies in a checkpoint's object.
LINES: tuple[tuple[str, str], ...] = (
    ("procedural classes, judge J1", ""),
    ("  real held-out clips, top-1", "judge_ceiling"),
    ("  reconstructed, top-1", "recon_top1"),
    ("  reconstructed, top-5", "recon_top5"),
    ("  class names, top-1", "names_top1"),
    ("  unseen paraphrases, top-1", "top1"),
    ("  unseen paraphrases, top-5", "top5"),
    ("  few steps, top-1", "top1_few"),
    ("  few steps, top-5", "top5_few"),
    ("  true LOA and no words, top-1", "gt_loa_top1"),
    ("  words and no LOA, top-1", "zero_loa_top1"),
    ("  what LOA adds, top-1", "loa_effect.top1"),
    ("  what LOA adds, J2", "loa_effect.j2"),
    ("recorded classes, judge J1", ""),
    ("  real held-out clips, top-1", "recorded.judge_ceiling"),
    ("  real held-out clips, top-5", "recorded.judge_ceiling_top5"),
    ("  reconstructed, top-5", "recorded.recon_top5"),
    ("  unseen paraphrases, top-1", "recorded.top1"),
    ("  unseen paraphrases, top-5", "recorded.top5"),
    ("other sources, judge J2, top-5", ""),
    ("  its own ceiling", "j2_ceiling"),
    ("  clips of the training domain", "j2_domain"),
    ("  reconstructed", "j2_recon"),
    ("  unseen paraphrases", "j2"),
    ("  recorded paraphrases", "recorded.j2"),
    ("  instruments and speech", "j2_music"),
    ("pictures and videos, top-5", ""),
    ("  pictures", "pictures_top5"),
    ("  videos", "videos_top5"),
    ("two sounds, both in top-5", ""),
    ("  X while Y", "mixtures.while.both_top5"),
    ("  X while Y, true mixtures", "mixtures.while.ceiling"),
    ("  X, then Y", "mixtures.then.both_top5"),
    ("  X, then Y, true sequences", "mixtures.then.ceiling"),
    ("measured without a judge", ""),
    ("  tempo within 8 %", "probes.tempo.right"),
    ("  tempo an octave off", "probes.tempo.octave"),
    ("  tempo of true clips", "probes.ceilings.tempo.real"),
    ("  faster than slower", "probes.pace.right"),
    ("  nearer than farther", "probes.distance.right"),
    ("  many more than one", "probes.number.right"),
    ("  number of events", "probes.count.right"),
    ("  higher than lower", "probes.register.right"),
    ("  rising or falling", "probes.contour.right"),
    ("  loudness follows a drawn curve", "envelope_correlation"),
    ("  drawn onsets within 40 ms", "envelope_onsets"),
    ("autoencoder and vocoder", ""),
    ("  mel error, autoencoder (nepers)", "reconstruction.vae_mel_l1"),
    ("  mel error, with vocoder (nepers)", "reconstruction.mel_l1"),
    ("  STFT convergence", "reconstruction.stft_convergence"),
    ("cost", ""),
    ("  real-time factor", "rtf"),
    ("  real-time factor, few steps", "rtf_few"),
    ("  peak memory (MB)", "peak_mb"),
    ("  size (MB)", "size_mb"),
)


def table(report: Mapping[str, Any]) -> str:
    """One line a figure, one column a checkpoint; then the sweeps, and what differs beyond chance."""
    rows = report["checkpoints"]
    width = max(len(text) for text, _ in LINES) + 2
    lines = ["" if report["settings"]["comparable"] else "A quick run: its figures compare with those of no full run.\n"]
    lines.append(f"{'':{width}}" + "".join(f"{str(row['checkpoint'])[-22:]:>24}" for row in rows))
    for text, path in LINES:
        lines.append(text if not path else f"{text:{width}}" + "".join(f"{shown(row, path):>24}" for row in rows))
    for row in rows:
        if row.get("sweeps"):
            lines += ["", *_sweep_lines(str(row["checkpoint"]), row["sweeps"])]
    for other in report["comparison"]:
        lines += [
            "",
            f"{other['checkpoint']} minus {rows[0]['checkpoint']}, paired, where 0 lies outside the interval:",
        ]
        lines += [
            f"  {key:{width - 2}}{told['difference']:+.3f}  {_interval(told['interval'])}"
            for key, told in other.items()
            if isinstance(told, Mapping) and (told["interval"][0] > 0 or told["interval"][1] < 0)
        ]
    reasons = [f"{key}: {value}" for row in rows for key, value in row.items() if key.endswith("_reason")]
    return "\n".join(lines + ([""] if reasons else []) + list(dict.fromkeys(reasons))).lstrip("\n")


def shown(row: Mapping[str, Any], path: str) -> str:
    """The figure at a dotted path with its interval, "-" where there is none.

    >>> shown({"top1": 0.5, "intervals": {"top1": [0.4, 0.6]}}, "top1"), shown({"recorded": None}, "recorded.top1")
    ('0.500 [0.40, 0.60]', '-')
    """
    *parents, key = path.split(".")
    place: Any = row
    for parent in parents:
        place = (place or {}).get(parent)
    value = (place or {}).get(key)
    if isinstance(value, Mapping):
        return f"{value['difference']:+.3f} {_interval(value['interval'])}"
    if value is None:
        return "-"
    told = f"{value:.1f}" if value >= 20 else f"{value:.3f}"
    interval = place.get("intervals", {}).get(key) or (place.get("interval") if key in ("right", "both_top5") else None)
    return f"{told} {_interval(interval)}" if interval else told


def _interval(ends: Sequence[float]) -> str:
    return f"[{ends[0]:.2f}, {ends[1]:.2f}]"


def _sweep_lines(name: str, sweeps: Mapping[str, Any]) -> list[str]:
    told = [f"{name}, one prompt a class (n = {sweeps['n']}), top-1:"]
    for kind, what in (("guidance", f"guidance at {sweeps['guidance_steps']} steps"), ("steps", "steps")):
        told.append(f"  {what}: " + ", ".join(f"{point['at']:g}: {point['top1']:.3f}" for point in sweeps[kind]))
    return told
