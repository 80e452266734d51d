"""What the README and the docs say is run as it stands there."""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import matplotlib as mpl
import pytest

from rdkit_vae import cli
from rdkit_vae.scoring.interpretations import described

Run = Callable[..., subprocess.CompletedProcess[str]]
ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
MOST_LINES = 200  # of the README
MOST_LINES_OF_PYTHON = 10  # in it


@dataclass(frozen=True, kw_only=True)
class Block:
    """A block of code on a page; `number` counts the blocks of its page."""

    page: Path
    number: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.stem}-{self.number}"

    @property
    def module(self) -> str | None:
        """The file that a block of Python is the content of, which its first line names."""
        named = re.match(r"# (\w+\.py)\n", self.text)
        return named[1] if named else None


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A command on a page, and the output shown below it."""

    block: Block
    arguments: str
    output: str

    def __str__(self) -> str:
        return f"{self.block.page.stem}-{self.arguments.split()[0]}"


def _blocks() -> Iterator[Block]:
    for page in PAGES:
        found = re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S)
        for number, (language, text) in enumerate(found):
            yield Block(page=page, number=number, language=language, text=text)


def _shown(block: Block) -> Iterator[Shown]:
    for arguments, output in re.findall(r"^\$ rdvae (.*)\n((?:(?!\$ ).*\n)*)", block.text, re.M):
        yield Shown(block=block, arguments=arguments, output=output)


BLOCKS = list(_blocks())
PYTHON = [block for block in BLOCKS if block.language == "python"]
SHOWN = [shown for block in BLOCKS if block.language == "console" for shown in _shown(block)]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The example sweep where the pages expect it."""
    shutil.copytree(ROOT / "runs" / "example", tmp_path / "runs" / "example")
    (tmp_path / "figures").mkdir()
    return tmp_path


@pytest.fixture
def importable(clone: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A clone whose modules can be imported, here and in worker processes, while a test runs."""
    known = set(sys.modules)
    monkeypatch.chdir(clone)
    monkeypatch.syspath_prepend(str(clone))
    yield clone
    for name, module in list(sys.modules.items()):
        if name not in known and str(getattr(module, "__file__", "")).startswith(str(clone)):
            del sys.modules[name]


@pytest.mark.parametrize("block", [block for block in PYTHON if not block.module], ids=str)
def test_python_runs(block: Block, importable: Path) -> None:
    mpl.use("agg")
    for other in PYTHON:
        if other.page == block.page and other.module:
            (importable / other.module).write_text(other.text, "utf-8")
    exec(compile(block.text, str(block.page), "exec"), {})


def test_python_in_the_readme_takes_ten_lines() -> None:
    (block,) = (block for block in PYTHON if block.page == README)
    assert len([line for line in block.text.splitlines() if line]) <= MOST_LINES_OF_PYTHON


def _is_as_shown(output: str, shown: str) -> bool:
    """Whether an output is the one shown, in which a line of three dots stands for any lines."""
    parts = [" ".join(part.split()) for part in re.split(r"^\.\.\.$", shown, flags=re.M)]
    pattern = ".*".join(map(re.escape, parts))
    return re.fullmatch(pattern, " ".join(output.split()), re.S) is not None


@pytest.mark.parametrize(
    "shown", [one for one in SHOWN if not one.arguments.startswith("sweep ")], ids=str
)
def test_commands_print_what_is_shown(shown: Shown, rdvae: Run, clone: Path) -> None:
    done = rdvae(*shlex.split(shown.arguments), cwd=clone)
    assert done.returncode == 0, done.stderr
    assert _is_as_shown(done.stdout, shown.output)


@pytest.mark.parametrize(
    "shown", [one for one in SHOWN if one.arguments.startswith("sweep ")], ids=str
)
def test_the_sweep_that_is_shown_is_the_example(shown: Shown, rdvae: Run, clone: Path) -> None:
    """The same command on the example's folder finds all of it done, and prints the same table."""
    done = rdvae(*shlex.split(shown.arguments), "--out", "runs/example", cwd=clone)
    assert done.returncode == 0, done.stderr
    assert "16 of 16 done, 0 left" in done.stdout
    begin, end = "ELBO in nats", "\nDraw it"  # what comes before says how fast it was trained
    table = shown.output[shown.output.index(begin) : shown.output.index(end)]
    assert table.count("\n") > 5
    assert _is_as_shown(done.stdout[done.stdout.index(begin) :].partition(end)[0], table)


def test_the_output_of_every_kind_of_command_is_shown_somewhere() -> None:
    commands = {shown.arguments.split()[0] for shown in SHOWN}
    assert commands >= {"sweep", "plot-rd", "rescore", "describe", "decode-loss"}


def _commands_of(page: Path) -> Iterator[list[str]]:
    """Every command on a page, in blocks and within text, by its words."""
    blocks = [block.text for block in BLOCKS if block.page == page]
    joined = "\n".join(blocks).replace("\\\n", " ")
    in_blocks = re.findall(r"^(?:\$ |PYTHONPATH=\. )?rdvae ([a-z].*)$", joined, re.M)
    in_text = re.findall(r"`rdvae\s+([^`]+)`", page.read_text("utf-8"))
    for command in [*in_blocks, *in_text]:
        yield command.partition(" # ")[0].split()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_and_their_options_exist(page: Path) -> None:
    context = click.Context(cli.cli)
    for name, *words in _commands_of(page):
        command = cli.cli.get_command(context, name)
        assert command is not None, name
        if isinstance(command, click.Group) and words[0].islower():
            command = command.get_command(context, words[0])
            assert command is not None, words[0]
        if isinstance(command, click.Group):
            continue  # a NAME stands for any of its commands
        options = {opt for param in command.params for opt in (*param.opts, *param.secondary_opts)}
        used = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert used <= options | {"--help"}, name


def test_every_interpretation_is_in_the_table() -> None:
    text = (ROOT / "docs" / "interpretations.md").read_text("utf-8")
    for name in described():
        assert f"| `{name}` |" in text


def test_the_readme_is_short_and_begins_with_what_rdvae_is() -> None:
    lines = README.read_text("utf-8").splitlines()
    assert len(lines) <= MOST_LINES
    first = next(line for line in lines[1:] if line)
    assert "nothing to do with molecules or RDKit" in first


def _anchors(page: Path) -> set[str]:
    """What a heading of a page is linked by."""
    titles = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_and_pictures_exist(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.M | re.S)
    links = re.findall(r"\]\(([^)]+)\)", text)
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target), link


