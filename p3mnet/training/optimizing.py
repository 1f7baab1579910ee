"""Optimiser and learning rate of a training run; the rate follows from the step alone, so that resuming keeps it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

# Of the epochs, after which a schedule of steps falls unless it says another number: MODNet's.
_QUARTER = 0.25


class OptimizerSettings(BaseModel):
    """Which optimiser moves the weights; its learning rate is a setting of the run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["adam", "adamw", "sgd"] = Field("adam", description="adam, adamw or sgd")
    momentum: float = Field(0.9, ge=0, lt=1, description="of sgd")
    weight_decay: float = Field(0.0, ge=0, description="share of the weights taken off, as the optimiser does it")


class Schedule(BaseModel):
    """How the learning rate goes on from its first value."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["constant", "step", "cosine"] = Field("constant", description="constant, step or cosine")
    every: int | None = Field(None, ge=1, description="of step: epochs from one fall to the next; absent = a quarter")
    factor: float = Field(0.1, gt=0, le=1, description="of step: what the rate is multiplied by")
    warm_up: int = Field(0, ge=0, description="steps in which the rate rises evenly to its first value")


def make_optimizer(
    settings: OptimizerSettings, parameters: Iterable[nn.Parameter], rate: float, fused: bool
) -> torch.optim.Optimizer:
    """An optimiser at its first learning rate."""
    if settings.name == "sgd":
        return torch.optim.SGD(
            parameters, rate, momentum=settings.momentum, weight_decay=settings.weight_decay, fused=fused
        )
    kind = torch.optim.AdamW if settings.name == "adamw" else torch.optim.Adam
    return kind(parameters, rate, weight_decay=settings.weight_decay, fused=fused)


def rate_at(schedule: Schedule, rate: float, step: int, epoch: int, steps: int, epochs: int) -> float:
    """Learning rate of a step.

    Args:
        schedule: How it goes.
        rate: The first one.
        step, epoch: Which, from 0.
        steps, epochs: How many the run has.
    """
    if step < schedule.warm_up:
        return rate * (step + 1) / schedule.warm_up
    if schedule.name == "step":
        every = schedule.every or max(1, int(_QUARTER * epochs))
        return rate * schedule.factor ** (epoch // every)
    if schedule.name == "cosine":
        done = (step - schedule.warm_up) / max(1, steps - schedule.warm_up)
        return rate * (1 + math.cos(math.pi * min(1.0, done))) / 2
    return rate
