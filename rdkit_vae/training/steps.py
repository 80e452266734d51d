"""Training steps: of one trial, or of a group of trials that go through them in lockstep.

A group costs the overhead of one training. Each of its trials has its own data order, noise and
BatchNorm statistics, and comes to the numbers that it comes to alone. On a GPU a step is captured
as a graph, and nothing waits for it before the epoch's end.
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
from rdkit_vae.training.inputs import Split, augmentation_of, to_unit
from rdkit_vae.training.networks import networks_of
from rdkit_vae.training.state import (
    Diverged,
    Training,
    Within,
    adamw_settings,
    learning_rate,
)

_UNCAPTURED = 3  # steps before a graph is captured: libraries set themselves up in them


class Pack:
    """Trials that train in lockstep.

    While they do, the group holds their weights and moments; a trial's own may be views of them.
    So each can be evaluated and saved between epochs; a group of which one was restored must not
    step again. A trial whose loss is no longer finite has `diverged` set, and disturbs no other.

    Attributes:
        members: the trials.
    """

    def __init__(self, members: Sequence[Training]) -> None:
        """Makes trainings a group.

        Args:
            members: of one `Trial.pack_key`, on the same images and device, at the same step.

        Raises:
            BadInput: they are not of one kind, or not at the same step.
        """
        if len({(member.trial.pack_key, member.step) for member in members}) > 1:
            raise BadInput("only trials of one kind that stand at the same step make a group")
        # Those of one objective side by side, so that its loss is taken of all of them at once.
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
        """Trains one epoch, or what is left of it.

        Args:
            stop: asked after every step but the last; True ends the epoch there.

        Returns:
            Whether there is nothing left of it: its end has come, or every trial has diverged.
        """
        for member in self.members:
            member.model.train()
        with self._on_its_stream():
            first, finite = self._first, torch.ones(len(self.members), dtype=torch.bool)
            order, *random = self._randomness()
            bounds = list(pairwise(accumulate(first.batch_sizes(), initial=0)))
            bounds = bounds[first.within.batches :]  # of the batches that are left
            losses = torch.zeros((len(bounds), len(self.members)), device=self._device)  # nats
            for number, (start, end) in enumerate(bounds):
                pixels = self._split.take(order[:, start:end])
                self._set_rate(first.step + number)
                losses[number] = self._step(pixels, *(part[:, start:end] for part in random))
                if self._device.type == "cpu":  # where asking costs nothing
                    finite &= losses[number].isfinite()
                if not finite.any() or (number + 1 < len(bounds) and stop()):
                    losses = losses[: number + 1]
                    break
            taken = losses.T.tolist()  # here a GPU is waited for
        for member, values in zip(self.members, taken, strict=True):
            _advance(member, values)
        return all(member.diverged or not member.within.batches for member in self.members)

    @contextmanager
    def _on_its_stream(self) -> Iterator[None]:
        """On a GPU, within it, steps are queued on a stream of their own, which graphs need."""
        if self._stream is None:
            yield
            return
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            yield

    def _randomness(self) -> list[Tensor]:
        """Order, noise and, with an augmentation, warps of each trial's epoch, (T, n, ...) each."""
        drawn = [member.randomness() for member in self.members]
        order = torch.stack([random.order for random in drawn]).to(self._split.place)
        noise = torch.stack([random.noise for random in drawn])
        warps = [random.warps for random in drawn if random.warps is not None]
        return [order, noise, *([torch.stack(warps)] if warps else [])]

    def _step(self, *batch: Tensor) -> Tensor:
        """One optimiser step of all trials; returns the mean loss (T,) of each before it, in nats.

        On a GPU it is replayed from a graph, once there is one for batches of this size.
        """
        with products(self._first.trial.precision, self._device):
            return self._graphs.run(self._compute, batch) if self._graphs else self._compute(*batch)

    def _compute(self, pixels: Tensor, noise: Tensor, warps: Tensor | None = None) -> Tensor:
        """See `_step`: (T, B, C, H, W) uint8 pixels, (T, B, L) noise, (T, B, ...) warps."""
        x = to_unit(pixels, self._first.images.levels)
        if self._augmentation and warps is not None:
            warped = self._augmentation.apply(x.flatten(0, 1), warps.flatten(0, 1))
            x = torch.unflatten(warped, 0, x.shape[:2])
        self._optimizer.zero_grad()
        losses = self._networks.backward(x, noise)
        self._optimizer.step()
        return losses

    def _make_optimizer(self) -> torch.optim.AdamW:
        """One for all weights, which goes on from the moments that they have."""
        moments, settings = self._networks.moments, adamw_settings(self._first.trial)
        if self._device.type == "cuda":  # a captured step reads its rate from a tensor
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
        for group in self._optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate


