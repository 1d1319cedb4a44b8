"""Sounds made in batches where one failure spares its neighbours, and what a process has to work with.

Knows backends and requests; judges and keeps nothing. Imports no torch before something is made.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from generators.base import Backend, Cancelled, Generated, GenerationRequest


def bucket_of(backend: Backend, rows: int) -> int:
    """The backend's largest batch bucket of at most ``rows``; its smallest one, where all are larger."""
    return max((size for size in backend.row_buckets if size <= rows), default=min(backend.row_buckets))


def made_each(backend: Backend, requests: Sequence[GenerationRequest], rows: int) -> list[Generated | Exception]:
    """One sound per request, in order and in one bucket, or why there is none. After a failure the others are made alone.

    Raises:
        Cancelled, OSError: of no single request.
    """
    try:
        return list(backend.generate(requests, rows=rows))
    except Cancelled:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the machine; libraries raise bare ones of their own
            raise
        if len(requests) == 1:
            return [error]
    return [made_each(backend, [request], rows)[0] for request in requests]


@contextmanager
def threads(count: int) -> Iterator[None]:
    """torch and numpy's matrix products on ``count`` threads, as in every worker: both round otherwise on another number.

    A fingerprint tells torch's number only; the other must not be left to the machine (Ray, for one, sets it by the environment).
    """
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    with threadpool_limits(count, user_api="blas"):
        torch.set_num_threads(count)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# -- memory -----------------------------------------------------------------------------------------------------------

_STATUS = Path("/proc/self/status")


def peak_mb() -> float | None:
    """Peak resident memory of this process (MB) since it began or ``reset_peak``; None off Linux.

    Not ``getrusage``: its maximum is inherited from the parent across exec.
    """
    if not _STATUS.exists():
        return None
    kib = next(int(line.split()[1]) for line in _STATUS.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM:"))
    return round(kib * 1024 / 1e6, 1)


def reset_peak() -> None:
    """Let ``peak_mb`` begin anew, where the system can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
