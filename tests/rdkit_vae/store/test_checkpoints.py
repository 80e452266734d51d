import io
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from rdkit_vae import Trial, evaluate
from rdkit_vae.datasets.images import Images
from rdkit_vae.errors import BadData
from rdkit_vae.store.checkpoints import checkpoint_bytes, load_checkpoint, save_resume_file
from rdkit_vae.system.files import sha256_of
from rdkit_vae.training.state import Training
from rdkit_vae.training.steps import Pack


@pytest.fixture
def written(tiny: Images, tiny_trial: Trial, tmp_path: Path) -> tuple[Path, Training]:
    training = Training(tiny_trial, tiny)
    Pack([training]).run_epoch()
    path = tmp_path / "epoch=00001.pt"
    path.write_bytes(checkpoint_bytes(training))
    return path, training


def test_round_trip(written: tuple[Path, Training], tiny: Images) -> None:
    path, training = written
    checkpoint = load_checkpoint(path)
    assert checkpoint.trial == training.trial
    assert (checkpoint.epoch, checkpoint.step) == (1, 3)
    assert checkpoint.sha256 == sha256_of(path)
    expected = evaluate(training.model, tiny, training.trial)["test"].sse
    found = evaluate(checkpoint.model(), tiny, checkpoint.trial)["test"].sse
    assert (found == expected).all()


def test_a_checkpoint_holds_the_weights_and_a_resume_file_their_moments_too(
    written: tuple[Path, Training],
) -> None:
    path, training = written
    resume = path.with_name("resume.pt")
    save_resume_file(resume, training)
    weights = sum(weight.nbytes for weight in training.model.state_dict().values())
    assert weights < path.stat().st_size < weights + 10_000
    assert 3 * weights < resume.stat().st_size < 3 * weights + 20_000
    assert "moments" not in load_checkpoint(path).state
    restored = Training(training.trial, training.images)
    restored.restore(load_checkpoint(resume).state)
    for one in (restored, training):
        Pack([one]).run_epoch()
    again = [
        save_resume_file(path.with_name(f"{i}.pt"), t) for i, t in enumerate((restored, training))
    ]
    assert again[0] == again[1]


@pytest.mark.parametrize("damage", ["missing", "empty", "text", "cut", "folder", "zip", "flipped"])
def test_what_is_no_checkpoint_is_named(written: tuple[Path, Training], damage: str) -> None:
    path, _ = written
    content = bytearray(path.read_bytes())
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("notes.txt", "hello")
    elif damage != "missing":
        content[len(content) // 2] ^= 0xFF
        changed = {"empty": b"", "text": b"weights", "cut": content[:3000], "flipped": content}
        path.write_bytes(changed[damage])
    with pytest.raises(BadData, match=r"epoch=00001\.pt") as refused:
        load_checkpoint(path)
    assert "\n" not in str(refused.value)


def _rewrite(path: Path, **changes: Any) -> None:
    content = torch.load(path, weights_only=True)
    torch.save({**content, **changes}, path)


def test_weights_of_another_shape_are_refused(written: tuple[Path, Training]) -> None:
    path, training = written
    weights = training.model.state_dict()
    name = next(iter(weights))
    _rewrite(path, model={**weights, name: torch.zeros(1, 1)})
    with pytest.raises(BadData, match=rf"{name} is float32 \(1, 1\)"):
        load_checkpoint(path)
    _rewrite(path, model={"w": torch.zeros(1)})
    with pytest.raises(BadData, match="not hold the weights of mlp"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "content", [{"state_dict": {}, "pytorch-lightning_version": "2"}, torch.zeros(3), [1, 2]]
)
def test_files_of_other_programs_are_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(BadData, match="not a checkpoint of rdvae"):
        load_checkpoint(tmp_path / "x.pt")


@pytest.mark.parametrize(
    "changes", [{"epoch": None}, {"step": "x"}, {"shape": [1, -6, 6]}, {"shape": 5}, {"model": 3}]
)
def test_odd_contents_are_refused(written: tuple[Path, Training], changes: dict[str, Any]) -> None:
    path, _ = written
    _rewrite(path, **changes)
    with pytest.raises(BadData, match="damaged checkpoint"):
        load_checkpoint(path)


def test_a_newer_version_asks_to_upgrade(written: tuple[Path, Training]) -> None:
    path, _ = written
    _rewrite(path, version=99)
    with pytest.raises(BadData, match="upgrade"):
        load_checkpoint(path)


class _Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch $RDVAE_TEST_MARK",)


def test_a_malicious_pickle_is_refused_and_never_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "ran"
    monkeypatch.setenv("RDVAE_TEST_MARK", str(mark))
    buffer = io.BytesIO()
    torch.save({"format": "rdvae-checkpoint", "trial": _Payload()}, buffer)
    (tmp_path / "x.pt").write_bytes(buffer.getvalue())
    with pytest.raises(BadData, match=r"x\.pt: not a checkpoint"):
        load_checkpoint(tmp_path / "x.pt")
    assert not mark.exists()
    torch.load(tmp_path / "x.pt", weights_only=False)
    assert mark.exists()  # it was armed


def test_a_whole_pickled_module_is_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "x.pt")
    with pytest.raises(BadData, match="not a checkpoint"):
        load_checkpoint(tmp_path / "x.pt")
