"""Scores models that rdvae did not train, beside the example sweep: a table and a figure.

    python benchmarks/zoo.py [--zoo DIR --data-dir DIR] [--out runs/zoo] [--figure FILE.png]

Trains three models on the digits with code that is not rdvae's: a plain PyTorch loop, a `BetaVAE`
of pythae and an `AutoencoderKL` of diffusers (those whose library is installed), each for a known
weight of the KL; saves the latter two with their library and scores them by the adapter. With
--zoo, also scores the models of disentangling-vae in the subfolders of DIR, on MNIST from
--data-dir.

Prints for each the library, the rate, the ELBO under `half` and `shared` on the test split, the
weight of the KL that was read back beside the true one, and the seconds it took. --figure draws the
three beside `runs/example`. Takes a minute or two without --zoo.
"""

import argparse
import importlib
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

import rdkit_vae as rdv
import rdvae_analysis as rda

_BATCH = 128
# Of the loss sse + beta KL, for pixels in [0, 1].
_BETAS = {"plain": 0.1, "pythae": 0.02, "diffusers": 0.4}
_SHOWN = ["model", "library", "rate", "half", "shared", "implied", "true", "seconds"]


class Plain(nn.Module):
    """What people write: two layers each way."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 128), nn.SiLU(), nn.Linear(128, 16)
        )
        self.decoder = nn.Sequential(nn.Linear(8, 128), nn.SiLU(), nn.Linear(128, 64))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance, (B, 8) each."""
        mean, log_var = self.encoder(x).chunk(2, dim=1)
        return mean, log_var

    def decode(self, z: Tensor) -> Tensor:
        """(B, 1, 8, 8)."""
        decoded: Tensor = self.decoder(z)
        return decoded.view(-1, 1, 8, 8)


def train(model: nn.Module, loss_of: Any, x: Tensor, rate: float, epochs: int = 400) -> None:
    """Minimises the mean over images of `loss_of(batch)`, which returns a mean over the batch."""
    torch.manual_seed(0)
    optimiser = torch.optim.Adam(model.parameters(), rate)
    steps = epochs * -(-len(x) // _BATCH)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    model.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(_BATCH):
            loss = loss_of(x[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            decay.step()
    model.eval()


def kl_of(mean: Tensor, log_var: Tensor) -> Tensor:
    """Sum over the latents, mean over the batch."""
    return (mean.square() + log_var.exp() - log_var - 1).flatten(1).sum(1).mean() / 2


def plain(x: Tensor, folder: Path) -> tuple[Any, dict[str, Any]]:
    """A model of a plain training loop: sse + beta KL, so C = 1/2."""
    torch.manual_seed(0)
    model = Plain()

    def loss(batch: Tensor) -> Tensor:
        mean, log_var = model.encode(batch)
        z = mean + (log_var / 2).exp() * torch.randn_like(mean)
        return (model.decode(z) - batch).square().flatten(1).sum(1).mean() + _BETAS[
            "plain"
        ] * kl_of(mean, log_var)

    train(model, loss, x, 3e-3)
    return model, {"beta": _BETAS["plain"], "train_sigma2": 0.5, "reconstruction": "sse"}


def pythae(x: Tensor, folder: Path) -> tuple[Any, dict[str, Any]]:
    """A BetaVAE of pythae, whose loss is sse/2 + beta KL; saved and read by the adapter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        library: Any = importlib.import_module("pythae.models")
    torch.manual_seed(0)
    config = library.BetaVAEConfig(input_dim=(1, 8, 8), latent_dim=8, beta=_BETAS["pythae"] / 2)
    model = library.BetaVAE(config)
    train(model, lambda batch: model({"data": batch}).loss, x, 1e-3)
    model.save(str(folder))
    return rdv.load_model("pythae", folder), {}


def diffusers(x: Tensor, folder: Path) -> tuple[Any, dict[str, Any]]:
    """An AutoencoderKL of diffusers, for pixels y in [-1, 1] with sse(y)/4 + beta KL."""
    library: Any = importlib.import_module("diffusers")
    torch.manual_seed(0)
    model = library.AutoencoderKL(
        in_channels=1,
        out_channels=1,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16),
        layers_per_block=1,
        latent_channels=2,
        norm_num_groups=8,
        mid_block_add_attention=False,
    )

    def loss(batch: Tensor) -> Tensor:
        own = 2 * batch - 1
        posterior = model.encode(own).latent_dist
        error = (model.decode(posterior.sample()).sample - own).square().flatten(1).sum(1).mean()
        kl: Tensor = posterior.kl().mean()
        return error / 4 + _BETAS["diffusers"] * kl

    train(model, loss, x, 3e-3, epochs=60)
    model.save_pretrained(folder)
    known = {"beta": _BETAS["diffusers"], "train_sigma2": 0.5, "reconstruction": "sse"}
    return rdv.load_model("diffusers", folder), known


def scored(
    model: Any, images: rdv.Images, name: str, out: Path, facts: dict[str, Any]
) -> dict[str, Any]:
    """Adds a model to the folder; what the table shows of it."""
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about latents, which the table shows
        rows = rdv.add_model(model, images, name=name, out=out, **facts)
    seconds = time.perf_counter() - start
    test = rows[rows["split"] == "test"].set_index("sigma")
    first = test.iloc[0]
    se = first["implied_beta_se"]
    return {
        "model": name,
        "library": getattr(model, "library", "") or first["architecture"],
        "rate": first["rate"],
        "half": test.loc["half", "elbo"],
        "shared": test.loc["shared", "elbo"],
        "implied": f"{first['implied_beta']:.4g} (se {se:.2g})",
        "true": f"{first['beta']:g}",
        "seconds": seconds,
    }


def main() -> None:
    """Trains, scores, prints and draws."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--zoo", type=Path, help="folder of models of disentangling-vae")
    parser.add_argument("--data-dir", help="folder of MNIST, for --zoo")
    parser.add_argument("--out", type=Path, default=Path("runs/zoo"))
    parser.add_argument("--figure", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    images = rdv.load_dataset("digits")
    x = torch.from_numpy(images.train).float() / (images.levels - 1)
    makers = {"plain": plain, "pythae": pythae, "diffusers": diffusers}
    table = []
    for name, make in makers.items():
        with tempfile.TemporaryDirectory() as folder:
            try:
                model, facts = make(x, Path(folder))
            except ModuleNotFoundError as error:
                print(f"{name}: left out, there is no {error.name}")
                continue
            table.append(scored(model, images, f"{name} VAE", args.out / "digits", facts))
    for path in sorted(args.zoo.glob("*/model.pt")) if args.zoo else ():
        mnist = rdv.load_dataset("mnist", data_dir=args.data_dir)
        model = rdv.load_model("disentangling-vae", path)
        table.append(scored(model, mnist, path.parent.name, args.out / "mnist", {"draws": 1}))
    print(pd.DataFrame(table)[_SHOWN].to_string(index=False, float_format="{:.2f}".format))
    if args.figure:
        example = rdv.load_results("runs/example")
        ours = rdv.load_results(args.out / "digits")
        figure = rda.plot_rd(pd.concat([example, ours], ignore_index=True))
        figure.savefig(args.figure)
        print(f"drew {args.figure}")


if __name__ == "__main__":
    main()