def test_the_readme_links_every_page_of_the_docs() -> None:
    linked = set(re.findall(r"\]\((docs/[\w.-]+\.md)", README.read_text("utf-8")))
    assert linked == {page.relative_to(ROOT).as_posix() for page in PAGES if page != README}


def test_the_example_is_small_and_whole(rdvae: Run, clone: Path) -> None:
    size = sum(path.stat().st_size for path in clone.rglob("*") if path.is_file())
    assert size < 3e6
    assert "16 of 16 done, 0 running, 0 failed, 0 left" in rdvae("status", clone / "runs").stdout


def _planned(target: str) -> str:
    """What make would run for a target on a fresh machine."""
    command = ["make", "--dry-run", "--always-make", target]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(not shutil.which("make"), reason="there is no make")
def test_the_demo_ends_with_how_to_use_rdvae_from_there() -> None:
    """And it has installed all that the commands of the README need, visibly."""
    planned = _planned("demo")
    assert "'.[report]'" in planned
    assert "--quiet" not in planned
    installed, ran = planned.index("pip install"), planned.index("plot-rd")
    assert "minutes" in planned[:installed]
    for words in ("source .venv/bin/activate", ".venv/bin/rdvae"):
        assert words in planned[ran:]
        assert words in README.read_text("utf-8").partition("## The three commands")[0]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a clone")
def test_what_the_commands_write_is_ignored_by_git() -> None:
    text = "\n".join(page.read_text("utf-8").replace("\\\n", " ") for page in PAGES)
    shown = re.findall(r"^(?:\$ |PYTHONPATH=\. )?rdvae .*?--out (\S+)", text, re.M)
    written = {name for name in shown if "://" not in name}
    written |= {"report.html", "figures/rd.png", "figures/consistency-spread.csv"}
    assert {"concept.pdf", "table1.tex", "all.parquet", "all.csv"} <= written
    files = {f"{name}/sweep.json" if name.startswith("runs/") else name for name in written}
    command = ["git", "check-ignore", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert set(done.stdout.split()) == files
