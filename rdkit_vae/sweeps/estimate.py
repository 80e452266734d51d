"""How long a sweep will take and how much it will write, from a short measurement."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from rdkit_vae.config.trial import Trial
from rdkit_vae.evaluation.evaluate import evaluate
from rdkit_vae.sweeps.footprint import bytes_of, evaluated, packs_that_fit
from rdkit_vae.sweeps.forecast import Forecast
from rdkit_vae.sweeps.messages import Event, EventKind, Pace
from rdkit_vae.sweeps.plan import Plan
from rdkit_vae.training.state import Training
from rdkit_vae.training.steps import Pack

_SECONDS = 2.0  # of training steps to time
_WARM_UP = 5  # steps before them
_IMAGES = (2, 16, 128)  # to evaluate of each split, more and more until it takes long enough
_LONG_ENOUGH = 0.1  # seconds
_START_UP = 5.0  # seconds until the workers have loaded torch and the data


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Approximate seconds of wall clock and bytes on disk."""

    seconds: float
    bytes: float


def estimate(plan: Plan, left: Sequence[Trial]) -> Estimate:
    """Times a few steps and a small evaluation of the first trial, and extrapolates to all.

    Args:
        plan: the sweep.
        left: its trials to run.
    """
    torch.set_num_threads(1)
    images, device, jobs = plan.images, plan.device, plan.jobs
    trial = replace(left[0], beta=1.0, learning_rate=1e-9)  # just as fast, but never diverges
    size = min(plan.pack_size(left), len(left))
    pack = packs_that_fit(size * [trial], images, device, jobs)[0]
    members = [Training(each, images, device) for each in pack]
    training = members[0]
    per_step = _seconds_per_step(Pack(members)) / len(members)
    pace = Pace(
        epoch=training.steps_per_epoch * per_step,
        checkpoint=seconds_per_checkpoint(training, device),
        pack_size=len(members),
    )
    forecast = Forecast(left, jobs)
    forecast.take(Event(kind=EventKind.PACE, pace=pace), now=0.0)
    seconds = _START_UP + (forecast.seconds_left(now=0.0) or 0.0)
    return Estimate(seconds=seconds, bytes=len(left) * bytes_of(training))


def _seconds_per_step(pack: Pack) -> float:
    """Seconds of one step of the whole pack."""
    for _ in range(_WARM_UP):
        pack.run_epoch(stop=lambda: True)  # the first steps also set things up
    first, start = pack.members[0], time.perf_counter()
    before, until = first.step, start + _SECONDS
    while time.perf_counter() < until:
        pack.run_epoch(stop=lambda: time.perf_counter() > until)
    return (time.perf_counter() - start) / (first.step - before)


def seconds_per_checkpoint(training: Training, device: str) -> float:
    """Seconds that the evaluation of a checkpoint takes, from the first images of each split."""
    images = training.images
    took = 0.0
    for count in _IMAGES:  # the first evaluation also loads libraries
        if count > _IMAGES[1] and took > _LONG_ENOUGH:
            break
        few = replace(images, train=images.train[:count], test=images.test[:count], sha256="sample")
        trial = replace(training.trial, batch_size=2)  # fewer than a batch are evaluated too
        start = time.perf_counter()
        evaluate(training.model, few, trial, device=device)
        took = time.perf_counter() - start
    per_image = took / (len(few.train) + len(few.test))
    return evaluated(training) * per_image
