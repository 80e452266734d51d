"""Losses and gradients of a group's networks: of one after the other, or of all stacked as one."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, groupby
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from rdkit_vae.config.trial import Trial
from rdkit_vae.errors import BadInput
from rdkit_vae.models import VAE, Shape, architecture_of
from rdkit_vae.models.precision import layers
from rdkit_vae.models.variance import variance_of
from rdkit_vae.objectives.losses import OBJECTIVES, kl_divergence, objective_of
from rdkit_vae.training.state import MOMENTS, Training, build_model, build_skeleton

_MOST_WEIGHTS = 2**18  # of a network that is stacked on a CPU
_REGISTER = 64  # values, at least as many as any processor takes at once


class Networks(Protocol):
    """The networks of T trials that train in lockstep.

    Attributes:
        moments: AdamW's state of each weight that it is to change, `step` included.
    """

    moments: dict[Tensor, dict[str, Tensor]]

    def backward(self, x: Tensor, noise: Tensor) -> Tensor:
        """(T, B, C, H, W) images and (T, B, L) noise to mean losses (T,), in nats.

        The gradients of the weights are added to what they have.
        """
        ...


def is_stacked(trial: Trial, shape: Shape, device: torch.device) -> bool:
    """Whether networks like a trial's are quicker as one: on a CPU, those that are small.

    There, products of larger ones take most of the time, not the overhead of each step. A loss of
    the user's own is never asked for many trials at once.
    """
    if not architecture_of(trial.architecture).stacks or trial.objective not in OBJECTIVES:
        return False
    weights = sum(weight.numel() for weight in build_skeleton(trial, shape).parameters())
    return device.type != "cpu" or weights <= _MOST_WEIGHTS


def networks_of(members: Sequence[Training]) -> Networks:
    """The networks of trials that train in lockstep, in the way that is quicker."""
    first = members[0]
    stacked = is_stacked(first.trial, first.images.shape, first.device)
    return (Stacked if stacked else InTurn)(members)


class InTurn:
    """Each network by itself; see `Networks`."""

    def __init__(self, members: Sequence[Training]) -> None:
        self._members = [(member, LossTerms(member.model)) for member in members]
        self.moments = {
            weight: {"step": _step_of(member)} | {a: member.moments[a][name] for a in MOMENTS}
            for member in members
            for name, weight in member.model.named_parameters()
        }

    def backward(self, x: Tensor, noise: Tensor) -> Tensor:
        """See `Networks`."""
        losses = []
        for (member, network), images, draw in zip(self._members, x, noise, strict=True):
            images = images.contiguous(memory_format=torch.channels_last)
            with layers(member.trial.precision, member.device):
                sse, kl, *trained = network(images, draw)
            trial, dims = member.trial, member.images.dims
            sigma2 = trained[0] if trained else trial.train_sigma2
            loss = objective_of(trial.objective).loss(sse, kl, sigma2, trial.setting(dims)).mean()
            loss.backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
        return torch.stack(losses)


class Stacked:
    """All networks as one, with one row of weights for each trial; see `Networks`.

    The weights of a trial are one row of a matrix (T, P), and its model's are views of that row; so
    are their moments. The members come in the order of their objectives.
    """

    def __init__(self, members: Sequence[Training]) -> None:
        networks = [LossTerms(member.model) for member in members]
        self._first, self._network = members[0], networks[0]
        self._shapes = {name: w.shape for name, w in self._network.named_parameters()}
        self._sizes = [part for s in self._shapes.values() for part in _padded(math.prod(s))]
        self._rows = self._as_rows([list(m.model.parameters()) for m in members]).requires_grad_()
        self.moments = {self._rows: {"step": _step_of(members[0])}}
        for average in MOMENTS:
            rows = self._as_rows([list(member.moments[average].values()) for member in members])
            self.moments[self._rows][average] = rows
        objectives = groupby(members, key=lambda member: member.trial.objective)
        self._losses = [_Losses(list(alike)) for _, alike in objectives]

    def backward(self, x: Tensor, noise: Tensor) -> Tensor:
        """See `Networks`."""
        parts = torch.split(self._rows, self._sizes, dim=1)[::2]
        weights = {
            name: part.view(-1, *shape)
            for (name, shape), part in zip(self._shapes.items(), parts, strict=True)
        }
        with layers(self._first.trial.precision, self._first.device):
            measured = functional_call(self._network, weights, (x, noise))  # (T, B) each
        counts = [losses.count for losses in self._losses]
        shares = zip(*(part.split(counts) for part in measured), strict=True)
        losses = torch.cat([of(*share) for of, share in zip(self._losses, shares, strict=True)])
        losses.sum().backward()  # type: ignore[no-untyped-call]
        return losses.detach()

    def _as_rows(self, tensors: Sequence[Sequence[Tensor]]) -> Tensor:
        """Tensors of each trial as a row of one matrix (T, P), of which they become views."""
        first = tensors[0][0]
        rows = torch.zeros((len(tensors), sum(self._sizes)), device=first.device)
        starts = [0, *accumulate(self._sizes)][::2]
        for row, of_trial in zip(rows, tensors, strict=True):
            for start, tensor in zip(starts, of_trial, strict=False):
                part = row[start : start + tensor.numel()].view(tensor.shape)
                tensor.data = part.copy_(tensor.detach())
        return rows


class LossTerms(nn.Module):
    """What the losses are computed from: sse, kl and, where the model has one, the variance.

    (B,) each; or (T, B) each, of (T, B, ...) images and noise, where the weights are stacked.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, ...]:
        """(B, C, H, W) images and (B, L) noise."""
        model = cast(VAE, self.model)
        mean, log_var = (part.float() for part in model.encode(x))
        z = mean + (log_var / 2).exp() * noise  # (B, L)
        sse = (x - model.decode(z).float()).square().flatten(-3).sum(dim=-1)
        trained = variance_of(self.model, z)
        return (sse, kl_divergence(mean, log_var), *([] if trained is None else [trained.float()]))


