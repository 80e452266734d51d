"""One table of any number of sweeps."""

from pathlib import Path

import pandas as pd

from rdvae_analysis.load import load_results

from ..conftest import Run


def _sorted(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.sort_values(["run_id", "epoch", "split", "sigma"]).reset_index(drop=True)


def test_the_exported_rows_are_those_of_the_sweeps(
    sweep_folder: Path, main: Run, tmp_path: Path
) -> None:
    out = tmp_path / "all.parquet"
    done = main("export", sweep_folder, "--out", out, "--out", tmp_path / "all.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    expected = _sorted(load_results(sweep_folder))
    pd.testing.assert_frame_equal(_sorted(load_results(out)), expected, check_exact=True)
    # Other programs find the same numbers, and the unit of each column.
    plain = _sorted(pd.read_parquet(out)[list(expected)])
    pd.testing.assert_frame_equal(plain, expected, check_dtype=False, check_exact=True)
    text = _sorted(pd.read_csv(tmp_path / "all.csv"))
    pd.testing.assert_series_equal(text["elbo"], expected["elbo"], rtol=1e-15)


def test_rows_of_two_folders_are_written_once(
    sweep_folder: Path, main: Run, tmp_path: Path
) -> None:
    folders = (sweep_folder, sweep_folder / "results", sweep_folder)
    done = main("export", *folders, "--out", tmp_path / "all.parquet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(pd.read_parquet(tmp_path / "all.parquet")) == len(load_results(sweep_folder))


def test_an_exported_file_is_drawn_and_tabulated(
    sweep_folder: Path, main: Run, tmp_path: Path
) -> None:
    (tmp_path / "shared").mkdir()
    file = tmp_path / "shared" / "all.parquet"
    assert main("export", sweep_folder, "--out", file, cwd=tmp_path).returncode == 0
    shown = {
        path: main("table", path, cwd=tmp_path).stdout for path in (sweep_folder, file.parent, file)
    }
    assert len(set(shown.values())) == 1
    assert main("plot-rd", file, "--out", tmp_path / "rd.png", cwd=tmp_path).returncode == 0


def test_what_cannot_be_exported_is_one_line(main: Run, sweep_folder: Path, tmp_path: Path) -> None:
    for words, code, reason in (
        ((sweep_folder, "--out", "all.xlsx"), 2, ".parquet, .csv"),
        ((tmp_path / "none", "--out", "all.csv"), 4, "no such file or folder"),
        ((tmp_path, "--out", "all.csv"), 4, "no results of rdvae below it"),
    ):
        done = main("export", *words, cwd=tmp_path)
        assert (done.returncode, done.stderr.count("\n")) == (code, 1)
        assert reason in done.stderr
    assert not list(tmp_path.iterdir())
