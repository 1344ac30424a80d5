"""How norms bear small batches: SN's Figure 1b in small, on textures of real photographs.

    python -m examples.small_batch --seeds 5 --out runs/small_batch

Every training is stored when it ends; run again, the same command goes on with the rest.
"""

# No `from __future__ import annotations`: typer evaluates annotations.

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from examples.batch_size.norms import NORMS
from examples.batch_size.results import Results, table, write_between_markers
from examples.batch_size.trial import QUICK, Budget, Trial, run

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each norm at each batch size.")] = 5,
    samples: Annotated[int | None, typer.Option(min=64, help="Crops that a training sees.")] = None,
    norms: Annotated[str, typer.Option(help="Which, with commas between.")] = ",".join(NORMS),
    batches: Annotated[str, typer.Option(help="Samples per batch, with commas between.")] = "2,4,8,16,32",
    quick: Annotated[bool, typer.Option("--quick", help="A tenth of the crops: shows that it runs.")] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Trainings at a time, of one thread each.")] = os.cpu_count() or 1,
    out: Annotated[Path, typer.Option(help="Folder of results.json, table.md and the picture.")] = Path(
        "runs/small_batch"
    ),
    docs: Annotated[Path | None, typer.Option(help="Page to write the table into, the picture beside it.")] = None,
) -> None:
    """Accuracy of BN, GN, SN, AN and RBN at 2 to 32 samples per batch, all of which see the same crops."""
    console = Console()
    try:
        budget = QUICK if quick else Budget()
        budget = replace(budget, samples=samples or budget.samples)
        chosen, sizes = _norms(norms), _batches(batches, budget.samples)
        results = Results(out / "results.json", budget)
        wanted = [Trial(n, b, s) for s in range(seeds) for b in sizes for n in chosen]
        _complete(results, [trial for trial in wanted if trial not in results.accuracies], jobs, console)
        _show(results.among(wanted), chosen, sizes, out, docs, console)
    except ValueError as error:
        console.print(f"[red]{escape(str(error))}")
        raise typer.Exit(1) from None


def _complete(results: Results, trials: list[Trial], jobs: int, console: Console) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("trainings", total=len(trials))
        for trial, accuracy in _run(trials, results.budget, jobs):
            results.add(trial, accuracy)
            progress.update(bar, advance=1, description=f"{trial.norm} at {trial.batch}: {100 * accuracy:.1f} %")


def _run(trials: list[Trial], budget: Budget, jobs: int) -> Iterator[tuple[Trial, float]]:
    """As they end."""
    if jobs == 1 or len(trials) < 2:
        yield from ((trial, run(trial, budget)) for trial in trials)
        return
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        futures = {pool.submit(run, trial, budget): trial for trial in trials}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _show(
    results: Results, norms: list[str], batches: list[int], out: Path, docs: Path | None, console: Console
) -> None:
    from examples.batch_size.plot import plot

    text = table(results, norms, batches)
    console.print(text, markup=False, highlight=False)
    (out / "table.md").write_text(text + "\n")
    figure = plot(results, norms, batches)
    figure.savefig(out / "small_batch.png", dpi=120)
    if docs is not None:
        write_between_markers(docs, text)
        pictures = docs.parent / "pictures"
        pictures.mkdir(exist_ok=True)
        figure.savefig(pictures / "small_batch.png", dpi=120)


def _norms(text: str) -> list[str]:
    names = list(dict.fromkeys(text.split(",")))
    for name in names:
        if name not in NORMS:
            raise ValueError(f"norms: expected some of {', '.join(NORMS)}, got {name!r}")
    return names


def _batches(text: str, samples: int) -> list[int]:
    try:
        sizes = list(dict.fromkeys(int(word) for word in text.split(",")))
    except ValueError:
        raise ValueError(f"batches: expected numbers with commas between, got {text!r}") from None
    if min(sizes) < 2:
        raise ValueError(f"batches: expected at least 2 samples, for BN has no statistics of one, got {min(sizes)}")
    if max(sizes) > samples:
        raise ValueError(f"batches: expected at most the {samples} samples of a training, got {max(sizes)}")
    return sizes


if __name__ == "__main__":
    app()
