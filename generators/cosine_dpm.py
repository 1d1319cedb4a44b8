"""The solver of Stable Audio Open (SDE-DPM-Solver++ over exponential noise levels) without torchsde.

diffusers' ``CosineDPMSolverMultistepScheduler`` draws its noise from a Brownian tree of the package torchsde. Divided by the root of
its step, an increment of Brownian motion over an interval of its own is a standard normal draw that depends on no other one, so that
draws from the request's generator follow the same law. Everything else is diffusers' EDM solver of the same equations; the two differ
in what they tell the network about the noise level. tests/generators/test_pipelines.py holds both against each other step by step.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from diffusers import EDMDPMSolverMultistepScheduler
from diffusers.configuration_utils import register_to_config


class CosineDpm(EDMDPMSolverMultistepScheduler):
    """Reads the folder of a ``CosineDPMSolverMultistepScheduler``. ``generator`` is set before each call of the pipeline."""

    generator: torch.Generator | None = None

    @register_to_config
    def __init__(
        self,
        sigma_min: float = 0.3,
        sigma_max: float = 500.0,
        sigma_data: float = 1.0,
        sigma_schedule: str = "exponential",
        num_train_timesteps: int = 1000,
        solver_order: int = 2,
        prediction_type: str = "v_prediction",
        rho: float = 7.0,
        solver_type: str = "midpoint",
        lower_order_final: bool = True,
        euler_at_final: bool = False,
        final_sigmas_type: str | None = "zero",
    ) -> None:
        super().__init__(
            sigma_min=sigma_min,
            sigma_max=sigma_max,
            sigma_data=sigma_data,
            sigma_schedule=sigma_schedule,
            num_train_timesteps=num_train_timesteps,
            prediction_type=prediction_type,
            rho=rho,
            solver_order=solver_order,
            algorithm_type="sde-dpmsolver++",
            solver_type=solver_type,
            lower_order_final=lower_order_final,
            euler_at_final=euler_at_final,
            final_sigmas_type=final_sigmas_type or "zero",
        )

    def precondition_noise(self, sigma: float | torch.Tensor) -> torch.Tensor:
        """The noise level as the network reads it: an angle, 2/pi atan(sigma)."""
        return torch.atleast_1d(torch.as_tensor(sigma)).atan() / math.pi * 2

    def step(self, *arguments: Any, **named: Any) -> Any:
        """As diffusers' own, with noise from ``generator``."""
        return super().step(*arguments, **{"generator": self.generator, **named})
