"""An activation is added in six source files, compiled, and then it is everywhere."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        sys.platform != "linux" or not shutil.which("cmake") or not shutil.which("ninja"),
        reason="needs CMake and Ninja on Linux",
    ),
]

# file: (what stands there, what is put before it), once each
SOFTSIGN = {
    "cpp/kernels/activations.inc": [
        ("DLCORE_ACTIVATION(silu,", "DLCORE_ACTIVATION(softsign, softsign, 0.4, 1.0)\n"),
    ],
    "cpp/kernels/activations.cpp": [
        (
            "struct silu {",
            """struct softsign {
  template <class T>
  vec<T> forward(vec<T> x) const {
    return x / (vec<T>(T(1)) - negative_abs<T>(x));
  }
  template <class T>
  vec<T> backward(vec<T> dy, vec<T> x) const {
    const vec<T> d = vec<T>(T(1)) - negative_abs<T>(x);
    return dy / (d * d);
  }
};

""",
        ),
    ],
    "python/dlcore/functional/_activations.py": [
        ('    "silu",\n', '    "softsign",\n    "softsign_backward",\n'),
        (
            "def silu(",
            """def softsign(x: Array, *, out: Array | None = None) -> Array:
    return dispatch.core.softsign(x, out)


def softsign_backward(dy: Array, x: Array, *, out: Array | None = None) -> Array:
    return dispatch.core.softsign_backward(dy, x, out)


""",
        ),
    ],
    "python/dlcore/reference/_activations.py": [
        ('    "silu",\n', '    "softsign",\n    "softsign_backward",\n'),
        (
            "@quiet\ndef silu(",
            """@quiet
def softsign(x: Array) -> Array:
    return x / (1 + np.abs(x))


@quiet
def softsign_backward(dy: Array, x: Array) -> Array:
    return dy / (1 + np.abs(x)) ** 2


""",
        ),
    ],
    "python/dlcore/nn/_layers.py": [
        ('    "SiLU",\n', '    "Softsign",\n'),
        (
            "@dataclass(frozen=True)\nclass SiLU(",
            '@dataclass(frozen=True)\nclass Softsign(Activation):\n    kernel = "softsign"\n\n\n',
        ),
        ("ReLU, LeakyReLU, ELU,", "Softsign, "),
    ],
}

USE = """
import numpy as np, dlcore as dl
from dlcore import reference
rng = np.random.default_rng(0)
x, dy = rng.normal(size=(2, 1001))
np.testing.assert_allclose(dl.softsign(x), reference.softsign(x), rtol=1e-15)
np.testing.assert_allclose(dl.softsign_backward(dy, x), reference.softsign_backward(dy, x), rtol=1e-15)
w = np.ones((2, 3))
np.testing.assert_array_equal(dl.linear(x[:9].reshape(3, 3), w, None, "softsign"),
                              dl.softsign(dl.linear(x[:9].reshape(3, 3), w)))
model = dl.Sequential(dl.Linear(3, 8), dl.Softsign(), dl.Linear(8, 2), seed=0)
rows = x[:300].reshape(100, 3).astype(np.float32)
trainer = dl.Trainer(model, loss="cross_entropy", optimizer=dl.Adam(model.parameters(), lr=0.05), seed=0)
history = trainer.fit(rows, (rows[:, 0] > 0).astype(int), epochs=20, verbose=0)
assert history["loss"][-1] < 0.5 * history["loss"][0]
try:
    from dlcore.sklearn import MLPClassifier
except ImportError:
    pass
else:
    MLPClassifier((4,), activation="softsign", max_iter=300).fit(rows, rows[:, 0] > 0)
print("added")
"""


def test_an_activation_is_added_in_six_files(tmp_path):
    for part in ("CMakeLists.txt", "CMakePresets.json", "pyproject.toml", "cpp", "python"):
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(
                source, tmp_path / part, ignore=shutil.ignore_patterns("*.so", "__pycache__")
            )
        else:
            shutil.copy(source, tmp_path)
    assert len(SOFTSIGN) == 5
    for name, insertions in SOFTSIGN.items():
        file = tmp_path / name
        text = file.read_text(encoding="utf-8")
        for anchor, addition in insertions:
            assert text.count(anchor) == 1, (name, anchor)
            text = text.replace(anchor, addition + anchor)
        file.write_text(text, encoding="utf-8")

    def run(*command, **options):
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=False, **options
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        return done.stdout

    run("cmake", "--preset", "debug", f"-DPython_EXECUTABLE={sys.executable}")
    run("cmake", "--build", "--preset", "debug", "--target", "install")
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "python"), "PYTHONWARNINGS": "ignore"}
    assert run(sys.executable, "-c", USE, env=environment).strip() == "added"
