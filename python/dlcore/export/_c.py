"""C: a network, an estimator or a pipeline as one header, for chips without an operating system."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from dlcore._common.checks import check_choice

if TYPE_CHECKING:
    from collections.abc import Container

    from dlcore.export._description import Description

__all__ = ["to_c"]

# Of C99 and C++, in which the header may be included as well.
_KEYWORDS = frozenset(
    [
        "alignas",
        "alignof",
        "and",
        "and_eq",
        "asm",
        "auto",
        "bitand",
        "bitor",
        "bool",
        "break",
        "case",
        "catch",
        "char",
        "class",
        "compl",
        "concept",
        "const",
        "const_cast",
        "consteval",
        "constexpr",
        "constinit",
        "continue",
        "co_await",
        "co_return",
        "co_yield",
        "decltype",
        "default",
        "delete",
        "do",
        "double",
        "dynamic_cast",
        "else",
        "enum",
        "explicit",
        "export",
        "extern",
        "false",
        "float",
        "for",
        "friend",
        "goto",
        "if",
        "inline",
        "int",
        "long",
        "main",
        "mutable",
        "namespace",
        "new",
        "noexcept",
        "not",
        "not_eq",
        "nullptr",
        "operator",
        "or",
        "or_eq",
        "private",
        "protected",
        "public",
        "register",
        "reinterpret_cast",
        "requires",
        "restrict",
        "return",
        "short",
        "signed",
        "sizeof",
        "static",
        "static_assert",
        "static_cast",
        "struct",
        "switch",
        "template",
        "this",
        "thread_local",
        "throw",
        "true",
        "try",
        "typedef",
        "typeid",
        "typename",
        "union",
        "unsigned",
        "using",
        "virtual",
        "void",
        "volatile",
        "wchar_t",
        "while",
        "xor",
        "xor_eq",
    ]
)


def to_c(
    model: Any,
    name: str,
    dtype: str = "float32",
    calibration: Any = None,
    *,
    output: str | None = None,
    classes: Any = None,
) -> str:
    """Write a header of C99 that computes a network, an estimator or a whole pipeline.

    It needs no library, not that of C either, and no heap: ``stdint.h`` alone is included. Weights
    are ``static const``, so that they stay in the flash of a chip.

    Parameters
    ----------
    model : Sequential, estimator, Pipeline or sequence
        As in `to_onnx`. Of a `TabularClassifier` or a `TabularRegressor` it is what follows its
        encoder: rows are those of ``estimator.encoder_.transform(X)``, numbers and then codes.
    name : str
        What the names in the header begin with, an identifier of C. Macros have it in capitals.
    dtype : {"float32", "int8"}
        What is computed with. "int8" is for chips without a floating-point unit: integers alone, of
        8 bits between the layers, summed in 32.
    calibration : array_like of shape (rows, features), optional
        For "int8": rows as those that will come, some hundred, before any normalizer. The ranges of
        what the layers give are taken from them.
    output : {"identity", "softmax", "sigmoid", "exp"}, optional
        What the outputs of a `Sequential` mean. By default they are given as they are.
    classes : array_like, optional
        Labels of its classes, as in `to_onnx`.

    Returns
    -------
    str
        The header, to be written to a file such as ``name.h``.

    Raises
    ------
    TypeError
        A part has no export, such as another transformer of a pipeline, `QuantileNormalizer` and
        with it the numbers of recipe="tabm", or, to int8, embeddings, branches and members; the
        message names it.
    ValueError
        The name is no identifier of C; the calibration is missing, has no rows, other columns or
        numbers that are not finite; a part is not fitted; parameters are not finite in float32.

    Notes
    -----
    With ``name="net"`` and float32 the header has

    - ``net_logits(x, y)``: the outputs of the network for a row, of ``NET_OUTPUTS`` numbers;
    - ``net_predict(x, y)``: what `predict_proba`, of a regressor `predict`, gives: of
      ``NET_VALUES`` numbers;
    - for a classifier ``net_class(x)``: the place of the most probable class, and
      ``net_class_name(c)``: its label as text; for several targets ``net_classes(x, c)`` and
      ``net_class_name(t, c)``.

    ``x`` has ``NET_FEATURES`` numbers. The header of int8 has these with int8 and int32 in the place
    of float: ``net_quantize(x, q)`` brings a row of numbers to int8, ``net_quantize_int(x, q)`` one of
    integers, without a float; ``net_logits(q, y)`` gives int32 logits in units of
    ``NET_LOGIT_SCALE``.

    Functions are ``static inline``; with ``-DNET_API=`` they are seen by other languages, and the
    header is compiled as it is: ``cc -O2 -DNET_API= -x c -c net.h``.

    Sums of float32 are in the order of dlcore's kernels, with multiply-adds where the processor has
    them, and parameters of float64 are rounded to float32; a normalizer is computed in double and
    rounded once, as dlcore does. So networks of `Linear`, `BatchNorm1d`, `ReLU` and `LeakyReLU` give
    dlcore's bits. (On x86-64 GCC and Clang may not take multiply-adds for granted: the network is
    compiled twice, and asks the processor, unless ``NET_PLAIN`` is defined.) Without them, and of
    other activations, logits differ by 4 ULP of the largest of them at most. (In ULP of each logit
    there is no bound: it may be a difference of terms of any size.) `LayerNorm` and `RMSNorm`
    multiply what rounding left.

    The members of an ensemble are computed one after the other, so that what a row takes on the stack
    does not grow with them. A code that is none of a layer's categories gives NaN. `Periodic` takes whole turns away in double, and is within 2e-7 where a
    double has 53 bits.

    In int8, weights have a scale for each output, activations one for each layer (Jacob et al.,
    2018), activations other than ReLU are tables, and `BatchNorm1d` is folded where it can be.

    References
    ----------
    Jacob et al.: Quantization and training of neural networks for efficient
    integer-arithmetic-only inference, CVPR 2018.

    Examples
    --------
    >>> import dlcore as dl
    >>> model = dl.Sequential(dl.Linear(4, 8), dl.ReLU(), dl.Linear(8, 2), seed=0)
    >>> header = dl.to_c(model, "net", output="softmax", classes=["no", "yes"])
    >>> "NET_API void net_predict(const float *x, float *y)" in header
    True
    """
    if not re.fullmatch(r"[A-Za-z]\w*", str(name), re.ASCII):
        raise ValueError(
            f"to_c: name must be an identifier of C that begins with a letter, not {name!r}"
        )
    if name in _KEYWORDS:
        raise ValueError(f"to_c: name is a keyword, {name!r}; choose another one")
    check_choice("to_c: dtype", dtype, ("float32", "int8"))
    if dtype == "float32" and calibration is not None:
        raise ValueError('to_c: calibration is for dtype="int8"')
    from dlcore.export._pipeline import describe

    is_float = dtype == "float32"
    options: dict[str, Any] = {"output": output, "classes": classes, "folds": not is_float}
    described = describe("to_c", model, **options)
    described = described.of_encoded_rows()
    if described.in_features is None:
        raise ValueError("to_c: the model takes any number of features; begin with a Linear layer")
    if is_float:
        from dlcore.export._c_float import STEPS, header_of_floats

        _check_steps(described, STEPS, "C; to_onnx has one")
        return header_of_floats(described, name)
    from dlcore.export._c_int8 import STEPS, header_of_integers

    _check_steps(described, STEPS, 'int8; use dtype="float32" or to_onnx')
    return header_of_integers(described, name, calibration)


def _check_steps(described: Description, known: Container[type], where: str) -> None:
    from dlcore.export._steps import NAMES, all_steps

    for step in all_steps(described.steps):
        if type(step) not in known:
            raise TypeError(f"to_c: {NAMES[type(step)]} have no export to {where}")
