"""Training steps of a pack: one trial, or several that train in lockstep.

A pack has the overhead of a single training. Each of its trials has its own data order, noise and
BatchNorm statistics, and reaches the same numbers as when trained alone. On a GPU a step is
captured as a graph, and the CPU waits for results only at the end of an epoch.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from rdkit_vae.config.trial import Trial
from rdkit_vae.datasets.images import Images
from rdkit_vae.errors import BadInput
from rdkit_vae.models.precision import products
from rdkit_vae.training.augmentation import augmentation_of, to_unit
from rdkit_vae.training.inputs import Split
from rdkit_vae.training.networks import networks_of
from rdkit_vae.training.state import (
    Diverged,
    EpochProgress,
    Training,
    adamw_settings,
    learning_rate,
)

_UNCAPTURED = 3  # steps before a graph is captured, in which libraries initialise themselves


class Pack:
    """Trials that train in lockstep.

    The pack owns the weights and moments; those of a trial may be views of them. So each trial can
    be evaluated and saved between epochs, but after one was restored the pack must not step again.
    A trial whose loss is no longer finite has `diverged` set and does not affect the others.

    Attributes:
        members: the trials.
    """

    def __init__(self, members: Sequence[Training]) -> None:
        """Packs trainings.

        Args:
            members: trainings with the same `Trial.pack_key`, images, device and step.

        Raises:
            BadInput: their pack keys or steps differ.
        """
        if len({(member.trial.pack_key, member.step) for member in members}) > 1:
            raise BadInput(
                "the trials of a pack must have the same pack_key and be at the same step"
            )
        # Sorted, so that the loss of an objective is computed for all its trials at once.
        self.members = sorted(members, key=lambda member: member.trial.objective)
        self._first = self.members[0]
        trial, self._device = self._first.trial, self._first.device
        self._split = Split(self._first.images, "train", self._device)
        self._augmentation = augmentation_of(trial, self._first.images.shape)
        self._networks = networks_of(self.members)
        self._optimizer = self._make_optimizer()
        on_gpu = self._device.type == "cuda"
        self._graphs = _Graphs() if on_gpu else None
        self._stream = torch.cuda.Stream(self._device) if on_gpu else None  # type: ignore[no-untyped-call]

    def run_epoch(self, stop: Callable[[], bool] = lambda: False) -> bool:
        """Trains one epoch, or the rest of it.

        Args:
            stop: called after every step except the last; True interrupts the epoch.

        Returns:
            Whether the epoch has ended or every trial has diverged.
        """
        for member in self.members:
            member.model.train()
        with self._on_its_stream():
            first, finite = self._first, torch.ones(len(self.members), dtype=torch.bool)
            order, *random = self._randomness()
            bounds = list(pairwise(accumulate(first.batch_sizes(), initial=0)))
            bounds = bounds[first.epoch_progress.batches :]  # of the remaining batches
            losses = torch.zeros((len(bounds), len(self.members)), device=self._device)  # nats
            for number, (start, end) in enumerate(bounds):
                pixels = self._split.take(order[:, start:end])
                self._set_rate(first.step + number)
                losses[number] = self._step(pixels, *(part[:, start:end] for part in random))
                if self._device.type == "cpu":  # on a GPU this would wait for the step
                    finite &= losses[number].isfinite()
                if not finite.any() or (number + 1 < len(bounds) and stop()):
                    losses = losses[: number + 1]
                    break
            by_member = losses.T.tolist()  # waits for a GPU
        for member, values in zip(self.members, by_member, strict=True):
            _advance(member, values)
        return all(member.diverged or not member.epoch_progress.batches for member in self.members)

    @contextmanager
    def _on_its_stream(self) -> Iterator[None]:
        """On a GPU, queues steps on a separate stream, which graphs need."""
        if self._stream is None:
            yield
            return
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            yield

    def _randomness(self) -> list[Tensor]:
        """Returns order, noise and any warps of the epoch, (T, n, ...) each."""
        drawn = [member.randomness() for member in self.members]
        order = torch.stack([random.order for random in drawn]).to(self._split.place)
        noise = torch.stack([random.noise for random in drawn])
        warps = [random.warps for random in drawn if random.warps is not None]
        return [order, noise, *([torch.stack(warps)] if warps else [])]

    def _step(self, *batch: Tensor) -> Tensor:
        """Takes an optimiser step of all trials; returns their mean losses (T,) before it, in nats.

        On a GPU, later steps with the same batch size are replayed from a graph.
        """
        with products(self._first.trial.precision, self._device):
            return self._graphs.run(self._compute, batch) if self._graphs else self._compute(*batch)

    def _compute(self, pixels: Tensor, noise: Tensor, warps: Tensor | None = None) -> Tensor:
        """Takes a step with (T, B, C, H, W) uint8 pixels, (T, B, L) noise, (T, B, ...) warps."""
        levels = self._first.images.levels
        if self._augmentation and warps is not None:
            warped = self._augmentation.inputs(pixels.flatten(0, 1), levels, warps.flatten(0, 1))
            x = torch.unflatten(warped, 0, pixels.shape[:2])
        else:
            x = to_unit(pixels, levels)
        self._optimizer.zero_grad()
        losses = self._networks.backward(x, noise)
        self._optimizer.step()
        return losses

    def _make_optimizer(self) -> torch.optim.AdamW:
        """Makes the optimiser of all weights, which continues with their moments."""
        moments, settings = self._networks.moments, adamw_settings(self._first.trial)
        if self._device.type == "cuda":  # a captured step reads the learning rate from a tensor
            settings |= {
                "lr": torch.tensor(settings["lr"], device=self._device),
                "capturable": True,
            }
        optimizer = torch.optim.AdamW(list(moments), **settings)
        optimizer.state.update(moments)
        return optimizer

    def _set_rate(self, step: int) -> None:
        first = self._first
        rate = learning_rate(first.trial, step, first.steps_per_epoch * first.trial.epochs)
        for settings in self._optimizer.param_groups:
            if isinstance(settings["lr"], Tensor):
                settings["lr"].fill_(rate)
            else:
                settings["lr"] = rate


class _Graphs:
    """A step as CUDA graphs, one per batch size, each captured once and then replayed.

    The graphs share their temporary memory: they never run at the same time, and losses are copied
    before the next step.
    """

    def __init__(self) -> None:
        self._steps: Counter[int] = Counter()
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, list[Tensor], Tensor]] = {}
        self._pool = torch.cuda.graph_pool_handle()

    def run(self, step: Callable[..., Tensor], inputs: Sequence[Tensor]) -> Tensor:
        """Takes a step. The next step overwrites the returned losses."""
        size = inputs[0].shape[1]
        self._steps[size] += 1
        if self._steps[size] <= _UNCAPTURED:
            return step(*inputs)
        if size not in self._graphs:
            self._graphs[size] = self._capture(step, inputs)
        graph, buffers, losses = self._graphs[size]
        for buffer, value in zip(buffers, inputs, strict=True):
            buffer.copy_(value)
        graph.replay()
        return losses

    def _capture(
        self, step: Callable[..., Tensor], inputs: Sequence[Tensor]
    ) -> tuple[torch.cuda.CUDAGraph, list[Tensor], Tensor]:
        graph, buffers = torch.cuda.CUDAGraph(), [tensor.clone() for tensor in inputs]
        with torch.cuda.graph(graph, pool=self._pool, stream=torch.cuda.current_stream()):
            losses = step(*buffers)
        return graph, buffers, losses


def _advance(member: Training, losses: Sequence[float]) -> None:
    """Counts steps up to the first loss that is not finite; ends the epoch after the last batch."""
    sizes, progress = member.batch_sizes(), member.epoch_progress
    for loss in losses:
        if not math.isfinite(loss):
            at = f"epoch {member.epoch + 1}, step {member.step + 1}"
            member.diverged = f"loss is {loss} at {at}"
            return
        progress.loss += loss * sizes[progress.batches]
        progress.images += sizes[progress.batches]
        progress.batches += 1
        member.step += 1
    if progress.batches < len(sizes):
        return
    member.epoch += 1
    member.loss, member.epoch_progress = progress.loss / progress.images, EpochProgress()
    if not math.isfinite(get_total_norm(member.model.parameters()).item()):
        at = f"epoch {member.epoch}, step {member.step}"
        member.diverged = f"weights are not finite after {at}"


def train(
    trial: Trial,
    images: Images,
    *,
    device: str = "cpu",
    on_epoch: Callable[[Training], None] | None = None,
) -> nn.Module:
    """Trains a trial to its last epoch and returns the model in evaluation mode.

    Args:
        trial: the configuration.
        images: its dataset.
        device: a torch device.
        on_epoch: called after every epoch.

    Raises:
        BadInput: the images do not fit the trial.
        Diverged: the loss is no longer finite.
    """
    (model,) = train_pack([trial], images, device=device, on_epoch=on_epoch)
    return model


def train_pack(
    trials: Sequence[Trial],
    images: Images,
    *,
    device: str = "cpu",
    on_epoch: Callable[[Training], None] | None = None,
) -> list[nn.Module]:
    """Trains trials with the same `pack_key` in lockstep; the results are those of `train`.

    Args:
        trials: may differ only in beta, C, seed and objective.
        images, device, on_epoch: as for `train`.

    Raises:
        BadInput: the images do not fit the trials, or the pack keys differ.
        Diverged: the loss of a trial is no longer finite.
    """
    members = [Training(trial, images, device) for trial in trials]
    pack = Pack(members)
    for _ in range(members[0].trial.epochs):
        pack.run_epoch()
        for member in members:
            if member.diverged:
                raise Diverged(member.diverged)
            if on_epoch:
                on_epoch(member)
    for weight in (weight for member in members for weight in member.model.parameters()):
        weight.data = weight.data.clone()  # no longer a view of the pack's weights
    return [member.model.eval() for member in members]
