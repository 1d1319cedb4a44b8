"""Changing a sound that exists: which frames may change, and how the new part is joined to samples that must not.

Knows requests, seconds and samples. Does not know networks: generators.engine runs what is planned here.
"""

from __future__ import annotations

import math

import numpy as np

from generators.base import GenerationRequest, UnsupportedRequest
from media.audio import Audio

VERSION = 2  # raise it when the same edit starts to give another sound
KINDS = frozenset({"variation", "inpaint", "extend", "remove"})
FADE_S = 0.06  # length of a crossfade; it lies inside the region that is made anew
SEAM_S = 0.1  # on either side of a seam, where levels are compared
RELAX_S = 0.4  # how far into the new part its level is led towards that of the old one
GAIN_DB = 12.0  # the most that the level of a new part is corrected
MIRROR_DB = 20.0  # the most that a part beside a seam is raised; it is lowered by up to four times as much
FILL_DB = 8.0  # from here to twice as much below what is wanted, a part is filled from across the seam
PARTS, ROUNDS = 4, 60  # parts of SEAM_S whose levels are led, and how often they are measured
SILENT_DB = -60.0  # of full scale: beside it a step is not heard
TAIL_S = 0.12  # of a sound that is extended: its last moment is made again, since nothing follows it to fade into


def check_edit(request: GenerationRequest, source_s: float) -> None:
    """Refuse an edit that does not fit its source, which lasts ``source_s`` seconds.

    Raises:
        UnsupportedRequest: a region outside the source or empty, an extension that is not longer, a length that differs, nothing to
            remove.
    """
    edit = request.edit
    assert edit is not None
    if edit.source.kind != "audio":
        raise UnsupportedRequest(f"only sounds can be edited, got {edit.source.kind}")
    if edit.kind == "inpaint" and not edit.regions:
        raise UnsupportedRequest("inpaint needs a region in seconds, e.g. --region 1.5:2.5")
    if edit.regions and edit.kind != "inpaint":
        raise UnsupportedRequest(f"regions belong to inpaint; '{edit.kind}' changes the whole sound, leave them out")
    for start, end in edit.regions:
        if not (math.isfinite(start) and math.isfinite(end) and 0 <= start < end <= source_s + 0.005):
            raise UnsupportedRequest(f"the region {start:g}:{end:g} does not lie inside the sound, which is {source_s:.2f} s long")
    if edit.kind == "extend" and request.seconds <= source_s:
        raise UnsupportedRequest(f"extend makes a sound longer: it is {source_s:.2f} s long and {request.seconds:g} s were asked")
    if edit.kind != "extend" and abs(request.seconds - source_s) > 0.01:
        raise UnsupportedRequest(
            f"'{edit.kind}' keeps the length of {source_s:.2f} s, got {request.seconds:g} s; use extend to lengthen"
        )
    if edit.kind == "remove" and not request.negative_prompt:
        raise UnsupportedRequest("remove needs to know what goes: name it")


def spans(request: GenerationRequest, source_s: float) -> list[tuple[float, float]] | None:
    """What is made anew, in seconds, in order and without overlaps; None: everything."""
    edit = request.edit
    assert edit is not None
    if edit.kind == "extend":
        return [(max(0.0, source_s - TAIL_S), request.seconds)]
    if edit.kind != "inpaint":
        return None
    merged: list[tuple[float, float]] = []
    for start, end in sorted(edit.regions):
        end = min(end, source_s)
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def free_frames(regions: list[tuple[float, float]], frames: int, frame_s: float) -> np.ndarray:
    """[frames] bool, True for every frame of ``frame_s`` seconds that a region touches."""
    free = np.zeros(frames, bool)
    for start, end in regions:
        free[int(start / frame_s + 1e-6) : math.ceil(end / frame_s - 1e-6)] = True
    return free


