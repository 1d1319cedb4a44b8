"""How often the 95 % intervals of evaluation/statistics.py hold the true value: simulated, written to docs/measurements/coverage.json.

python -m tests.evaluation.coverage            # about half an hour on one core
"""

import json
import sys
from pathlib import Path

import numpy as np
from scipy.linalg import sqrtm

from evaluation.distances import frechet_distance
from evaluation.statistics import jackknife, mean_interval, sign_flip_p

OUT = Path(__file__).parents[2] / "docs" / "measurements" / "coverage.json"
DRAWS = 1000  # resamples and sign flips in these simulations; the product takes 4,000 and 20,000


def draw(shape, prompts, seeds, generator):
    """[prompts, seeds] values of mean 0 (0.3 for coins): half of the variance belongs to the prompt."""
    if shape == "normal":
        return generator.normal(0, 1, (prompts, 1)) + generator.normal(0, 1, (prompts, seeds))
    if shape == "skewed":  # KL divergences look like this: exponential
        return generator.exponential(1, (prompts, 1)) + generator.exponential(1, (prompts, seeds)) - 2
    chance = generator.beta(0.6, 1.4, (prompts, 1))  # coins: guards, classes
    return (generator.random((prompts, seeds)) < chance).astype(float) - 0.3


def rate(hits):
    return round(float(np.mean(hits)), 4)


def mean_coverage(shape, prompts, seeds, reps, seed=0):
    generator = np.random.default_rng(seed)
    names = [f"{index:04d}" for index in range(prompts) for _ in range(seeds)]
    hits = []
    for _ in range(reps):
        got = mean_interval(draw(shape, prompts, seeds, generator).ravel(), names, resamples=DRAWS)
        hits.append(got.low <= 0 <= got.high)
    return {"kind": "mean", "values": shape, "prompts": prompts, "seeds": seeds, "studies": reps, "coverage": rate(hits)}


def paired_coverage(shape, prompts, seeds, reps, seed=0):
    generator = np.random.default_rng(seed)
    hits, false = [], []
    for _ in range(reps):
        hard = 3 * generator.normal(0, 1, prompts)  # what both systems share
        first, second = (hard + draw(shape, prompts, seeds, generator).mean(1) for _ in range(2))
        got = mean_interval(first - second, [str(index) for index in range(prompts)], resamples=DRAWS)  # what paired_difference does
        hits.append(got.low <= 0 <= got.high)
        false.append(sign_flip_p(first - second, flips=DRAWS) < 0.05)
    row = {"kind": "paired difference", "values": shape, "prompts": prompts, "seeds": seeds, "studies": reps}
    return row | {"coverage": rate(hits), "false_at_5_percent": rate(false)}


def fad_coverage(width, n, apart, reps, seed=0, resamples=100):
    """Two Gaussians of known distance; one sound a prompt, its reference independent of it."""
    generator = np.random.default_rng(seed)
    first = np.diag(np.linspace(1, 0.2, width))
    turn, _ = np.linalg.qr(generator.standard_normal((width, width)))
    second = turn @ np.diag(np.linspace(1, 0.2, width) * (1 + apart * generator.uniform(-1, 1, width))) @ turn.T if apart else first
    shift = 0.3 * apart * generator.standard_normal(width)
    s1, s2 = first @ first.T, second @ second.T
    truth = float(shift @ shift + np.trace(s1 + s2 - 2 * sqrtm(s1 @ s2).real)) if apart else 0.0
    names = [f"{index:05d}" for index in range(n)]
    hits, plain_hits, plain, fixed, widths = [], [], [], [], []
    for _ in range(reps):
        made, true = generator.standard_normal((n, width)) @ second + shift, generator.standard_normal((n, width)) @ first

        def figure(chosen, made=made, true=true):
            at = [int(name) for name in chosen]
            return frechet_distance(made[at], true[at])

        got = jackknife(figure, names)
        hits.append(got.corrected.low <= truth <= got.corrected.high)
        plain.append(got.plain)
        fixed.append(got.corrected.value)
        widths.append(got.corrected.high - got.corrected.low)
        if resamples and len(plain_hits) < 60:
            drawn = [figure([names[i] for i in generator.integers(0, n, n)]) for _ in range(resamples)]
            low, high = np.quantile(drawn, [0.025, 0.975])
            plain_hits.append(low <= truth <= high)
    row = {"width": width, "n": n, "true": round(truth, 3), "plain": round(float(np.mean(plain)), 3)}
    return {
        "jackknife": {"kind": "FAD, jackknife"}
        | row
        | {
            "corrected": round(float(np.mean(fixed)), 3),
            "interval": round(float(np.mean(widths)), 3),
            "studies": reps,
            "coverage": rate(hits),
        },
        "percentile": {"kind": "FAD, percentile bootstrap"} | row | {"studies": len(plain_hits), "coverage": rate(plain_hits)},
    }


def bias(width, n, reps=4):
    """The plain distance of two samples of one white Gaussian: all of it is bias."""
    generator = np.random.default_rng(n)
    return round(float(np.mean([frechet_distance(*generator.standard_normal((2, n, width))) for _ in range(reps)])), 2)


def plan():
    """What is measured: a name for each row, and how."""
    for shape in ("normal", "bernoulli", "skewed"):
        for prompts, seeds in ((10, 2), (20, 2), (50, 1), (100, 2)):
            yield f"mean {shape} {prompts}", lambda a=(shape, prompts, seeds, 2000): [mean_coverage(*a) | {"bar": True}]
            yield f"pair {shape} {prompts}", lambda a=(shape, prompts, seeds, 2000): [paired_coverage(*a) | {"bar": True}]
    sizes = ((8, 60, 0.5, 400), (8, 200, 0.5, 400), (32, 200, 0.5, 300), (32, 200, 0, 300), (128, 512, 0.5, 80), (128, 1000, 0.5, 40))
    for size in sizes:
        yield f"fad {size}", lambda a=size: [row | {"bar": False} for row in fad_coverage(*a).values()]


def main():
    held = json.loads(OUT.read_text()) if OUT.exists() else {
        "what": "share of simulated studies whose 95 % interval holds the true value",
        "command": "python -m tests.evaluation.coverage",
        "bar": "tests hold rows with bar = true (means, paired differences) to 0.93 .. 0.97; the others show the Fréchet distance",
        "frechet_bias_128": {str(n): bias(128, n) for n in (100, 200, 500, 1000, 2000, 4000)},
        "rows": [],
    }  # fmt: skip
    known = {row["part"] for row in held["rows"]}
    for part, run in plan():
        if part not in known:
            held["rows"] += [row | {"part": part} for row in run()]
            print(held["rows"][-1], file=sys.stderr, flush=True)
            OUT.write_text(json.dumps(held, indent=1) + "\n")


if __name__ == "__main__":
    main()
