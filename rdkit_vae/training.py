"""Training: one network, one objective, a step at a time."""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from rdkit_vae import seeds
from rdkit_vae.datasets.images import Images
from rdkit_vae.inputs import augmentation_of, to_unit
from rdkit_vae.models import ARCHITECTURES, VAE, Shape
from rdkit_vae.models.variance import VARIANCES, variance_of
from rdkit_vae.objectives import OBJECTIVES, kl_divergence
from rdkit_vae.trial import PROTOCOLS, Trial, bind


class Diverged(Exception):
    """The loss or a weight is no longer finite."""


def build_model(trial: Trial, shape: Shape) -> nn.Module:
    """The trial's network with the initial weights of its seed, on the CPU.

    Where the objective trains a decoder variance, that is the submodule `variance`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.integer(trial.seed, "weights"))
        model = ARCHITECTURES[trial.architecture].build(shape, trial.latents)
        kind = OBJECTIVES[trial.objective].variance
        if kind is not None:
            model.variance = VARIANCES[kind](trial.latents, trial.sigma2_floor)
    return model


def adamw_settings(trial: Trial) -> dict[str, Any]:
    """Where a trial's AdamW is not as it comes."""
    decay = PROTOCOLS[trial.protocol].weight_decay
    return {"lr": trial.learning_rate, "weight_decay": decay, "fused": True}


def learning_rate(trial: Trial, step: int, total: int) -> float:
    """Cosine annealing from the trial's rate towards 0, once per cycle of its protocol."""
    cycle = math.ceil(total / PROTOCOLS[trial.protocol].annealings)
    return trial.learning_rate * (1 + math.cos(math.pi * (step % cycle) / cycle)) / 2


@dataclass
class _Within:
    """How far an epoch has come: batches and images done, and the sum of their losses."""

    batches: int = 0
    images: int = 0
    loss: float = 0.0


