"""Finished study folders without a generator: sounds that a function makes, rows and specification as a run would have left them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from configs.schema import StudyConfig, StudyPrompt
from evaluation.ledger import Ledger, Measured, Row
from evaluation.study import Study, key_of
from generators.base import GenerationRequest
from media.audio import Audio, write_audio
from media.guard import inspect_audio
from media.refs import write_whole

Make = Callable[[StudyPrompt, str, int], Audio | str]  # prompt, system, seed -> a sound, or why there is none


def finished(
    folder: Path,
    prompts: Sequence[StudyPrompt],
    systems: dict[str, dict[str, Any]],
    make: Make,
    seeds: Sequence[int] = (0,),
    **spec: Any,
) -> Path:
    """Write ``study.json``, ``ledger.jsonl`` and ``audio/``; ``systems``: label -> what the protocol tells of it, and ``rtf``."""
    (folder / "audio").mkdir(parents=True, exist_ok=True)
    protocol = spec.pop("protocol", {})
    config = StudyConfig(
        name=spec.pop("name", "a study"),
        prompts=tuple(prompts),
        backends=tuple({"name": name} for name in systems),
        seeds=tuple(seeds),
        **spec,
    )
    rows = []
    for name, told in systems.items():
        for prompt in prompts:
            for seed in seeds:
                request = GenerationRequest(prompt=prompt.caption or "x", seconds=config.seconds, seed=seed)
                key = key_of(request, f"sha256:{name}")
                common = {"key": key, "prompt": prompt.id, "backend": name, "seed": seed, "request": request, "fingerprint": name}
                made = make(prompt, name, seed)
                if isinstance(made, str):
                    rows.append(Row(**common, status="failed", error=made, measured=Measured(wall_seconds=0.1)))
                    continue
                path = folder / "audio" / f"{key}.wav"
                write_audio(path, made)
                cost = Measured(wall_seconds=told.get("rtf", 0.3) * made.seconds, rtf=told.get("rtf", 0.3), peak_mb=told.get("mb", 700))
                sha = hashlib.sha256(path.read_bytes()).hexdigest()
                rows.append(
                    Row(
                        **common, status="done", audio=f"audio/{key}.wav", audio_sha256=sha, sample_rate=made.sample_rate,
                        seconds=made.seconds, guard=inspect_audio(made, None), measured=cost,
                    )
                )  # fmt: skip
    Ledger(folder).append(rows)
    backends = {name: {k: v for k, v in told.items() if k not in ("rtf", "mb")} for name, told in systems.items()}
    told = {"prompts": len(prompts), "references": sum(p.reference is not None for p in prompts), "seeds": list(seeds)}
    told |= {"seconds": config.seconds, "threads": 1, "backends": backends} | protocol
    study = Study(config=config, protocol=told, cells=tuple(row.key for row in rows))
    write_whole(folder / "study.json", study.model_dump_json().encode())
    return folder
