"""What pictures sound like, for a language model that is trained without a picture.

nano sees a picture as ConSE does (Norouzi et al. 2014): the names of its labels in the space of sentences, weighted by their
probabilities. So pictures can be drawn as probabilities: a label, what the classifier confuses it with, and what else is in view.
encoders/sights.py says which sound a label has. Knows labels and vectors; no pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from encoders.sights import LABELS, sights, silent

SHARPNESS = (
    4.0,
    13.0,
)  # of the confusion between labels whose weights in the classifier are alike; from a blurred picture to a clear one


@dataclass(frozen=True)
class Sights:
    """Draws pictures as the vectors that nano sees of them.

    Args:
        names: label names in the space of sentences [1000, D], unit length.
        weights: the classifier's last layer [1000, F]: labels with like rows are confused.
    """

    names: np.ndarray
    weights: np.ndarray

    def probabilities(self, draw: np.random.Generator, label: int) -> np.ndarray:
        """[1000] of a picture of ``label``: 0.2 to 1 for it and its likes, the rest for a few things beside it."""
        likeness = _cosines(self.weights, label) * draw.uniform(*SHARPNESS) + draw.normal(0, 0.8, LABELS)
        p = np.exp(likeness - likeness.max())
        p[label] = max(p[label], float(np.partition(p, -2)[-2]) * draw.uniform(0.5, 3))
        share = draw.uniform(0.2, 1.0) if draw.random() < 0.7 else 1.0
        return share * p / p.sum() + (1 - share) * self.clutter(draw, int(draw.integers(2, 25)))

    def clutter(self, draw: np.random.Generator, things: int) -> np.ndarray:
        """[1000] of ``things`` unrelated labels."""
        p = np.zeros(LABELS)
        p[draw.choice(LABELS, things, replace=False)] = draw.dirichlet(np.full(things, 0.6))
        return p

    def seen(self, probabilities: np.ndarray) -> np.ndarray:
        """The vector [D] of a picture: its length is how sure it is."""
        return (probabilities @ self.names).astype(np.float32)

    def picture_of(self, draw: np.random.Generator, sound: str) -> np.ndarray:
        """The vector [D] of a picture that shows the source of ``sound``."""
        label = int(draw.choice(sights()[sound]))
        mine = np.asarray(sights()[sound])
        for _ in range(8):
            p = self.probabilities(draw, label)
            if p[mine].sum() >= 0.6 * p.max():  # what else is in view may be large, but the source is
                break
        return self.seen(p)

    def picture_of_nothing(self, draw: np.random.Generator) -> np.ndarray:
        """The vector [D] of a picture on which a hundred labels are as likely as each other, or of a thing that makes no sound."""
        if draw.random() < 0.5:
            return self.seen(self.clutter(draw, int(draw.integers(30, 200))))
        return self.seen(self.probabilities(draw, int(draw.choice(silent()))))


def _cosines(rows: np.ndarray, label: int) -> np.ndarray:
    row = rows[label]
    cosines: np.ndarray = rows @ row / (np.linalg.norm(rows, axis=1) * np.linalg.norm(row) + 1e-9)
    return cosines