def joined(source: Audio, made: Audio, regions: list[tuple[float, float]]) -> Audio:
    """``made`` inside the regions, ``source`` outside, bit for bit; the crossfades lie inside.

    Near a seam the new part is led to the level of the old one (the decoder loses some, and other words are louder or softer).

    Args:
        source: [1, S]. made: [1, T], T >= S, the whole sound as the generator made it.

    Returns: [1, T].
    """
    rate, total = source.sample_rate, made.samples.shape[1]
    out = np.zeros(total, np.float32)
    have = min(source.samples.shape[1], total)
    out[:have] = source.samples[0, :have]
    old, seam = out.copy(), round(SEAM_S * rate)
    for start, end in regions:
        first, last = round(start * rate), min(round(end * rate), total)
        new, rise, fade = made.samples[0, first:last], np.ones(last - first, np.float32), min(round(FADE_S * rate), (last - first) // 2)
        gain_db = np.zeros(last - first)
        led = min(round(RELAX_S * rate), (last - first) // 2)
        if first > 0:
            rise[:fade] = _ramp(fade)
            gain_db[:led] += _missing_db(old[max(first - seam, 0) : first], new[:seam]) * _led(led, seam)
        if last < have:
            rise[len(rise) - fade :] = _ramp(fade)[::-1]
            gain_db[len(rise) - led :] += _missing_db(old[last : last + seam], new[len(new) - seam :]) * _led(led, seam)[::-1]
        new = (new * 10 ** (gain_db / 20)).astype(np.float32)
        mixed = _faded(old[first:last], new, rise)
        if first > 0:
            mixed = mirrored(mixed, old[max(first - seam, 0) : first], led)
        if last < have:
            mixed = mirrored(mixed[::-1], old[last : last + seam][::-1], led)[::-1]
        out[first:last] = np.clip(mixed, -1, 1)
    return Audio(out[None], rate)


def mirrored(new: np.ndarray, before: np.ndarray, led: int) -> np.ndarray:
    """``new`` [S], which follows ``before`` [B], with the levels of its first B samples those of ``before`` read backwards.

    Whatever window is laid on either side of the seam, up to B samples, both sides are as loud, though an event may begin or end there.
    The gain begins at 1, so that there is no step (beside silence there is none to hear), moves in straight lines of decibels between
    ``PARTS`` parts, and is 1 again after ``led`` samples.
    """
    part = len(before) // PARTS
    if part < 8 or len(new) < len(before) or led < len(before):
        return new
    behind, size = before[::-1][: PARTS * part], PARTS * part
    wanted = _part_levels(behind, part)
    # Where there is next to nothing to raise, the mirrored samples themselves sound on.
    fill = np.clip((wanted - _part_levels(new, part)) / FILL_DB - 1, 0, 1)
    middles = [(k + 0.5) * part for k in range(PARTS)]
    share = np.interp(np.arange(size), [0.0, *middles, size], [fill[0], *fill, 0.0])
    head = new[:led].copy()
    head[:size] += behind * share
    places = [0.0, *middles, max(led, size + 1)]
    silent = wanted[0] < SILENT_DB

    def with_gain(gain_db: np.ndarray) -> np.ndarray:
        curve = np.interp(np.arange(led), places, [gain_db[0] if silent else 0.0, *gain_db, 0.0])
        return head * 10 ** (curve / 20)

    gain_db = np.zeros(PARTS)
    for _ in range(ROUNDS):
        gain_db += 0.7 * (wanted - _part_levels(with_gain(gain_db), part))
        gain_db = np.clip(gain_db, -4 * MIRROR_DB, MIRROR_DB)
    # What is left is made up for by the neighbours: the largest difference over all windows is halved.
    led_to = with_gain(gain_db)
    missing = [_level_db(behind[: k * part]) - _level_db(led_to[: k * part]) for k in range(1, PARTS + 1)]
    return np.concatenate([with_gain(gain_db + (max(missing) + min(missing)) / 2), new[led:]]).astype(np.float32)


def _part_levels(x: np.ndarray, part: int) -> np.ndarray:
    return np.array([_level_db(x[k * part : (k + 1) * part]) for k in range(PARTS)])


def _level_db(x: np.ndarray) -> float:
    """Root mean square in dB of full scale, -100 at least."""
    return max(-100.0, 10 * math.log10(float(np.mean(x.astype(np.float64) ** 2)) + 1e-12))


def _ramp(n: int) -> np.ndarray:
    return ((np.arange(n, dtype=np.float32) + 1) / (n + 1)).astype(np.float32)


def _led(n: int, held: int) -> np.ndarray:
    """1 for ``held`` samples, then down to 0 at ``n``."""
    return np.clip((n - np.arange(n)) / max(n - held, 1), 0, 1)


def _faded(old: np.ndarray, new: np.ndarray, rise: np.ndarray) -> np.ndarray:
    """Crossfade that keeps the power, whatever the two have in common: weights cos and sin, divided by sqrt(1 + r sin 2a)."""
    angle = rise * (np.pi / 2)
    mixing = (rise > 0) & (rise < 1)
    a, b = old[mixing].astype(np.float64), new[mixing].astype(np.float64)
    power = math.sqrt(float(np.sum(a * a)) * float(np.sum(b * b))) if mixing.any() else 0.0  # sums: @ rounds by its threads
    common = min(max(float(np.sum(a * b)) / power, -0.9), 1.0) if power > 1e-9 else 0.0
    weight = 1 / np.sqrt(1 + common * np.sin(2 * angle))
    return ((old * np.cos(angle) + new * np.sin(angle)) * np.where(mixing, weight, 1.0)).astype(np.float32)


def _missing_db(old: np.ndarray, new: np.ndarray) -> float:
    """By how many decibels the new samples are softer than the old ones, within ``GAIN_DB``; 0 where either is silent."""
    levels = [float(np.sqrt(np.mean(x.astype(np.float64) ** 2))) if len(x) else 0.0 for x in (old, new)]
    if min(levels) < 1e-4:
        return 0.0
    return float(np.clip(20 * np.log10(levels[0] / levels[1]), -GAIN_DB, GAIN_DB))
