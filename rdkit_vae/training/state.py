"""A training: what it starts from, what it carries from step to step, and all that is random."""

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
from rdkit_vae.training.inputs import augmentation_of

MOMENTS = ("exp_avg", "exp_avg_sq")  # AdamW's names for them


class Diverged(Exception):
    """The loss or a weight is no longer finite."""


def build_model(trial: Trial, shape: Shape) -> nn.Module:
    """The trial's network with the initial weights of its seed, on the CPU.

    Where the objective trains a decoder variance, that is the submodule `variance`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.integer(trial.seed, "weights"))
        architecture = architecture_of(trial.architecture)
        model = architecture.build(shape, trial.latents, **dict(trial.options))
        if trial.starts_as_reference:
            architecture.start_as_reference(model)
        kind = objective_of(trial.objective).variance
        if kind is not None:
            model.variance = VARIANCES[kind](trial.latents, trial.sigma2_floor)
    return model


def build_skeleton(trial: Trial, shape: Shape) -> nn.Module:
    """The network for its shapes and sizes; without numbers, where it is one of rdvae's."""
    with torch.device("meta") if trial.architecture in ARCHITECTURES else nullcontext():
        return build_model(trial, shape)


def adamw_settings(trial: Trial) -> dict[str, Any]:
    """Where a trial's AdamW is not as it comes."""
    decay = PROTOCOLS[trial.protocol].weight_decay
    return {"lr": trial.learning_rate, "weight_decay": decay, "fused": True}


def learning_rate(trial: Trial, step: int, total: int) -> float:
    """Cosine annealing from the trial's rate towards 0, once per cycle of its protocol."""
    cycle = math.ceil(total / PROTOCOLS[trial.protocol].annealings)
    return trial.learning_rate * (1 + math.cos(math.pi * (step % cycle) / cycle)) / 2


@dataclass
class Within:
    """How far an epoch has come: batches and images done, and the sum of their losses."""

    batches: int = 0
    images: int = 0
    loss: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Randomness:
    """All that is random in an epoch, in the order in which its n images are taken.

    Attributes:
        order: (n,) positions in the train split; on the CPU.
        noise: (n, L) standard normal numbers.
        warps: (n, ...) parameters of the augmentation; None without one.
    """

    order: Tensor
    noise: Tensor
    warps: Tensor | None


Moments = dict[str, Tensor]  # a running average of each weight's gradient, or of its square


class Training:
    """A model in training: everything that changes from step to step. `Pack` takes the steps.

    All randomness of an epoch is a function of the trial's seed and the epoch, so `state`, restored
    after any step, goes on bit for bit.

    Attributes:
        trial: what is trained, bound to its images.
        model: the network, on `device`.
        moments: what AdamW keeps of the weights, by name: `exp_avg` and `exp_avg_sq`.
        epoch, step: epochs and optimiser steps done.
        within: how far the epoch under way has come.
        loss: mean loss over the last epoch, nats per image; NaN before the first.
        diverged: where and how the loss or a weight was no longer finite; empty while all are.
    """

    def __init__(self, trial: Trial, images: Images, device: str = "cpu") -> None:
        """Prepares the first step.

        Raises:
            BadInput: the images are not the trial's, or too few for its batches.
        """
        self.trial = bind(trial, images.sha256)
        self.images = images
        self.device = torch.device(device)
        trial.check_images(len(images.train), images.shape)
        model = build_model(trial, images.shape).to(self.device)
        # The faster layout for convolutions.
        self.model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.moments: dict[str, Moments] = {
            average: {name: torch.zeros_like(w) for name, w in self.model.named_parameters()}
            for average in MOMENTS
        }
        self.epoch, self.step, self.loss, self.diverged = 0, 0, math.nan, ""
        self.within = Within()

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in an epoch."""
        return self.trial.steps_per_epoch(len(self.images.train))

    def batch_sizes(self) -> list[int]:
        """Images in each batch of an epoch: nearly equal."""
        n, batches = len(self.images.train), self.steps_per_epoch
        if PROTOCOLS[self.trial.protocol].drop_last:
            return batches * [self.trial.batch_size]
        return [n // batches + (batch < n % batches) for batch in range(batches)]

    def randomness(self) -> Randomness:
        """Draws all that is random in the next epoch, or in the one under way."""
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
            warps = augmentation.parameters(
                torch.rand(shape, generator=uniform, device=device, dtype=torch.float64)
            )
        return Randomness(order=order, noise=torch.cat(drawn), warps=warps)

    def state(self) -> dict[str, Any]:
        """What `restore` needs to go on."""
        state = self.snapshot() | {"moments": self.moments}
        return state | ({"within": asdict(self.within)} if self.within.batches else {})

    def snapshot(self) -> dict[str, Any]:
        """The weights between two epochs, without what it takes to train on."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "loss": self.loss,
            "model": self.model.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Goes back to a `state` of the same trial; from a `snapshot` it can only be evaluated."""
        self.epoch, self.step, self.loss = state["epoch"], state["step"], state["loss"]
        self.within = Within(**state.get("within", {}))
        self.model.load_state_dict(state["model"])
        weights = dict(self.model.named_parameters())
        for average, stored in state.get("moments", {}).items():
            # A fused step walks weights and moments in memory order, so their layouts must agree.
            self.moments[average] = {
                name: torch.empty_like(weights[name]).copy_(moment)
                for name, moment in stored.items()
            }


def _generator(seed: int, stream: str, index: int, device: torch.device) -> torch.Generator:
    return torch.Generator(device).manual_seed(seeds.integer(seed, stream, index))
