"""Data augmentation: random changes of mini-batches of images."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common.arrays import as_array
from dlcore._common.checks import (
    check_finite,
    check_floating,
    check_name,
    check_positive_int,
    check_rng,
)
from dlcore._common.optional import require

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dlcore._common.typing import Array

__all__ = ["ImageTransform"]

# OpenCV's names of what lies outside of an image, by those of `numpy.pad`.
_FILLS = {
    "edge": "BORDER_REPLICATE",
    "reflect": "BORDER_REFLECT_101",
    "symmetric": "BORDER_REFLECT",
    "wrap": "BORDER_WRAP",
}
# Not its cubic one, which in float64 is wrong near the edges (OpenCV 5.0).
_INTERPOLATIONS = {"nearest": "INTER_NEAREST", "linear": "INTER_LINEAR"}

# The largest images that OpenCV warps in every version and dtype.
_MAX_SIDE = 32766
_MAX_CHANNELS = 128
# In degrees.
_MAX_SKEW = 89

# Red, green and blue as luma Y (BT.601) and chroma I, Q (NTSC); gray has no chroma.
_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])


class ImageTransform:
    """A random transform of each image of a batch: ``trainer.fit(x, y, transform=...)``.

    Every image gets values of its own, drawn uniformly. A number stands for a range, as the
    parameter says; a pair (low, high) is the range itself, such as ``rotation=(90, 90)`` for a
    quarter turn of every image. What is left at its default does nothing.

    Parameters
    ----------
    shape : (height, width) or (height, width, channels)
        Of an image, of which a row of the batch has the values in this order.
    rotation : float or (low, high)
        Angle in degrees, within ±rotation; positive is counter-clockwise.
    skew : float or (low, high)
        Angle of the shear along the rows in degrees, within ±skew, at most 89; positive leans
        the image to the right, like italics.
    scale : float or (low, high)
        Factor of the size about the center; a number s stands for (1 - s, 1 + s).
    shift : float or (low, high)
        Shift to the right and, drawn separately, down, as shares of the width and the height,
        within ±shift.
    flip_horizontal : float
        Probability that left and right are exchanged.
    flip_vertical : float
        Probability that top and bottom are exchanged.
    crop : float, optional
        Smallest share of the area that is kept: a window of the image's proportions and of a share
        drawn from (crop, 1), anywhere in the image, which is resized to the full size.
    brightness, contrast, saturation : float or (low, high)
        Factors of the values, of the differences from the image's mean gray, and of the differences
        of each pixel from its gray; a number f stands for (1 - f, 1 + f).
    hue : float or (low, high)
        Angle in degrees by which the colors turn about gray, within ±hue; 120 takes red to green.
        ``saturation`` and ``hue`` need 3 channels: red, green, blue.
    noise : float
        Standard deviation of the Gaussian noise that is added to every value.
    fill : float or {"edge", "reflect", "symmetric", "wrap"}
        What lies outside of the image: this value, or the image continued as in `numpy.pad`.
    interpolation : {"linear", "nearest"}
        Whether values between pixels are interpolated or those of the nearest pixel.
    value_range : (low, high), optional
        To which the result is clipped; None clips nothing.

    Raises
    ------
    ImportError
        OpenCV is not installed and a parameter from ``rotation`` to ``crop`` needs it.
    ValueError
        A parameter is not as described.

    Notes
    -----
    An image is resampled once, whatever is combined: the pixel at p = (x, y), in pixels to the
    right of and below the first one, goes to ``L (p - c - d) + c + t`` with the center c, the
    offset d of the crop's window from the center, the shift t and the matrix L = rotation @ skew @
    scale @ flip / q, where q is the window's share of a side. With the angles a and b
    ::

        rotation = [[cos a, sin a], [-sin a, cos a]]    skew = [[1, -tan b], [0, 1]]

    Then come the colors: in Y, I, Q (luma and chroma) the values become
    ``f (c Y + (1 - c) mean(Y))`` and ``f c s R (I, Q)``, where f, c and s are the factors of
    brightness, contrast and saturation and R turns by the hue's angle. Images without 3 channels
    have their values in place of Y. Then comes the noise, and at last the clipping.

    The result depends on the batch and the state of the generator alone. What is drawn for an image
    is, but for the noise, the same in a batch of any other length. There is nothing that changes in
    the object: threads may share it. OpenCV uses several threads for an image of more than 65536
    pixels, with the same result; how many is a setting of the whole process, which is left as it
    is.

    OpenCV rounds positions to 1/32 of a pixel in float64, and before its version 5 in float32.

    References
    ----------
    Simard, Steinkraus and Platt: Best practices for convolutional neural networks applied to visual
    document analysis, ICDAR 2003 (affine transforms of the training images). Szegedy et al.: Going
    deeper with convolutions, CVPR 2015 (crops by their share of the area). Recommendation
    ITU-R BT.601 (luma).

    Examples
    --------
    >>> import numpy as np, dlcore as dl
    >>> turn = dl.ImageTransform((2, 2), rotation=(90, 90))
    >>> turn(np.array([[1.0, 2.0, 3.0, 4.0]]), np.random.default_rng(0))
    array([[2., 4., 1., 3.]])
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        rotation: float | tuple[float, float] = 0.0,
        skew: float | tuple[float, float] = 0.0,
        scale: float | tuple[float, float] = (1.0, 1.0),
        shift: float | tuple[float, float] = 0.0,
        flip_horizontal: float = 0.0,
        flip_vertical: float = 0.0,
        crop: float | None = None,
        brightness: float | tuple[float, float] = 0.0,
        contrast: float | tuple[float, float] = 0.0,
        saturation: float | tuple[float, float] = 0.0,
        hue: float | tuple[float, float] = 0.0,
        noise: float = 0.0,
        fill: float | str = 0.0,
        interpolation: str = "linear",
        value_range: tuple[float, float] | None = None,
    ) -> None:
        self.shape = check_image_shape("ImageTransform", shape)
        smallest = 1.0 if crop is None else check_finite("crop", crop, 0, 1, positive=True)
        shifts = _bounds("shift", shift, 0)
        # In the order in which they are drawn.
        bounds = {
            "rotation": _bounds("rotation", rotation, 0),
            "skew": _bounds("skew", skew, 0, -_MAX_SKEW, _MAX_SKEW),
            "scale": _bounds("scale", scale, 1, positive=True),
            "shift_x": shifts,
            "shift_y": shifts,
            "flip_horizontal": (0.0, 1.0),
            "flip_vertical": (0.0, 1.0),
            "crop": (smallest, 1.0),
            "crop_x": (-0.5, 0.5),
            "crop_y": (-0.5, 0.5),
            "brightness": _bounds("brightness", brightness, 1, 0),
            "contrast": _bounds("contrast", contrast, 1, 0),
            "saturation": _bounds("saturation", saturation, 1, 0),
            "hue": _bounds("hue", hue, 0),
        }
        self._names = tuple(bounds)
        self._low, self._high = np.array(list(bounds.values())).T
        self._flips = np.array(
            [
                check_finite("flip_horizontal", flip_horizontal, 0, 1),
                check_finite("flip_vertical", flip_vertical, 0, 1),
            ]
        )
        self._noise = check_finite("noise", noise, 0)
        self._fill = (
            check_name("fill", fill, _FILLS, quoted=True)
            if isinstance(fill, str)
            else check_finite("fill", fill)
        )
        self._interpolation = check_name(
            "interpolation", interpolation, _INTERPOLATIONS, quoted=True
        )
        self._value_range = None if value_range is None else _pair("value_range", value_range)

        def given(neutral: float, *names: str) -> bool:
            return any(bounds[name] != (neutral, neutral) for name in names)

        self._warps = (
            given(0, "rotation", "skew", "shift_x")
            or given(1, "scale", "crop")
            or bool(self._flips.any())
        )
        self._relights = given(1, "brightness", "contrast")
        self._recolors = given(1, "saturation") or given(0, "hue")
        if self._recolors and self.shape[2:] != (3,):
            raise ValueError(
                f"saturation and hue need a shape of (height, width, 3), not {self.shape}"
            )
        if self._warps:
            _opencv()

    def __call__(self, batch: Array, rng: np.random.Generator) -> Array:
        """Return a new batch of transformed images.

        Parameters
        ----------
        batch : ndarray of shape (n, values of an image) or (n, *shape), float32 or float64
            The images, which are not changed.
        rng : numpy.random.Generator
            Draws what is done to each image.

        Returns
        -------
        ndarray
            Of the batch's shape and dtype.
        """
        batch = as_floats("batch", batch)
        images = as_images("batch", batch, self.shape)
        check_rng("rng", rng)
        drawn = self._low + (self._high - self._low) * rng.random((len(images), len(self._low)))
        values = dict(zip(self._names, drawn.T, strict=True))
        images = self._warp(images, self._matrices(values)) if self._warps else images.copy()
        if self._recolors:
            pixels = images.reshape(len(images), math.prod(self.shape[:2]), 3)
            images = (pixels @ _color_matrices(values).astype(batch.dtype)).reshape(images.shape)
        if self._relights:
            factor, contrast = values["brightness"], values["contrast"]
            gray = _mean_gray(images)
            images *= _per_image(factor * contrast, batch.dtype)
            images += _per_image(factor * (1 - contrast) * gray, batch.dtype)
        if self._noise:
            noise = rng.standard_normal(images.shape, batch.dtype.type)
            images += np.multiply(noise, self._noise, out=noise)
        if self._value_range is not None:
            np.clip(images, *self._value_range, out=images)
        return images.reshape(batch.shape)

    def _matrices(self, values: dict[str, Array]) -> Array:
        """Matrices of shape (n, 2, 3) that take each pixel (x, y, 1) to its new place."""
        size = np.array(self.shape[1::-1])  # width and height, as x and y
        center = (size - 1) / 2
        angle, skew = np.radians(values["rotation"]), np.tan(np.radians(values["skew"]))
        cos, sin = np.cos(angle), np.sin(angle)
        side = np.sqrt(values["crop"])
        linear = np.moveaxis(np.array([[cos, sin - cos * skew], [-sin, cos + sin * skew]]), -1, 0)
        draws = np.stack([values["flip_horizontal"], values["flip_vertical"]], axis=-1)
        signs = np.where(draws < self._flips, -1.0, 1.0)
        linear = linear * (values["scale"] / side)[:, None, None] * signs[:, None, :]
        # Between the centers of the outermost pixels: the window never reaches what is outside.
        window = np.stack([values["crop_x"], values["crop_y"]], axis=-1)
        window *= (1 - side)[:, None] * (size - 1)
        shift = np.stack([values["shift_x"], values["shift_y"]], axis=-1) * size
        moved = center + shift - np.einsum("nij,nj->ni", linear, center + window)
        # A quarter turn then has the cosine 0 and takes pixels to pixels.
        return np.concatenate([linear, moved[:, :, None]], axis=-1).round(12)

    def _warp(self, images: Array, matrices: Array) -> Array:
        cv2 = _opencv()
        options: dict[str, Any] = {"flags": getattr(cv2, _INTERPOLATIONS[self._interpolation])}
        if isinstance(self._fill, str):
            options["borderMode"] = getattr(cv2, _FILLS[self._fill])
        else:
            options |= {"borderMode": cv2.BORDER_CONSTANT, "borderValue": [self._fill] * 4}
        height, width = self.shape[:2]
        warped = np.empty_like(images)
        for image, matrix, out in zip(images, matrices, warped, strict=True):
            cv2.warpAffine(image, matrix, (width, height), dst=out, **options)
        return warped