class Training:
    """A model in training: everything that changes from step to step.

    All randomness of an epoch is a function of the trial's seed and the epoch, so `state`, restored
    after any step, goes on bit for bit.

    Attributes:
        trial: what is trained, bound to its images.
        model: the network, on `device`.
        epoch, step: epochs and optimiser steps done.
        loss: mean loss over the last epoch, nats per image; NaN before the first.
    """

    def __init__(self, trial: Trial, images: Images, device: str = "cpu") -> None:
        """Prepares the first step.

        Raises:
            BadInput: the images are not the trial's, or too few for its batches.
        """
        self.trial = bind(trial, images.sha256)
        self.images = images
        self.device = torch.device(device)
        self.protocol = PROTOCOLS[trial.protocol]
        trial.check_images(len(images.train))
        model = build_model(trial, images.shape).to(self.device)
        # The faster layout for convolutions.
        self.model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.AdamW(self.model.parameters(), **adamw_settings(trial))
        self.epoch, self.step, self.loss = 0, 0, math.nan
        self._within = _Within()
        self._augmentation = augmentation_of(trial)
        self._loss = OBJECTIVES[trial.objective].loss
        self._setting = trial.setting(images.dims)

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in an epoch."""
        return self.trial.steps_per_epoch(len(self.images.train))

    def run_epoch(self, stop: Callable[[], bool] = lambda: False) -> bool:
        """Trains one epoch, or what is left of it.

        Args:
            stop: asked after every step but the last; True ends the epoch there.

        Returns:
            Whether the epoch has come to its end.

        Raises:
            Diverged: before the optimiser step whose loss is not finite.
        """
        self.model.train()
        noise = torch.Generator(self.device)
        noise.manual_seed(seeds.integer(self.trial.seed, "noise", self.epoch))
        warps = seeds.generator(self.trial.seed, "augment", self.epoch)
        within = self._within
        for number, batch in enumerate(self.batches()):
            done = number < within.batches  # before an interruption: only its random numbers pass
            if self._augmentation:
                drawn = torch.from_numpy(self._augmentation.draw(warps, len(batch)))
            if done:
                torch.randn((len(batch), self.trial.latents), generator=noise, device=self.device)
                continue
            x = to_unit(self.images.train[batch], self.images.levels, self.device)
            if self._augmentation:
                x = self._augmentation.apply(x, drawn.to(self.device))
            within.loss += self.optimise(x, noise) * len(batch)
            within.images += len(batch)
            within.batches += 1
            if within.batches < self.steps_per_epoch and stop():
                return False
        self.epoch += 1
        self.loss, self._within = within.loss / within.images, _Within()
        if not math.isfinite(get_total_norm(self.model.parameters()).item()):
            raise Diverged(f"weights are not finite after epoch {self.epoch}, step {self.step}")
        return True

    def batches(self) -> Iterator[Any]:
        """Index arrays that cover the split in random order, in batches of nearly equal size."""
        n = len(self.images.train)
        order = seeds.generator(self.trial.seed, "order", self.epoch).permutation(n)
        if self.protocol.drop_last:
            order = order[: self.steps_per_epoch * self.trial.batch_size]
        return iter(np.array_split(order, self.steps_per_epoch))

    def optimise(self, x: Tensor, noise: torch.Generator) -> float:
        """One optimiser step on (B, C, H, W) images; returns the mean loss in nats."""
        model = cast(VAE, self.model)
        mean, log_var = model.encode(x.contiguous(memory_format=torch.channels_last))
        draw = torch.randn(mean.shape, generator=noise, device=self.device)
        z = mean + (log_var / 2).exp() * draw  # (B, L)
        sse = (x - model.decode(z)).square().flatten(1).sum(dim=1)  # (B,)
        trained = variance_of(self.model, z)
        sigma2 = self.trial.train_sigma2 if trained is None else trained
        loss = self._loss(sse, kl_divergence(mean, log_var), sigma2, self._setting).mean()
        value = loss.item()
        if not math.isfinite(value):
            raise Diverged(f"loss is {value} at epoch {self.epoch + 1}, step {self.step + 1}")
        total = self.steps_per_epoch * self.trial.epochs
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.trial, self.step, total)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.step += 1
        return value

    def state(self) -> dict[str, Any]:
        """What `restore` needs; after the last epoch the optimiser is left out, as it is done."""
        finished = self.epoch == self.trial.epochs
        state = {
            "epoch": self.epoch,
            "step": self.step,
            "loss": self.loss,
            "model": self.model.state_dict(),
            "optimizer": None if finished else self.optimizer.state_dict(),
        }
        return state | ({"within": asdict(self._within)} if self._within.batches else {})

    def restore(self, state: dict[str, Any]) -> None:
        """Goes back to a `state` of the same trial."""
        self.epoch, self.step, self.loss = state["epoch"], state["step"], state["loss"]
        self._within = _Within(**state.get("within", {}))
        self.model.load_state_dict(state["model"])
        if state["optimizer"] is None:
            return
        self.optimizer.load_state_dict(state["optimizer"])
        # A fused step walks weights and moments in memory order, so their layouts must agree.
        for weight, moments in self.optimizer.state.items():
            for name, moment in moments.items():
                if moment.shape == weight.shape:
                    moments[name] = torch.empty_like(weight).copy_(moment)


def train(
    trial: Trial,
    images: Images,
    *,
    device: str = "cpu",
    on_epoch: Callable[[Training], None] | None = None,
) -> nn.Module:
    """Trains a trial from its seed to its last epoch and returns the model in evaluation mode.

    Args:
        trial: what to train.
        images: its dataset.
        device: a torch device.
        on_epoch: called after every epoch.

    Raises:
        BadInput: the images do not suit the trial.
        Diverged: the loss is no longer finite.
    """
    training = Training(trial, images, device)
    while training.epoch < trial.epochs:
        training.run_epoch()
        if on_epoch:
            on_epoch(training)
    model: nn.Module = training.model.eval()
    return model