class _Graphs:
    """A step as CUDA graphs, one for each size of batch: captured once, then only replayed.

    They share the memory of what lives within a step: no two are replayed at once, and losses are
    copied out before the next.
    """

    def __init__(self) -> None:
        self._seen: Counter[int] = Counter()
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, list[Tensor], Tensor]] = {}
        self._pool = torch.cuda.graph_pool_handle()

    def run(self, step: Callable[..., Tensor], inputs: Sequence[Tensor]) -> Tensor:
        """Takes a step; the losses it returns are overwritten by the next."""
        size = inputs[0].shape[1]
        self._seen[size] += 1
        if self._seen[size] <= _UNCAPTURED:
            return step(*inputs)
        if size not in self._graphs:
            self._graphs[size] = self._capture(step, inputs)
        graph, held, losses = self._graphs[size]
        for mine, given in zip(held, inputs, strict=True):
            mine.copy_(given)
        graph.replay()
        return losses

    def _capture(
        self, step: Callable[..., Tensor], inputs: Sequence[Tensor]
    ) -> tuple[torch.cuda.CUDAGraph, list[Tensor], Tensor]:
        graph, held = torch.cuda.CUDAGraph(), [tensor.clone() for tensor in inputs]
        with torch.cuda.graph(graph, pool=self._pool, stream=torch.cuda.current_stream()):
            losses = step(*held)
        return graph, held, losses


def _advance(member: Training, losses: Sequence[float]) -> None:
    """Counts steps up to the first whose loss is not finite, and ends an epoch that is whole."""
    sizes, within = member.batch_sizes(), member.within
    for loss in losses:
        if not math.isfinite(loss):
            at = f"epoch {member.epoch + 1}, step {member.step + 1}"
            member.diverged = f"loss is {loss} at {at}"
            return
        within.loss += loss * sizes[within.batches]
        within.images += sizes[within.batches]
        within.batches += 1
        member.step += 1
    if within.batches < len(sizes):
        return
    member.epoch += 1
    member.loss, member.within = within.loss / within.images, Within()
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
    (model,) = train_pack([trial], images, device=device, on_epoch=on_epoch)
    return model


def train_pack(
    trials: Sequence[Trial],
    images: Images,
    *,
    device: str = "cpu",
    on_epoch: Callable[[Training], None] | None = None,
) -> list[nn.Module]:
    """Trains trials of one `pack_key` in lockstep, as `train` does each.

    Args:
        trials: alike but for beta, C, seed and objective.
        images, device, on_epoch: as of `train`.

    Raises:
        BadInput: the images do not suit the trials, or they are not of one kind.
        Diverged: the loss of one is no longer finite.
    """
    members = [Training(trial, images, device) for trial in trials]
    group = Pack(members)
    for _ in range(members[0].trial.epochs):
        group.run_epoch()
        for member in members:
            if member.diverged:
                raise Diverged(member.diverged)
            if on_epoch:
                on_epoch(member)
    for weight in (weight for member in members for weight in member.model.parameters()):
        weight.data = weight.data.clone()  # no longer part of what the group held
    return [member.model.eval() for member in members]
