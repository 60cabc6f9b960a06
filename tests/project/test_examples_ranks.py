"""The examples of several processes run by the commands that the page on ranks gives."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.processes import mpiexec, run_program, run_ranks

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "ranks"
pytest.importorskip("sklearn")


@pytest.fixture(autouse=True)
def examples(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setenv("DLCORE_NUM_THREADS", "1")


def accuracy_of(shown):
    return float(re.search(r"test accuracy (\S+) %", shown).group(1))


def result_of(shown):
    (line,) = re.findall(r"^\d ranks, (test accuracy .*)$", shown, re.MULTILINE)
    return line


def test_two_ranks_have_the_bits_of_one_process():
    alone = result_of(run_program(sys.executable, EXAMPLES / "train.py"))
    assert alone.startswith("test accuracy 9")
    assert result_of(run_ranks(2, EXAMPLES / "train.py")) == alone


def test_ranks_that_average_their_weights_learn_the_digits():
    shown = run_ranks(2, EXAMPLES / "train.py", "--average-every", 8)
    assert accuracy_of(shown) > 93


def test_ranks_with_rows_of_their_own_make_the_same_updates():
    shown = run_ranks(2, EXAMPLES / "sharded.py")
    checksums = re.search(r"checksums of the weights (\w+) (\w+)$", shown)
    assert len(set(checksums.groups())) == 1
    assert accuracy_of(shown) > 88


def test_slurm_is_given_a_program_that_runs(tmp_path):
    """In the place of srun stands what starts as many ranks on this machine."""
    script = EXAMPLES / "slurm.sh"
    run_program("bash", "-n", script)
    programs = {
        "srun": f'while [[ $1 == --* ]]; do echo "srun $1"; shift; done; "{mpiexec()}" -n 2 "$@"',
        "python": f'"{sys.executable}" "$@"',
    }
    for name, line in programs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{line}\n")
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    shown = run_program(
        "bash", script, "--epochs", 2, PATH=path, SLURM_CPUS_PER_TASK="1"
    ).splitlines()
    assert shown[:2] == ["srun --mpi=pmi2", "srun --cpus-per-task=1"]
    assert [line for line in shown if line.startswith("2 ranks, test accuracy ")]


@pytest.fixture(scope="module")
def searched():
    """What the search finds in one process."""
    return run_program(sys.executable, EXAMPLES / "search.py")


def test_dask_searches_on_its_workers(searched):
    pytest.importorskip("distributed")
    shown = run_program(sys.executable, EXAMPLES / "dask_search.py")
    assert shown == f"2 workers\n{searched}"


def test_ray_searches_on_its_workers(searched, tmp_path):
    pytest.importorskip("ray")
    own = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "HOME": str(tmp_path)}
    shown = run_program(sys.executable, EXAMPLES / "ray_search.py", **own)
    assert shown == f"2 processors\n{searched}"


def test_blocks_of_dask_are_learnt_and_predicted():
    pytest.importorskip("dask_ml")
    shown = run_program(sys.executable, EXAMPLES / "dask_blocks.py")
    assert shown.startswith("2 blocks of 3000 rows predicted, ")
    assert accuracy_of(shown) > 90


@pytest.mark.parametrize("options", [(), ("--sharded",)])
def test_a_file_takes_no_memory(options, tmp_path):
    arguments = "--gigabytes", 1, "--folder", tmp_path, *options
    shown = run_ranks(2, EXAMPLES / "memory_map.py", *arguments)
    assert shown.startswith("1.0 GB, 30517 rows, 2 ranks, ")
    peaks = re.findall(r"^rank \d: (\d+) MB before the fit, (\d+) MB at most", shown, re.MULTILINE)
    assert len(peaks) == 2
    for before, after in peaks:
        assert int(after) - int(before) < 100


def test_what_the_model_needs_is_measured(tmp_path):
    measured = tmp_path / "measured.json"
    measured.write_text(run_ranks(2, EXAMPLES / "measure.py", "--seconds", 0.05))
    shown = run_program(sys.executable, EXAMPLES / "cost.py", measured)
    assert json.loads(measured.read_text())["bandwidth"] > 0
    assert shown.count("| `784-1024-1024-10 batch 512` |") == 7
    alone = subprocess.run(
        [sys.executable, EXAMPLES / "measure.py"], capture_output=True, text=True, check=False
    )
    assert alone.returncode == 1
    assert "wants two ranks" in alone.stderr


def test_the_page_shows_the_tables_of_the_model():
    page = (ROOT / "docs" / "guide" / "ranks.md").read_text(encoding="utf-8").splitlines()
    shown = run_program(sys.executable, EXAMPLES / "cost.py").splitlines()
    lines = [line for line in shown if line.startswith("|")]
    assert len(lines) == 2 + 12 + 2 + 16
    assert [line for line in lines if line not in page] == []


def test_the_cost_of_two_ranks_by_hand():
    import cost

    network = cost.Network((3, 5, 2), 64, 1e-3, 0.0)
    messages = cost.Messages(1e-5, 1e6)
    parameters = 4 * (3 * 5 + 5 + 5 * 2 + 2)
    rows = 4 * 64 * 2 * (5 + 2)
    assert (network.parameters, network.rows) == (parameters, rows)
    exact = 2e-5 + (rows + parameters) / 2 / 1e6
    assert cost.exchange(network, "exact", 2, messages) == pytest.approx(exact)
    read = 4 * 64 * 3 * cost.READ
    together = read + (1e-3 - read) / 2
    quick = cost.Messages(1e-6, 1e9)
    exact = cost.exchange(network, "exact", 2, quick)
    assert cost.speed_up(network, "exact", 2, quick) == pytest.approx(1e-3 / (together + exact))
    # Where that takes longer than one process, ranks share nothing.
    assert cost.speed_up(network, "exact", 2, messages) == 1
    # At the bandwidth that pays, two ranks are as quick as one.
    for mode in cost.MODES:
        pays = cost.Messages(1e-5, cost.crossover(network, mode, messages))
        assert cost.speed_up(network, mode, 2, pays) == pytest.approx(1)
    slow = cost.Messages(1e-3, 1e6)
    assert cost.crossover(network, "exact", slow) == float("inf")


def test_a_simulation_without_chance_is_the_model():
    import cost

    network, messages = cost.Network((3, 5, 2), 512, 1e-3, 0.0), cost.Messages(1e-5, 1e8)
    for mode in cost.MODES:
        for ranks in (1, 2, 16):
            model = cost.speed_up(network, mode, ranks, messages)
            assert cost.simulate(network, mode, ranks, messages, grows=False) == pytest.approx(
                model
            )
    late = cost.Network((3, 5, 2), 512, 1e-3, 0.2)
    few, many = (cost.simulate(late, "sharded", n, messages, grows=True) / n for n in (2, 1000))
    assert many < few < 1


def test_the_model_is_of_the_networks_of_the_benchmark(monkeypatch):
    pytest.importorskip("mpi4py")
    monkeypatch.syspath_prepend(ROOT)
    import measure

    from benchmarks.suites.networks import TARGETS

    assert [(case.widths, case.batch) for case in TARGETS] == measure.NETWORKS
