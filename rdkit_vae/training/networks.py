"""Losses and gradients of a pack's networks, computed one by one or stacked into one network."""

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
from rdkit_vae.models.variance import trained_terms
from rdkit_vae.objectives.losses import OBJECTIVES, kl_divergence, objective_of
from rdkit_vae.training.state import MOMENTS, Training, build_model, build_skeleton

_MAX_STACKED_WEIGHTS = 2**18  # of a network, on a CPU
_REGISTER = 64  # values, at least the width of any vector register


class Networks(Protocol):
    """The networks of a pack of T trials.

    Attributes:
        moments: state of AdamW, including `step`, for each tensor to optimise.
    """

    moments: dict[Tensor, dict[str, Tensor]]

    def backward(self, x: Tensor, noise: Tensor) -> Tensor:
        """Returns mean losses (T,) in nats for (T, B, C, H, W) images and (T, B, L) noise.

        Adds to the gradients of the weights.
        """
        ...


def is_stacked(trial: Trial, shape: Shape, device: torch.device) -> bool:
    """Whether the networks of a pack are stacked because that is faster; on a CPU, only small ones.

    Larger networks on a CPU spend most of their time in matrix products, not in overhead. A user's
    own loss is never called for several trials at once.
    """
    if not architecture_of(trial.architecture).stacks or trial.objective not in OBJECTIVES:
        return False
    weights = sum(weight.numel() for weight in build_skeleton(trial, shape).parameters())
    return device.type != "cpu" or weights <= _MAX_STACKED_WEIGHTS


def networks_of(members: Sequence[Training]) -> Networks:
    """Returns the networks of a pack, stacked if that is faster."""
    first = members[0]
    stacked = is_stacked(first.trial, first.images.shape, first.device)
    return (Stacked if stacked else OneByOne)(members)


class OneByOne:
    """Computes each network by itself; see `Networks`."""

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
    """Computes all networks as one; see `Networks`.

    The weights of a trial are one row of a matrix (T, P), and the weights of its model are views of
    that row; the same holds for the moments. The members must be sorted by objective.
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
        by_objective = groupby(members, key=lambda member: member.trial.objective)
        self._losses = [_Losses(list(same)) for _, same in by_objective]

    def backward(self, x: Tensor, noise: Tensor) -> Tensor:
        """See `Networks`."""
        parts = torch.split(self._rows, self._sizes, dim=1)[::2]
        weights = {
            name: part.view(-1, *shape)
            for (name, shape), part in zip(self._shapes.items(), parts, strict=True)
        }
        with layers(self._first.trial.precision, self._first.device):
            terms = functional_call(self._network, weights, (x, noise))  # (T, B) or (T, B, 2) each
        counts = [losses.count for losses in self._losses]
        by_objective = zip(*(term.split(counts) for term in terms), strict=True)
        losses = torch.cat([f(*part) for f, part in zip(self._losses, by_objective, strict=True)])
        losses.sum().backward()  # type: ignore[no-untyped-call]
        return losses.detach()

    def _as_rows(self, tensors: Sequence[Sequence[Tensor]]) -> Tensor:
        """Copies the tensors of each trial to a row of a matrix (T, P); they become views of it."""
        first = tensors[0][0]
        rows = torch.zeros((len(tensors), sum(self._sizes)), device=first.device)
        starts = [0, *accumulate(self._sizes)][::2]
        for row, tensors_of_trial in zip(rows, tensors, strict=True):
            for start, tensor in zip(starts, tensors_of_trial, strict=False):
                part = row[start : start + tensor.numel()].view(tensor.shape)
                tensor.data = part.copy_(tensor.detach())
        return rows


class LossTerms(nn.Module):
    """Computes the inputs of a loss: sse, kl and, if the model trains one, the variance.

    (B,) each; or (T, B) each for (T, B, ...) images and noise if the weights are stacked. The two
    numbers of a Student t have a last dimension of their own.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, ...]:
        """Takes (B, C, H, W) images and (B, L) noise."""
        model = cast(VAE, self.model)
        mean, log_var = (part.float() for part in model.encode(x))
        z = mean + (log_var / 2).exp() * noise  # (B, L)
        sse = (x - model.decode(z).float()).square().flatten(-3).sum(dim=-1)
        trained = trained_terms(self.model, z)
        return (sse, kl_divergence(mean, log_var), *([] if trained is None else [trained.float()]))


class _Losses:
    """Mean losses of stacked trials with the same objective, each with its own beta and C."""

    def __init__(self, members: Sequence[Training]) -> None:
        first, device = members[0], members[0].device
        self._loss = objective_of(first.trial.objective).loss
        betas = torch.tensor([[m.trial.beta] for m in members], device=device)  # (T, 1)
        self._setting = replace(first.trial.setting(first.images.dims), beta=betas)
        constants = [[m.trial.train_sigma2] for m in members]
        self._constants = None if [None] in constants else torch.tensor(constants, device=device)
        self.count = len(members)

    def __call__(self, sse: Tensor, kl: Tensor, trained: Tensor | None = None) -> Tensor:
        """Maps (T, B) each to (T,), in nats; (T, B, 2) for a Student t."""
        sigma2 = self._constants if trained is None else trained
        return self._loss(sse, kl, sigma2, self._setting).mean(dim=-1)


def try_out(trial: Trial, shape: Shape) -> None:
    """Runs the network and the loss of a trial once, on two grey images of a shape.

    Raises:
        BadInput: they raise an error, or return a wrong shape.
    """
    own = [trial.objective] if trial.objective not in OBJECTIVES else []
    what = " with ".join([trial.architecture, *own])
    x, noise = torch.full((2, *shape), 0.5), torch.zeros((2, trial.latents))
    try:
        model = build_model(trial, shape).eval()
        mean, log_var = cast(VAE, model).encode(x)
        decoded = cast(VAE, model).decode(noise)
        for name, values, expected in (
            ("mean", mean, noise.shape),
            ("log_var", log_var, noise.shape),
            ("decode(z)", decoded, x.shape),
        ):
            if values.shape != expected:
                shapes = f"{tuple(values.shape)}, not {tuple(expected)}"
                raise ValueError(f"{name} has the shape {shapes}")
        sse, kl, *trained = LossTerms(model)(x, noise)
        sigma2 = trained[0] if trained else trial.train_sigma2
        setting = trial.setting(x[0].numel())
        loss = objective_of(trial.objective).loss(sse, kl, sigma2, setting)
        if loss.shape != sse.shape:
            raise ValueError(f"the loss has the shape {tuple(loss.shape)}, not {tuple(sse.shape)}")
    except BadInput:
        raise
    except (Exception, SystemExit) as error:  # the user's code can raise anything
        reason = " ".join(str(error).split())[:200]
        named = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise BadInput(f"{what} on images of {shape}: {named}{reason}") from error


def _step_of(member: Training) -> Tensor:
    """Returns the number of steps taken so far, for the bias correction of AdamW."""
    return torch.tensor(float(member.step), device=member.device)


def _padded(size: int) -> tuple[int, int]:
    """Returns `size` and the number of values that fill up the last vector register.

    With this padding an optimiser processes all values of a weight in full registers, wherever its
    row is in the matrix. Left-over values at an end might be rounded differently.
    """
    return size, -size % _REGISTER
