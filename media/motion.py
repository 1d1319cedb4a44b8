"""What moved between small pictures: blows (a mover that loses its speed at once), flashes, and whether a picture is of another scene.

Knows arrays of grey. Does not know videos or sounds. Patches of ``PATCH`` pixels are followed one by one, so that a thing that moves
steadily neither hides nor pretends what happens to another one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import maximum_filter, minimum_filter, uniform_filter

PATCH = 16  # pixels of a side; a sixth of the picture's width
STRIDE = 4
MOST = 24  # patches that are followed at a time, the busiest ones
LEAST = 12  # pixels that must change in a patch
FAR = 12  # pixels that a thing may move between two pictures
STIR = 6.0  # grey levels (of 255) that count as change; below lie noise and the coder's doing
LAZY = 0.02  # how much worse a match may be for each pixel that it is nearer: an edge alone has no speed along itself
FIT = 0.25  # largest misfit of a followed patch, as a share of its own contrast
FLASH_PATCH = 24


@dataclass(frozen=True)
class Moved:
    """Patches of the middle one of three pictures.

    ``place`` [N, 2] are the (y, x) of their corners, ``come`` and ``gone`` [N, 2] the displacements from the picture before and to the
    next one in pixels, ``mass`` [N] the pixels that change, ``sure`` [N] whether the patch was found again on both sides.
    """

    place: np.ndarray
    come: np.ndarray
    gone: np.ndarray
    mass: np.ndarray
    sure: np.ndarray


STILL = Moved(np.zeros((0, 2), int), np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0), np.zeros(0, bool))


def follow(before: np.ndarray, now: np.ndarray, after: np.ndarray, far: tuple[int, int] = (FAR, FAR)) -> Moved:
    """Where the things in ``now`` came from and where they went; all three [H, W] float32, 0..255.

    Args:
        far: pixels, even, that a thing may have come and may go.
    """
    stirred = np.maximum(np.abs(now - before), np.abs(after - now))
    weight = np.clip((stirred - STIR) / (2 * STIR), 0.0, 1.0)
    place, mass = _busiest(weight)
    if len(place) == 0:
        return STILL
    before, now, after = (_soft(picture) for picture in (before, now, after))
    come, misfit_before = _displaced(now, before, weight, place, far[0])
    gone, misfit_after = _displaced(now, after, weight, place, far[1])
    return Moved(place, -come, gone, mass, (misfit_before < FIT) & (misfit_after < FIT))


def _busiest(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners [N, 2] and sums [N] of the patches in which more changes than in those around: a patch that holds a thing whole."""
    height, width = weight.shape
    ys, xs = (np.r_[0 : max(size - PATCH, 0) : STRIDE, max(size - PATCH, 0)] for size in (height, width))
    sums = np.pad(weight, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    y, x = np.meshgrid(ys, xs, indexing="ij")
    bottom, right = np.minimum(y + PATCH, height), np.minimum(x + PATCH, width)
    mass = sums[bottom, right] - sums[y, right] - sums[bottom, x] + sums[y, x]
    found = np.flatnonzero((mass >= maximum_filter(mass, 3) - 1e-6) & (mass > LEAST))
    found = found[np.argsort(mass.ravel()[found], kind="stable")[::-1][:MOST]]
    return np.stack([y.ravel()[found], x.ravel()[found]], 1), mass.ravel()[found]


def _displaced(now: np.ndarray, other: np.ndarray, weight: np.ndarray, place: np.ndarray, far: int) -> tuple[np.ndarray, np.ndarray]:
    """Displacement [N, 2] of each patch into ``other``, to fractions of a pixel, and its misfit [N] (0 perfect, 1 a flat grey).

    Weighted squared differences: all displacements at half the size, the neighbours of the best one at full size, then a parabola.
    """
    small, smaller, light = _halved(now), _halved(other), _halved(weight)
    cost, _ = _costs(small, smaller, light, place // 2, np.zeros_like(place), PATCH // 2, far // 2, 2 * LAZY)
    rough = 2 * (_lowest(cost) - far // 2)
    cost, misfit = _costs(now, other, weight, place, rough, PATCH, 2, LAZY)
    best = _lowest(cost)
    index = np.arange(len(place))
    fine = best + np.stack([_between(misfit, best, axis) for axis in (0, 1)], 1)  # without LAZY, that draws to whole pixels
    return rough + fine - 2, misfit[index, best[:, 0], best[:, 1]]


def _soft(picture: np.ndarray) -> np.ndarray:
    """Blurred a little: between whole pixels, matches of hard edges are drawn to the whole ones."""
    wide = np.pad(picture, 1, mode="edge")
    tall = (wide[:-2] + wide[2:]) / 4 + wide[1:-1] / 2
    return (tall[:, :-2] + tall[:, 2:]) / 4 + tall[:, 1:-1] / 2


def _halved(picture: np.ndarray) -> np.ndarray:
    even = picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2]
    return even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2).mean(axis=(1, 3))


def _costs(
    now: np.ndarray, other: np.ndarray, weight: np.ndarray, place: np.ndarray, near: np.ndarray, size: int, reach: int, lazy: float
) -> tuple[np.ndarray, np.ndarray]:
    """Cost and misfit [N, 2 reach + 1, 2 reach + 1] of displacing patches by ``near`` and up to ``reach`` pixels more."""
    rows, columns = place[:, 0], place[:, 1]
    mine = sliding_window_view(np.pad(now, ((0, size), (0, size)), mode="edge"), (size, size))[rows, columns]
    w = sliding_window_view(np.pad(weight, ((0, size), (0, size))), (size, size))[rows, columns] + np.float32(1e-3)
    margin = reach + int(np.abs(near).max(initial=0))
    span, steps, count = size + 2 * reach, 2 * reach + 1, len(place)
    wide = np.pad(other, ((margin, margin + size), (margin, margin + size)), mode="edge")
    at = place + near + margin - reach
    area = sliding_window_view(wide, (span, span))[at[:, 0], at[:, 1]]
    total = w.sum(axis=(1, 2), keepdims=True)
    mean = (w * mine).sum(axis=(1, 2), keepdims=True) / total
    mine, area = mine - mean, area - mean
    shifted = sliding_window_view(area, (size, size), axis=(1, 2)).reshape(count, steps * steps, size * size)
    own = (w * mine**2).sum(axis=(1, 2))
    # sum w (mine - theirs)^2 in its three parts, as a share of the patch's own contrast
    misfit = own[:, None] - 2 * (shifted @ (w * mine).reshape(count, -1, 1))[..., 0] + (shifted**2 @ w.reshape(count, -1, 1))[..., 0]
    misfit = (misfit / (own + total[:, 0, 0] * STIR**2)[:, None]).reshape(count, steps, steps)
    away = np.arange(-reach, reach + 1)
    far = np.hypot(near[:, 0, None, None] + away[:, None], near[:, 1, None, None] + away)
    return misfit + lazy * far, misfit


def _lowest(cost: np.ndarray) -> np.ndarray:
    """(row, column) [N, 2] of the least of each [N, rows, columns]."""
    return np.stack(np.unravel_index(cost.reshape(len(cost), -1).argmin(axis=1), cost.shape[1:]), 1)


def _between(cost: np.ndarray, best: np.ndarray, axis: int) -> np.ndarray:
    """Where the minimum lies between whole pixels, -0.5..0.5, by the parabola through it and its neighbours; 0 at the edge."""
    index, last, at = np.arange(len(cost)), cost.shape[1] - 1, best[:, axis]
    low, high = best.copy(), best.copy()
    low[:, axis], high[:, axis] = np.maximum(at - 1, 0), np.minimum(at + 1, last)
    left, middle, right = (cost[index, place[:, 0], place[:, 1]] for place in (low, best, high))
    bend = left - 2 * middle + right
    inside = (at > 0) & (at < last) & (bend > 1e-9)
    return np.where(inside, np.clip(0.5 * (left - right) / np.maximum(bend, 1e-9), -0.5, 0.5), 0.0)


@dataclass(frozen=True)
class Blow:
    """The patch that loses most speed, in pixels a second: its ``loss``, and ``turn``, how far its movement changes in any way.

    ``before``: how far it did in the picture before. ``goes_to`` is its corner (y, x) in the next picture, ``gone`` the way to there.
    """

    loss: float
    turn: float
    before: float
    goes_to: np.ndarray
    gone: np.ndarray


def blow(earlier: Moved, before: float, moved: Moved, lasted: float, lasts: float) -> Blow | None:
    """What loses most speed at the middle one of three pictures ``lasted`` and ``lasts`` seconds apart; None where nothing does.

    The loss is taken along the way that the thing came: starting, and turning aside, lose nothing. What came must have been on its way
    in the picture before as well (``earlier``, which came ``before`` seconds after its own): a patch that was mistaken was not.
    """
    if not len(moved.mass) or not len(earlier.mass):
        return None
    change = moved.gone / lasts - moved.come / lasted
    speed = np.hypot(*moved.come.T)
    loss = -(change * moved.come).sum(axis=1) / np.maximum(speed, 1e-6)
    loss = np.minimum(loss, 2 * speed / lasted)  # a ball comes back as fast as it came; what is more was no loss
    far = np.abs((moved.place - moved.come)[:, None] - earlier.place[None]).max(axis=2)
    other = np.hypot(*(moved.come[:, None] - earlier.gone[None]).transpose(2, 0, 1))
    known = (far <= 0.75 * PATCH) & (other <= 0.7 + 0.3 * speed[:, None])
    loss = np.where(moved.sure & known.any(axis=1), loss, 0.0)
    most = int(loss.argmax())
    if loss[most] <= 0:
        return None
    same = int(np.where(known[most], far[most] + 2 * other[most], np.inf).argmin())
    turned = float(np.hypot(*(earlier.gone[same] / lasted - earlier.come[same] / before)))
    return Blow(float(loss[most]), float(np.hypot(*change[most])), turned, moved.place[most] + moved.gone[most], moved.gone[most])


def turn_at(
    place: np.ndarray, came: np.ndarray, moved: Moved, lasted: float, lasts: float
) -> tuple[float, np.ndarray, np.ndarray] | None:
    """How far the movement of the thing at ``place`` that ``came`` there changes.

    Returns:
        (pixels a second, where it goes, its displacement to there); None where what is at the place came from elsewhere. Where nothing
        moves, a thing that hardly came has come to rest.
    """
    away = np.abs(moved.place - place).max(axis=1)
    other = np.hypot(*(moved.come - came).T)
    near = np.flatnonzero((away <= PATCH / 2) & (other <= 0.7 + 0.3 * np.hypot(*came)))
    if len(near):
        best = near[(away + 2 * other)[near].argmin()]
        change = moved.gone[best] / lasts - moved.come[best] / lasted
        return float(np.hypot(*change)), moved.place[best] + moved.gone[best], moved.gone[best]
    return (0.0, place, np.zeros(2)) if np.hypot(*came) < 1.0 else None


def flash(before: np.ndarray, now: np.ndarray) -> float:
    """How much light comes on at one place: mean rise in grey levels over a patch of ``FLASH_PATCH``, where it is largest.

    A thing that moves brightens one side and darkens the other. So a rise counts as far as all change is rise (squared), in every patch
    around (the least of those within a quarter of a patch): one that cuts a thing in two sees only a half of its change.
    """
    change = now - before
    rise = np.maximum(uniform_filter(change, FLASH_PATCH, mode="nearest"), 0.0)
    pure = rise / (uniform_filter(np.abs(change), FLASH_PATCH, mode="nearest") + 0.5)
    return float(minimum_filter(rise * pure * pure, FLASH_PATCH // 2 + 1, mode="nearest").max())


def renewal(before: np.ndarray, now: np.ndarray) -> float:
    """How much of a picture is another one: mean change in grey levels of the middlemost block of 8 x 8 pixels.

    The median over blocks: what moves in less than half of the picture does not count.

    Args:
        before, now: [3, H, W] float32, brightness and the two differences of colour, 0..255.
    """
    change = np.abs(now - before).max(axis=0)
    height, width = (size // 8 * 8 or size for size in change.shape)
    rows, columns = max(height // 8, 1), max(width // 8, 1)
    blocks = change[:height, :width].reshape(rows, height // rows, columns, width // columns)
    return float(np.median(blocks.mean(axis=(1, 3))))
