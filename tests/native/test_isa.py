"""The choice of the extension module, and what the installation says of itself."""

import subprocess
import sys

import pytest

import dlcore as dl
from dlcore._native import dispatch


def import_with(isa):
    code = "import dlcore; print(dlcore.isa())"
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"DLCORE_ISA": isa, "PATH": ""},
    )


def test_default_is_the_best_available():
    assert dl.available_isas()
    result = import_with("")
    assert result.stdout.strip() == dl.available_isas()[0]


@pytest.mark.parametrize("isa", dl.available_isas())
def test_environment_chooses(isa):
    assert import_with(isa).stdout.strip() == isa


@pytest.mark.parametrize("isa", ["avx512", "x86-64-v9", "generic"])
def test_unknown_or_unsupported_isa_is_an_import_error(isa):
    if isa in dl.available_isas():
        isa += "-of-nowhere"
    result = import_with(isa)
    assert result.returncode == 1
    assert f"ImportError: DLCORE_ISA='{isa}'" in result.stderr
    assert f"available: {', '.join(dl.available_isas())}" in result.stderr


@pytest.mark.parametrize("isa", dl.available_isas())
def test_each_level_is_a_module_of_its_own(isa):
    module = dispatch.load(isa)
    assert module.isa == isa
    assert module.version == dl.__version__
    widths = {"x86-64": 16, "x86-64-v3": 32, "x86-64-v4": 64, "aarch64": 16, "generic": 16}
    assert module.register_bytes == widths[isa]


def test_spin_count_is_set_for_the_import_alone():
    code = (
        "import os; os.environ.pop('GOMP_SPINCOUNT', None); import dlcore;"
        "print('GOMP_SPINCOUNT' in os.environ)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout.strip() == "False"


def test_show_config(capsys):
    dl.show_config()
    text = capsys.readouterr().out
    for part in ("dlcore", dl.__version__, "NumPy", "compiler", dl.isa(), "threads", "OpenMP"):
        assert part in text
    with dl.num_threads(dl.get_num_threads() + 1):
        dl.show_config()
    assert "set_num_threads" in capsys.readouterr().out
