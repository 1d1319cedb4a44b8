"""What a text wants: a linear classifier over sentence vectors, fitted in closed form on a page of examples.

Ridge regression to one-hot targets: no iterations, no randomness, the same weights on every machine up to rounding.
The fitted weights lie beside the examples (``intents.json``), because encoding the examples costs seconds at start.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol

import numpy as np

RIDGE = 1.0
SHARPNESS = 6.0  # scores of a ridge to 0/1 targets are flat; this makes a softmax of them usable as a confidence


class SentenceEncoder(Protocol):
    """Texts to unit vectors [B, D] float32."""

    def sentences(self, texts: list[str]) -> np.ndarray: ...


@dataclass(frozen=True)
class Intents:
    """Weights [D + 1, K] over vectors and a bias, and the K names."""

    names: tuple[str, ...]
    weights: np.ndarray

    def probabilities(self, vectors: np.ndarray) -> np.ndarray:
        """[B, K], rows sum to 1, for unit vectors [B, D]."""
        scores = SHARPNESS * (_with_bias(vectors) @ self.weights)
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        return scores / scores.sum(axis=1, keepdims=True)

    def best(self, vector: np.ndarray) -> tuple[str, float]:
        """The likeliest name for one unit vector [D], and its probability."""
        share = self.probabilities(vector[None])[0]
        top = int(share.argmax())
        return self.names[top], float(share[top])


def fit(examples: Mapping[str, Sequence[str]], encoder: SentenceEncoder) -> Intents:
    """Weights from examples; every intent counts the same, however many examples it has."""
    names = tuple(sorted(examples))
    texts = [text for name in names for text in examples[name]]
    labels = np.array([k for k, name in enumerate(names) for _ in examples[name]])
    x = _with_bias(encoder.sentences(texts)).astype(np.float64)
    y = np.eye(len(names))[labels]
    balance = (1.0 / np.bincount(labels))[labels] * len(labels) / len(names)
    penalty = RIDGE * np.eye(x.shape[1])
    penalty[-1, -1] = 1e-6  # the bias is free
    weights = np.linalg.solve((x * balance[:, None]).T @ x + penalty, (x * balance[:, None]).T @ y)
    return Intents(names, weights.astype(np.float32))


def _with_bias(vectors: np.ndarray) -> np.ndarray:
    return np.concatenate([vectors, np.ones((len(vectors), 1), vectors.dtype)], axis=1)


def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(files("orchestrator").joinpath("intents.json").read_text("utf-8"))
    return table


def examples() -> dict[str, list[str]]:
    """The example texts by intent."""
    found: dict[str, list[str]] = _table()["examples"]
    return found


def shipped() -> Intents:
    """The weights that lie beside the examples, fitted with all-MiniLM-L6-v2."""
    table = _table()
    return Intents(tuple(table["names"]), np.array(table["weights"], np.float32))


def write(encoder: SentenceEncoder, path: Path) -> None:
    """Fit again and write examples and weights to ``path``; for whoever changes the examples."""
    table = examples()
    fitted = fit(table, encoder)
    rows = [[round(float(w), 4) for w in row] for row in fitted.weights]
    lines = ",\n  ".join(f"{json.dumps(name)}: {json.dumps(texts, ensure_ascii=False)}" for name, texts in table.items())
    names, weights = json.dumps(list(fitted.names)), json.dumps(rows)
    path.write_text(f'{{\n "examples": {{\n  {lines}\n }},\n "names": {names},\n "weights": {weights}\n}}\n', "utf-8")