class _Losses:
    """The mean losses of stacked trials of one objective, each with its own beta and C."""

    def __init__(self, members: Sequence[Training]) -> None:
        first, device = members[0], members[0].device
        self._loss = objective_of(first.trial.objective).loss
        betas = torch.tensor([[m.trial.beta] for m in members], device=device)  # (T, 1)
        self._setting = replace(first.trial.setting(first.images.dims), beta=betas)
        constants = [[m.trial.train_sigma2] for m in members]
        self._constants = None if [None] in constants else torch.tensor(constants, device=device)
        self.count = len(members)

    def __call__(self, sse: Tensor, kl: Tensor, trained: Tensor | None = None) -> Tensor:
        """(T, B) each to (T,), in nats."""
        sigma2 = self._constants if trained is None else trained
        return self._loss(sse, kl, sigma2, self._setting).mean(dim=-1)


def try_out(trial: Trial, shape: Shape) -> None:
    """Runs the network and the loss of a trial once, on two grey images of a shape.

    Raises:
        BadInput: they raise an error, or return something of another shape.
    """
    own = [trial.objective] if trial.objective not in OBJECTIVES else []
    what = " with ".join([trial.architecture, *own])
    x, noise = torch.full((2, *shape), 0.5), torch.zeros((2, trial.latents))
    try:
        model = build_model(trial, shape).eval()
        mean, log_var = cast(VAE, model).encode(x)
        decoded = cast(VAE, model).decode(noise)
        for name, values, wanted in (
            ("mean", mean, noise.shape),
            ("log_var", log_var, noise.shape),
            ("decode(z)", decoded, x.shape),
        ):
            if values.shape != wanted:
                raise ValueError(f"{name} is of shape {tuple(values.shape)}, not {tuple(wanted)}")
        sse, kl, *trained = LossTerms(model)(x, noise)
        sigma2 = trained[0] if trained else trial.train_sigma2
        setting = trial.setting(x[0].numel())
        loss = objective_of(trial.objective).loss(sse, kl, sigma2, setting)
        if loss.shape != sse.shape:
            raise ValueError(f"the loss is of shape {tuple(loss.shape)}, not {tuple(sse.shape)}")
    except BadInput:
        raise
    except (Exception, SystemExit) as error:  # the user's code can raise anything
        reason = " ".join(str(error).split())[:200]
        named = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise BadInput(f"{what} on images of {shape}: {named}{reason}") from error


def _step_of(member: Training) -> Tensor:
    """The steps that AdamW has taken, for its bias correction."""
    return torch.tensor(float(member.step), device=member.device)


def _padded(size: int) -> tuple[int, int]:
    """A number of values, and of those that follow to fill up a vector register.

    So an optimiser takes every value of a weight in registers that are full, wherever its row is in
    the matrix: the values left over at an end may be rounded in another way.
    """
    return size, -size % _REGISTER
