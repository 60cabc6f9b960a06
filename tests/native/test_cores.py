"""Which cores there are: affinity under OpenMP's binding, and quotas of control groups."""

import os
import subprocess
import sys

import pytest

from dlcore._native import cores


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Return a function that writes the files of a made-up system."""
    monkeypatch.setattr(cores, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(cores, "_CGROUPS", tmp_path / "cgroup")

    def write(**files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return lambda files: write(**files)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max 100000\n", None),
        ("150000 100000\n", 2),
        ("20000 100000\n", 1),
        ("400000 100000\n", 4),
        ("-1 100000\n", None),
        ("", None),
        ("nonsense", None),
    ],
)
def test_quota_of_the_root_group(system, text, expected):
    system({"cgroup/cpu.max": text})
    assert cores.quota() == expected


def test_no_files_no_quota(system):
    system({})
    assert cores.quota() is None


@pytest.mark.parametrize("limited", ["", "a.slice/", "a.slice/b.service/"])
def test_the_quota_of_the_own_group_or_of_one_above(system, limited):
    """A service's limit lies below the root (joblib/loky#634)."""
    system(
        {
            "proc/cgroup": "0::/a.slice/b.service\n",
            "cgroup/cpu.max": "max 100000",
            "cgroup/a.slice/cpu.max": "800000 100000",
            "cgroup/a.slice/b.service/cpu.max": "max 100000",
            "cgroup/other.slice/cpu.max": "100000 100000",
            f"cgroup/{limited}cpu.max": "300000 100000",
        }
    )
    assert cores.quota() == 3


def test_the_smallest_quota_counts(system):
    system(
        {
            "proc/cgroup": "0::/a/b\n",
            "cgroup/cpu.max": "900000 100000",
            "cgroup/a/cpu.max": "200000 100000",
            "cgroup/a/b/cpu.max": "500000 100000",
        }
    )
    assert cores.quota() == 2


@pytest.mark.parametrize("folder", ["cpu", "cpu,cpuacct"])
@pytest.mark.parametrize("group", ["", "/batch", "/batch/job_7"])
def test_quota_of_version_1(system, folder, group):
    system(
        {
            "proc/cgroup": "12:memory:/other\n4:cpu,cpuacct:/batch/job_7\n0::/batch/job_7\n",
            f"cgroup/{folder}{group}/cpu.cfs_quota_us": "250000\n",
            f"cgroup/{folder}{group}/cpu.cfs_period_us": "100000\n",
        }
    )
    assert cores.quota() == 3


def test_version_1_without_a_limit(system):
    system({"cgroup/cpu/cpu.cfs_quota_us": "-1\n", "cgroup/cpu/cpu.cfs_period_us": "100000\n"})
    assert cores.quota() is None


@pytest.mark.parametrize("version", [1, 2])
def test_groups_that_are_mounted_elsewhere(system, tmp_path, version):
    """A container may see its own group at the top of what is mounted."""
    kind, options = ("cgroup2", "rw") if version == 2 else ("cgroup", "rw,cpu,cpuacct")
    point = tmp_path / "elsewhere"
    group = f"{'0::' if version == 2 else '4:cpu,cpuacct:'}/docker/abc/work\n"
    files = {"cpu.max": "200000 100000"}
    if version == 1:
        files = {"cpu.cfs_quota_us": "200000", "cpu.cfs_period_us": "100000"}
    system(
        {
            "proc/cgroup": group,
            "proc/mountinfo": "22 1 8:1 / / rw - ext4 /dev/sda rw\nodd line\n"
            f"30 22 0:26 /docker/abc {point} ro,nosuid shared:9 - {kind} {kind} {options}\n",
            **{f"elsewhere/work/{name}": text for name, text in files.items()},
        }
    )
    assert cores.quota() == 2


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system has no affinity")
@pytest.mark.parametrize(
    "setting",
    [
        {"OMP_PROC_BIND": "true"},
        {"OMP_PROC_BIND": "spread", "OMP_PLACES": "cores"},
        {"OMP_PLACES": "threads"},
    ],
)
def test_binding_leaves_all_cores(setting):
    """OpenMP binds the thread that loads it to one of the cores (OpenBLAS#4653)."""
    drop = ("OMP_", "GOMP_", "DLCORE_NUM")
    env = {name: value for name, value in os.environ.items() if not name.startswith(drop)}
    code = "from dlcore._native import cores; print(cores.usable_cores())"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env | setting
    )
    assert int(run.stdout) == len(os.sched_getaffinity(0))