def _color_matrices(values: dict[str, Array]) -> Array:
    """Matrices of shape (n, 3, 3) from which rows (red, green, blue) get saturation and hue."""
    # Positive turns red toward green, which is clockwise in the plane of I and Q.
    angle, factor = np.radians(values["hue"]), values["saturation"]
    matrices = np.zeros((len(angle), 3, 3))
    matrices[:, 0, 0] = 1
    matrices[:, 1, 1] = matrices[:, 2, 2] = factor * np.cos(angle)
    matrices[:, 1, 2] = factor * np.sin(angle)
    matrices[:, 2, 1] = -matrices[:, 1, 2]
    combined: Array = (np.linalg.inv(_YIQ) @ matrices @ _YIQ).transpose(0, 2, 1)
    return combined


def _mean_gray(images: Array) -> Array:
    means = images.mean(axis=(1, 2), dtype=np.float64)
    gray: Array = means @ _YIQ[0] if means.shape[1] == 3 else means.mean(axis=1)
    return gray


def _per_image(values: Array, dtype: np.dtype[Any]) -> Array:
    return values.astype(dtype)[:, None, None, None]


def _opencv() -> Any:
    return require("cv2", "ImageTransform", "rotation, skew, scale, shift, flips and crop")


def as_images(name: str, x: Array, shape: tuple[int, ...]) -> Array:
    """View rows, or copy them if they are not contiguous, as (n, height, width, channels)."""
    if x.shape[1:] not in (shape, (math.prod(shape),)):
        flat = f"(n, {math.prod(shape)})"
        arrays = f"(n, {', '.join(map(str, shape))})"
        raise ValueError(f"{name} must have shape {flat} or {arrays}, not {x.shape}")
    return np.ascontiguousarray(x).reshape(len(x), *shape[:2], *(shape[2:] or (1,)))


