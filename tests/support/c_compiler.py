"""Compilers of C, and headers that they make libraries of."""

import ctypes
import shutil
import subprocess
import uuid

import numpy as np
import pytest

STRICT = ("-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror")


def compiler(name):
    """Return the path of a compiler, or skip the test."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def run(*command, merges=False, **options):
    """Run a command; fail with what it says. Return its output, with that of errors if asked."""
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr if merges else done.stdout


def compiled(header, name, folder, *options, cc="gcc"):
    """Compile a header as it is, without a warning; return the object file."""
    path = folder / f"{name}.h"
    path.write_text(header, encoding="utf-8")
    made = folder / f"{uuid.uuid4().hex}.o"
    flags = options or ("-O2",)
    run(compiler(cc), *STRICT, *flags, f"-D{name.upper()}_API=", "-x", "c", "-c", path, "-o", made)
    return made


def undefined(made, nm="nm"):
    """Return the symbols that an object file needs."""
    return set(run(compiler(nm), "-u", made).split()) - {"U", "_GLOBAL_OFFSET_TABLE_"}


class Library:
    """The functions of a header."""

    def __init__(self, header, folder, *options, name="net"):
        made = compiled(header, name, folder, "-O2", "-fPIC", *options)
        library = made.with_suffix(".so")
        # Nothing of the library of C is at hand.
        run(compiler("gcc"), "-shared", "-nostdlib", "-Wl,-z,defs", made, "-o", library)
        self._library, self._name = ctypes.CDLL(str(library)), name

    def function(self, name):
        return getattr(self._library, f"{self._name}_{name}")

    def rows(self, name, x, width, x_dtype=np.float32, y_dtype=np.float32):
        """Call a function of x and y for each row."""
        call = self.function(name)
        x = np.ascontiguousarray(x, x_dtype)
        y = np.full((len(x), width), -1, y_dtype)
        for row, result in zip(x, y, strict=True):
            call(ctypes.c_void_p(row.ctypes.data), ctypes.c_void_p(result.ctypes.data))
        return y

    def classes(self, x, x_dtype=np.float32):
        """Call the function that decides for a class, for each row."""
        x = np.ascontiguousarray(x, x_dtype)
        call = self.function("class")
        return np.array([call(ctypes.c_void_p(row.ctypes.data)) for row in x])

    def class_names(self, *places):
        call = self.function("class_name")
        call.restype = ctypes.c_char_p
        return call(*places).decode()
