"""examples/small_batch.py, of a tiny budget."""

import json
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import fusednorm
from examples import small_batch
from examples.batch_size import trial as trials
from examples.batch_size.norms import NORMS, SHARED, build
from examples.batch_size.plot import plot
from examples.batch_size.results import BEGIN, END, Results, mean_and_deviation, table, write_between_markers
from examples.batch_size.trial import Budget, Trial, run, training_crops
from fusednorm.demo.data import load_task

TINY = Budget(samples=64, test_crops_per_class=2, averaged=32)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small_batch, "QUICK", TINY)


def invoke(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(small_batch.app, ["--quick", "--jobs", "1", *map(str, arguments)])
    return result.exit_code, result.output


@pytest.mark.parametrize("norm", NORMS)
def test_networks(norm: str) -> None:
    """All start from the same convolutions, and hold the norm where its paper puts it."""
    network, plain = build(norm, 10, seed=3), dict(build("BN", 10, seed=3).named_parameters())
    shared = [name for name, _ in network.named_parameters() if name.rpartition(".")[0].endswith(SHARED)]
    assert len(shared) == 11
    for name in shared:
        assert torch.equal(network.get_parameter(name), plain[name]), name
    kinds = [type(m) for m in network.modules() if "Norm" in type(m).__name__]
    expected = {
        "BN": {fusednorm.BatchNorm2d: 9},
        "GN": {fusednorm.GroupNorm: 9},
        "SN": {fusednorm.SwitchableNorm2d: 9},
        "AN": {fusednorm.BatchNorm2d: 6, fusednorm.AttentiveBatchNorm2d: 3, fusednorm.BatchNorm1d: 3},
        "RBN": {fusednorm.RepresentativeBatchNorm2d: 9},
    }
    assert {kind: kinds.count(kind) for kind in kinds} == expected[norm]


def test_every_batch_size_sees_the_same_crops() -> None:
    task = load_task()
    crops, labels = training_crops(task, 1, 24, 32)
    fewer, fewer_labels = training_crops(task, 1, 16, 32)
    assert crops.shape == (24, 1, 32, 32)
    assert torch.equal(crops[:16], fewer)
    assert torch.equal(labels[:16], fewer_labels)
    assert not torch.equal(labels, training_crops(task, 2, 24, 32)[1])
    assert labels.bincount().numel() == 10


@pytest.mark.parametrize("norm", NORMS)
def test_a_trial_is_a_function_of_its_arguments(norm: str) -> None:
    threads = torch.get_num_threads()
    first = run(Trial(norm, 8, 0), TINY)
    torch.manual_seed(5)
    assert run(Trial(norm, 8, 0), TINY) == first
    assert 0 <= first <= 1
    assert torch.get_num_threads() == threads


def test_rate_steps_and_average(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rate is linear in the batch size, the number of crops the same, SN averages batches of its size."""
    rates: list[float] = []
    step = torch.optim.SGD.step

    def watched(self: torch.optim.SGD) -> None:
        rates.append(self.param_groups[0]["lr"])
        step(self)

    monkeypatch.setattr(torch.optim.SGD, "step", watched)
    task = load_task()
    for batch in (4, 16):
        rates.clear()
        network = build("SN", 10, 0)
        trials.train(network, task, Trial("SN", batch, 0), replace(TINY, rate=0.02, warmup=0.0))
        assert len(rates) == 64 // batch
        assert rates[0] == pytest.approx(0.02 * batch / 32)
        assert network.stem_norm.num_batches_tracked == 32 // batch
    trials.train(network, task, Trial("SN", 16, 0), replace(TINY, averaged=8))
    assert network.stem_norm.num_batches_tracked == 1


def test_it_learns() -> None:
    assert run(Trial("BN", 8, 0), Budget(samples=800, test_crops_per_class=10)) > 0.25  # chance is 0.1


@pytest.mark.usefixtures("tiny")
def test_from_end_to_end(tmp_path: Path) -> None:
    page = tmp_path / "docs" / "page.md"
    page.parent.mkdir()
    page.write_text(f"# Small\n\n{BEGIN}\nold\n{END}\n\nThe end.\n")
    out = tmp_path / "out"
    code, output = invoke("--seeds", 2, "--batches", "4,8,4", "--norms", "BN,SN,BN", "--out", out, "--docs", page)
    assert code == 0, output
    stored = json.loads((out / "results.json").read_text())
    assert stored["budget"] == TINY.as_dict()
    assert len(stored["trials"]) == 8
    rows = (out / "table.md").read_text().splitlines()
    assert rows[:2] == ["| samples per batch | 4 | 8 |", "|---|---|---|"]
    assert [row.split(" | ")[0] for row in rows[2:]] == ["| BN", "| SN"]
    found = [100 * t["accuracy"] for t in stored["trials"] if (t["norm"], t["batch"]) == ("SN", 8)]
    assert rows[3].endswith(f"{statistics.mean(found):.1f} ± {statistics.stdev(found):.1f} |")
    text = page.read_text()
    assert "old" not in text
    assert "\n".join(rows) in text
    assert text.endswith("The end.\n")
    for picture in (out / "small_batch.png", page.parent / "pictures" / "small_batch.png"):
        assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("tiny")
def test_finished_trainings_are_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[Trial] = []

    def counted(trial: Trial, budget: Budget) -> float:
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(trial)
        return 0.25

    with monkeypatch.context() as patch:
        patch.setattr(small_batch, "run", counted)
        invoke("--seeds", 1, "--batches", "8,16", "--norms", "BN,GN", "--out", tmp_path)
    stored = json.loads((tmp_path / "results.json").read_text())["trials"]
    assert [t["accuracy"] for t in stored] == [0.25] * 3
    with monkeypatch.context() as patch:
        patch.setattr(small_batch, "run", lambda trial, budget: done.append(trial) or 0.5)
        code, output = invoke("--seeds", 1, "--batches", "8,16", "--norms", "BN,GN", "--out", tmp_path)
    assert code == 0, output
    assert len(done) == len(set(done)) == 4


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
def test_two_at_a_time_are_the_same(tmp_path: Path) -> None:
    arguments = ["--quick", "--seeds", "1", "--batches", "8", "--norms", "BN,GN"]
    budget = ["--samples", "64"]
    for jobs in ("1", "2"):
        out = str(tmp_path / jobs)
        result = CliRunner().invoke(small_batch.app, [*arguments, *budget, "--jobs", jobs, "--out", out])
        assert result.exit_code == 0, result.output
    assert (tmp_path / "1" / "results.json").read_text() == (tmp_path / "2" / "results.json").read_text()


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--norms", "BN,LN"], "norms: expected some of BN, GN, SN, AN, RBN, got 'LN'"),
        (["--batches", "1,2"], "batches: expected at least 2 samples"),
        (["--batches", "two"], "batches: expected numbers"),
        (["--batches", "2,128"], "batches: expected at most the 64 samples of a training, got 128"),
    ],
)
def test_bad_options(tmp_path: Path, arguments: list[str], message: str) -> None:
    code, output = invoke(*arguments, "--out", tmp_path)
    assert code == 1
    assert message in output


def test_results_of_another_budget_are_refused(tmp_path: Path) -> None:
    Results(tmp_path / "results.json", TINY).add(Trial("BN", 2, 0), 0.5)
    with pytest.raises(ValueError, match=r"samples: expected 64, as in .*results\.json, got 128"):
        Results(tmp_path / "results.json", replace(TINY, samples=128))


def test_a_page_without_markers_is_refused(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(f"{BEGIN} only")
    with pytest.raises(ValueError, match="docs: expected the lines"):
        write_between_markers(tmp_path / "page.md", "")


def test_plot_and_table_of_unfinished_results(tmp_path: Path) -> None:
    results = Results(tmp_path / "results.json", TINY)
    for seed, accuracy in enumerate((0.5, 0.6, 0.7)):
        results.add(Trial("BN", 2, seed), accuracy)
    results.add(Trial("RBN", 8, 0), 0.25)
    assert table(results, ["BN", "RBN"], [2, 8]).splitlines()[2:] == [
        "| BN | 60.0 ± 10.0 |  |",
        "| RBN |  | 25.0 ± 0.0 |",
    ]
    assert mean_and_deviation([1.0, 3.0]) == (2.0, pytest.approx(2**0.5))
    (axes,) = plot(results, ["BN", "RBN"], [2, 8]).axes
    assert axes.get_xlabel() == "samples per batch"
    assert axes.get_xscale() == "log"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["BN", "RBN"]
    assert [float(container.lines[0].get_ydata()[0]) for container in axes.containers] == pytest.approx([60.0, 25.0])


def test_the_page_in_docs_has_its_markers() -> None:
    text = (Path(__file__).parents[2] / "docs" / "small_batch.md").read_text()
    assert text.index(BEGIN) < text.index(END)


def test_the_table_is_of_what_was_asked_for(tmp_path: Path) -> None:
    """The file may hold more seeds, of some batch sizes even."""
    results = Results(tmp_path / "results.json", TINY)
    for seed in range(3):
        results.add(Trial("BN", 2, seed), 0.1 * (seed + 1))
    asked = results.among([Trial("BN", 2, 0), Trial("BN", 2, 1), Trial("BN", 4, 0)])
    assert table(asked, ["BN"], [2]).splitlines()[-1] == "| BN | 15.0 ± 7.1 |"
    assert "of 2 seeds" in plot(asked, ["BN"], [2]).axes[0].get_ylabel()
    assert len(results.of("BN", 2)) == 3