def check_image_shape(function: str, shape: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of images, (height, width) or (height, width, channels)."""
    try:
        sides = tuple(shape)
    except TypeError:
        sides = ()
    if len(sides) not in (2, 3):
        raise ValueError(
            f"{function}: shape must be (height, width) or (height, width, channels), not {shape!r}"
        )
    for name, side in zip(("height", "width", "channels"), sides, strict=False):
        check_positive_int(f"{function}: the {name} in shape", side)
        most = _MAX_CHANNELS if name == "channels" else _MAX_SIDE
        if side > most:
            raise ValueError(f"{function}: the {name} in shape is at most {most}, not {side}")
    return tuple(int(side) for side in sides)


def as_floats(name: str, x: Any) -> Array:
    """Return an array of float32 or float64 without a copy."""
    array = as_array(x, name)
    check_floating(name, array.dtype)
    return array


def _pair(name: str, pair: Any, *limits: float, positive: bool = False) -> tuple[float, float]:
    try:
        low, high = pair
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a pair (low, high), not {pair!r}") from None
    low = check_finite(f"low of {name}", low, *limits, positive=positive)
    high = check_finite(f"high of {name}", high, *limits, positive=positive)
    if low > high:
        raise ValueError(f"{name} must be a pair (low, high) with low <= high, not {pair!r}")
    return low, high


def _bounds(
    name: str, value: Any, center: float, *limits: float, positive: bool = False
) -> tuple[float, float]:
    """Return the range that a number r stands for, center ± r; or the pair that is given."""
    if np.ndim(value) > 0:
        return _pair(name, value, *limits, positive=positive)
    radius = check_finite(name, value, 0)
    bounds = (center - radius, center + radius)
    return _pair(f"{name}={value!r}", bounds, *limits, positive=positive)
