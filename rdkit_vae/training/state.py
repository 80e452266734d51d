"""The state of a training: initial weights, what changes from step to step, and randomness."""

import math
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rdkit_vae.config import seeds
from rdkit_vae.config.trial import PROTOCOLS, Trial, bind
from rdkit_vae.datasets.images import Images
from rdkit_vae.models import ARCHITECTURES, Shape, architecture_of
from rdkit_vae.models.variance import VARIANCES
from rdkit_vae.objectives.losses import objective_of
from rdkit_vae.training.augmentation import augmentation_of

MOMENTS = ("exp_avg", "exp_avg_sq")  # names of the moments in AdamW


class Diverged(Exception):
    """The loss or a weight is no longer finite."""


def build_model(trial: Trial, shape: Shape) -> nn.Module:
    """Builds the network of a trial on the CPU, with the initial weights of its seed.

    If the objective trains a decoder variance, that is the submodule `variance`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.integer(trial.seed, "weights"))
        architecture = architecture_of(trial.architecture)
        model = architecture.build(shape, trial.latents, **dict(trial.options))
        if trial.starts_as_reference:
            architecture.start_as_reference(model)
        variance = objective_of(trial.objective).variance
        if variance is not None:
            model.variance = VARIANCES[variance](trial.latents, trial.sigma2_floor)
    return model


def build_skeleton(trial: Trial, shape: Shape) -> nn.Module:
    """Builds the network for its shapes only; networks of rdvae are built without numbers."""
    with torch.device("meta") if trial.architecture in ARCHITECTURES else nullcontext():
        return build_model(trial, shape)


def adamw_settings(trial: Trial) -> dict[str, Any]:
    """Returns the settings of AdamW that differ from its defaults."""
    decay = PROTOCOLS[trial.protocol].weight_decay
    return {"lr": trial.learning_rate, "weight_decay": decay, "fused": True}


def learning_rate(trial: Trial, step: int, total: int) -> float:
    """Returns the rate at a step: cosine annealing towards 0 in each cycle of the protocol."""
    cycle = trial.steps_per_cycle(total)
    return trial.learning_rate * (1 + math.cos(math.pi * (step % cycle) / cycle)) / 2


@dataclass
class EpochProgress:
    """Progress in the current epoch: batches and images done, and the sum of their losses."""

    batches: int = 0
    images: int = 0
    loss: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Randomness:
    """The randomness of an epoch, in the order in which its n images are used.

    Attributes:
        order: (n,) positions in the train split, on the CPU.
        noise: (n, L) standard normal numbers.
        warps: (n, ...) parameters of the augmentation; None if there is none.
    """

    order: Tensor
    noise: Tensor
    warps: Tensor | None


Moments = dict[str, Tensor]  # running averages of the gradients of the weights, or of their squares


class Training:
    """A model in training: everything that changes from step to step. `Pack` takes the steps.

    The randomness of an epoch is a function of the trial's seed and the epoch, so a training that
    is restored from the `state` after any step continues bit for bit.

    Attributes:
        trial: the configuration, bound to its images.
        model: the network, on `device`.
        moments: the moments of AdamW, `exp_avg` and `exp_avg_sq`, by name of the weight.
        epoch, step: epochs and optimiser steps done.
        epoch_progress: progress in the current epoch.
        loss: mean loss of the last epoch, nats per image; NaN before the first.
        diverged: where the loss or a weight stopped being finite; empty until then.
    """

    def __init__(self, trial: Trial, images: Images, device: str = "cpu") -> None:
        """Builds the model.

        Raises:
            BadInput: the trial was made for other images, or they do not fit it.
        """
        self.trial = bind(trial, images.sha256)
        self.images = images
        self.device = torch.device(device)
        trial.check_images(images)
        model = build_model(trial, images.shape).to(self.device)
        # The faster layout for convolutions
        self.model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.moments: dict[str, Moments] = {
            average: {name: torch.zeros_like(w) for name, w in self.model.named_parameters()}
            for average in MOMENTS
        }
        self.epoch, self.step, self.loss, self.diverged = 0, 0, math.nan, ""
        self.epoch_progress = EpochProgress()

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in an epoch."""
        return self.trial.steps_per_epoch(len(self.images.train))

    def batch_sizes(self) -> list[int]:
        """Returns the number of images in each batch of an epoch, nearly equal."""
        n, batches = len(self.images.train), self.steps_per_epoch
        if PROTOCOLS[self.trial.protocol].drop_last:
            return batches * [self.trial.batch_size]
        return [n // batches + (batch < n % batches) for batch in range(batches)]

    def randomness(self) -> Randomness:
        """Draws the randomness of the current epoch."""
        seed, sizes, device = self.trial.seed, self.batch_sizes(), self.device
        shuffled = seeds.generator(seed, "order", self.epoch).permutation(len(self.images.train))
        order = torch.from_numpy(shuffled[: sum(sizes)])
        noise = _generator(seed, "noise", self.epoch, device)
        shapes = [(size, self.trial.latents) for size in sizes]
        drawn = [torch.randn(shape, generator=noise, device=device) for shape in shapes]
        augmentation, warps = augmentation_of(self.trial, self.images.shape), None
        if augmentation:
            uniform = _generator(seed, "augment", self.epoch, device)
            shape = (sum(sizes), augmentation.numbers)
            numbers = torch.rand(shape, generator=uniform, device=device, dtype=torch.float64)
            warps = augmentation.parameters(numbers, self.images.shape)
        return Randomness(order=order, noise=torch.cat(drawn), warps=warps)

    def state(self) -> dict[str, Any]:
        """Returns everything that `restore` needs to continue the training."""
        state = self.snapshot() | {"moments": self.moments}
        progress = self.epoch_progress
        return state | ({"within": asdict(progress)} if progress.batches else {})

    def snapshot(self) -> dict[str, Any]:
        """Returns the weights after an epoch, without the moments needed to continue."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "loss": self.loss,
            "model": self.model.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Restores a `state` of the same trial; a `snapshot` suffices for evaluation only."""
        self.epoch, self.step, self.loss = state["epoch"], state["step"], state["loss"]
        self.epoch_progress = EpochProgress(**state.get("within", {}))
        self.model.load_state_dict(state["model"])
        weights = dict(self.model.named_parameters())
        for average, stored in state.get("moments", {}).items():
            # A fused step goes through weights and moments in memory order: layouts must agree.
            self.moments[average] = {
                name: torch.empty_like(weights[name]).copy_(moment)
                for name, moment in stored.items()
            }


def _generator(seed: int, stream: str, index: int, device: torch.device) -> torch.Generator:
    return torch.Generator(device).manual_seed(seeds.integer(seed, stream, index))
