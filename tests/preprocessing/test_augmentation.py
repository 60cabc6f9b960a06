"""Images after each transform are those of its formula; mixtures are those of the papers."""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from dlcore.functional import one_hot
from dlcore.preprocessing import ImageTransform, cutmix, mixup

pytest.importorskip("cv2")

DTYPES = [np.float32, np.float64]
EVERYTHING = {
    "rotation": 20,
    "skew": 10,
    "scale": (0.8, 1.3),
    "shift": 0.1,
    "flip_horizontal": 0.5,
    "flip_vertical": 0.5,
    "crop": 0.6,
    "brightness": 0.2,
    "contrast": 0.3,
    "saturation": 0.4,
    "hue": 30,
    "value_range": (0, 1),
}


def rng(seed=0):
    return np.random.default_rng(seed)


def images(n, *shape, dtype=np.float32):
    return rng(1).random((n, *shape)).astype(dtype)


def transformed(x, **options):
    """Transform one image."""
    return ImageTransform(x.shape, **options)(x[None], rng())[0]


def sources(options, n=1, size=33):
    """Transform images whose values are the places of their pixels.

    Returns, for each image, where the pixel in the middle came from, relative to the middle, and
    the matrix of how that changes with x and y.
    """
    y, x = np.mgrid[:size, :size].astype(np.float32) - size // 2
    ramps = np.repeat(np.stack([x, y], axis=-1)[None], n, axis=0)
    result = ImageTransform(ramps.shape[1:], fill="edge", **options)(ramps, rng())
    m = size // 2
    by_x = (result[:, m, m + 2] - result[:, m, m - 2]) / 4
    by_y = (result[:, m + 2, m] - result[:, m - 2, m]) / 4
    return result[:, m, m], np.stack([by_x, by_y], axis=-1)


# Identity


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(8, 8), (5, 7, 1), (4, 6, 3)])
@pytest.mark.parametrize("flat", [False, True])
def test_without_options_nothing_changes(shape, flat, dtype):
    x = images(5, *shape, dtype=dtype) * 100 - 50
    x[0].flat[:4] = np.nan, np.inf, -np.inf, -0.0
    x = x.reshape(5, -1) if flat else x
    y = ImageTransform(shape)(x, rng())
    assert y.tobytes() == x.tobytes()
    assert (y.shape, y.dtype) == (x.shape, x.dtype)
    assert not np.shares_memory(x, y)


@pytest.mark.parametrize("dtype", DTYPES)
def test_options_of_0_are_those_left_out(dtype):
    x = images(5, 6, 6, 3, dtype=dtype)
    zeros = dict.fromkeys(set(EVERYTHING) - {"crop", "value_range"}, 0)
    assert ImageTransform((6, 6, 3), crop=1, noise=0, **zeros)(x, rng()).tobytes() == x.tobytes()


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "scale"])
def test_factors_of_1_change_nothing_and_others_do(name):
    x = images(1, 6, 6, 3)[0]
    assert np.array_equal(transformed(x, **{name: (1, 1)}), x)
    other = 2 if name == "scale" else 0
    assert (transformed(x, **{name: (other, other)}) != x).any()


@pytest.mark.parametrize("name", ["rotation", "skew", "shift", "hue"])
def test_angles_and_shifts_of_0_change_nothing_and_others_do(name):
    x = images(1, 6, 6, 3)[0]
    assert np.array_equal(transformed(x, **{name: (0, 0)}), x)
    assert (transformed(x, **{name: (1, 1)}) != x).any()


# Affine transforms


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(5, 5), (6, 6), (4, 4, 3)])
@pytest.mark.parametrize("interpolation", ["nearest", "linear"])
@pytest.mark.parametrize("quarters", [-1, 1, 2, 3])
def test_quarter_turns_are_exact_and_counter_clockwise(shape, quarters, interpolation, dtype):
    x = images(1, *shape, dtype=dtype)[0]
    angle = 90 * quarters
    y = transformed(x, rotation=(angle, angle), interpolation=interpolation, fill=7)
    np.testing.assert_array_equal(y, np.rot90(x, quarters))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(5, 8), (6, 3, 3)])
def test_flips_are_exact(shape, dtype):
    x = images(1, *shape, dtype=dtype)[0]
    np.testing.assert_array_equal(transformed(x, flip_horizontal=1), x[:, ::-1])
    np.testing.assert_array_equal(transformed(x, flip_vertical=1), x[::-1])
    both = transformed(x, flip_horizontal=1, flip_vertical=1)
    np.testing.assert_array_equal(both, x[::-1, ::-1])


def test_flips_come_with_their_probabilities():
    x = np.repeat(images(1, 4, 4), 4000, axis=0)
    y = ImageTransform((4, 4), flip_horizontal=0.3, flip_vertical=0.6)(x, rng())
    versions = {(h, v): x[0, :: 1 - 2 * v, :: 1 - 2 * h] for h in (0, 1) for v in (0, 1)}
    shares = {hv: (y == version).all(axis=(1, 2)).mean() for hv, version in versions.items()}
    assert sum(shares.values()) == 1
    for (h, v), share in shares.items():
        assert share == pytest.approx([0.7, 0.3][h] * [0.4, 0.6][v], abs=0.03)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_shift_by_whole_pixels_is_exact(dtype):
    x = images(1, 4, 8, dtype=dtype)[0]
    right_and_down = np.full_like(x, 0.5)
    right_and_down[1:, 2:] = x[:-1, :-2]
    np.testing.assert_array_equal(transformed(x, shift=(0.25, 0.25), fill=0.5), right_and_down)
    left_and_up = np.zeros_like(x)
    left_and_up[:-1, :-2] = x[1:, 2:]
    np.testing.assert_array_equal(transformed(x, shift=(-0.25, -0.25)), left_and_up)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6])
def test_the_fill_is_that_of_every_channel(channels):
    y = transformed(images(1, 4, 4, channels)[0], shift=(0.5, 0.5), fill=-2.5)
    assert (y[:2] == -2.5).all()
    assert (y[2:, 2:] != -2.5).all()


@pytest.mark.parametrize("mode", ["edge", "reflect", "symmetric", "wrap"])
def test_fills_continue_the_image_as_numpy_does(mode):
    x = images(1, 6, 6)[0]
    padded = np.pad(x, ((3, 0), (3, 0)), mode)
    np.testing.assert_array_equal(transformed(x, shift=(0.5, 0.5), fill=mode), padded[:6, :6])


def test_a_positive_skew_leans_to_the_right():
    x = images(1, 5, 5)[0]
    y = np.zeros_like(x)
    for row, right in enumerate([2, 1, 0, -1, -2]):
        y[row, max(right, 0) : 5 + min(right, 0)] = x[row, max(-right, 0) : 5 - max(right, 0)]
    np.testing.assert_array_equal(transformed(x, skew=(45, 45)), y)


def test_scale_is_about_the_center():
    x = images(1, 5, 5)[0]
    twice = transformed(x, scale=(2, 2))
    np.testing.assert_array_equal(twice[::2, ::2], x[1:4, 1:4])
    np.testing.assert_allclose(twice[1, ::2], (x[1, 1:4] + x[2, 1:4]) / 2, rtol=1e-6)
    half = transformed(x, scale=(0.5, 0.5), fill=9)
    np.testing.assert_array_equal(half[1:4, 1:4], x[::2, ::2])
    assert (half[[0, -1]] == 9).all()
    assert (half[:, [0, -1]] == 9).all()


def test_the_transforms_are_composed_in_the_documented_order():
    cos, sin, tan = np.cos(0.3), np.sin(0.3), np.tan(0.2)
    turn, shear = np.array([[cos, sin], [-sin, cos]]), np.array([[1, -tan], [0, 1]])
    forward = turn @ shear @ (1.2 * np.diag([-1, 1]))
    options = {
        "rotation": (np.degrees(0.3),) * 2,
        "skew": (np.degrees(0.2),) * 2,
        "scale": (1.2, 1.2),
        "flip_horizontal": 1,
        "shift": (0.1, 0.1),
    }
    origin, change = sources(options)
    np.testing.assert_allclose(change[0], np.linalg.inv(forward), atol=0.02)
    np.testing.assert_allclose(origin[0], -np.linalg.inv(forward) @ [3.3, 3.3], atol=0.04)


def drawn_angle(measured):
    _, change = measured
    return np.degrees(np.arctan2(-change[:, 0, 1], change[:, 0, 0]))


@pytest.mark.parametrize(
    ("options", "low", "high", "measure"),
    [
        ({"rotation": 20}, -20, 20, drawn_angle),
        ({"rotation": (10, 30)}, 10, 30, drawn_angle),
        ({"skew": 20}, -20, 20, lambda s: np.degrees(np.arctan(s[1][:, 0, 1]))),
        ({"scale": 0.2}, 0.8, 1.2, lambda s: 1 / s[1][:, 0, 0]),
        ({"scale": (1, 1.5)}, 1, 1.5, lambda s: 1 / s[1][:, 1, 1]),
        ({"shift": 0.2}, -6.6, 6.6, lambda s: -s[0][:, 0]),
        ({"shift": 0.2}, -6.6, 6.6, lambda s: -s[0][:, 1]),
        ({"crop": 0.4}, 0.4, 1, lambda s: s[1][:, 0, 0] ** 2),
    ],
)
def test_each_image_is_given_its_own_value_from_the_whole_range(options, low, high, measure):
    values = measure(sources(options, n=300))
    margin = 0.03 * (high - low)
    assert low - margin < values.min() < low + margin
    assert high - margin < values.max() < high + margin
    assert values.mean() == pytest.approx((low + high) / 2, abs=3 * margin)


@pytest.mark.parametrize("fill", [0.3, "edge", "reflect", "symmetric", "wrap"])
def test_float64_is_warped_like_float32(fill):
    """OpenCV has a program for each, that of float64 with positions rounded to 1/32."""
    x = images(20, 9, 9, 3, dtype=np.float64)
    transform = ImageTransform((9, 9, 3), rotation=180, skew=30, scale=0.3, shift=0.3, fill=fill)
    single, double = transform(x.astype(np.float32), rng()), transform(x, rng())
    np.testing.assert_allclose(single, double, atol=1 / 16)
    assert abs(single - double).mean() < 0.01


def test_the_two_shifts_are_independent():
    origin, _ = sources({"shift": 0.2}, n=300)
    assert abs(np.corrcoef(origin.T)[0, 1]) < 0.2


def test_a_crop_is_a_window_of_the_image():
    y, x = np.mgrid[:9, :17].astype(np.float32)
    ramps = np.repeat(np.stack([x, y], axis=-1)[None], 300, axis=0)
    crops = ImageTransform((9, 17, 2), crop=0.25, fill=1e6)(ramps, rng())
    assert crops.shape == ramps.shape
    first, last = crops[:, 0, 0], crops[:, -1, -1]
    assert (first > -1e-3).all()
    assert (last < [16.001, 8.001]).all()
    sides = (last - first) / [16, 8]
    np.testing.assert_allclose(sides[:, 0], sides[:, 1], atol=0.01)
    inner = sides[:, 0] < 0.9
    position = first[inner] / ([16, 8] * (1 - sides[inner]))
    assert (position.min(axis=0) < 0.05).all()
    assert (position.max(axis=0) > 0.95).all()
    assert abs(np.corrcoef(position.T)[0, 1]) < 0.2


# Colors and noise


@pytest.mark.parametrize("dtype", DTYPES)
def test_brightness_multiplies(dtype):
    x = images(3, 4, 4, 3, dtype=dtype)
    y = ImageTransform((4, 4, 3), brightness=(1.5, 1.5))(x, rng())
    np.testing.assert_allclose(y, 1.5 * x, rtol=1e-6)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_contrast_is_about_the_mean_gray(channels):
    x = images(3, 5, 4, channels)
    weights = [0.299, 0.587, 0.114] if channels == 3 else np.full(channels, 1 / channels)
    gray = (x @ weights).mean(axis=(1, 2)).reshape(3, 1, 1, 1)
    y = ImageTransform((5, 4, channels), contrast=(1.5, 1.5))(x, rng())
    np.testing.assert_allclose(y, gray + 1.5 * (x - gray), rtol=1e-4, atol=1e-6)
    flat = ImageTransform((5, 4, channels), contrast=(0, 0))(x, rng())
    np.testing.assert_allclose(flat, np.broadcast_to(gray, x.shape), rtol=1e-5)


def test_saturation_is_about_the_gray_of_each_pixel():
    x = images(3, 5, 4, 3)
    gray = (x @ [0.299, 0.587, 0.114])[..., None]
    y = ImageTransform((5, 4, 3), saturation=(0.3, 0.3))(x, rng())
    np.testing.assert_allclose(y, gray + 0.3 * (x - gray), rtol=1e-4, atol=1e-6)


def test_hue_turns_about_gray():
    x = images(3, 5, 4, 3)

    def turn(angle, colors):
        return ImageTransform((5, 4, 3), hue=(angle, angle))(colors, rng())

    np.testing.assert_allclose(turn(360, x), x, atol=1e-6)
    np.testing.assert_allclose(turn(50, turn(70, x)), turn(120, x), atol=1e-6)
    np.testing.assert_allclose(turn(77, x) @ [0.299, 0.587, 0.114], x @ [0.299, 0.587, 0.114], 1e-5)
    gray = np.full_like(x, 0.4)
    np.testing.assert_allclose(turn(77, gray), gray, rtol=1e-5)
    red, green, blue = (np.broadcast_to(row, x.shape) for row in np.eye(3, dtype=np.float32))
    for color, channel in ((red, 1), (green, 2), (blue, 0)):
        assert (turn(120, color).argmax(axis=-1) == channel).all()


def test_colors_together_are_those_of_the_formula():
    x = images(1, 4, 4, 3, dtype=np.float64)
    options = {"brightness": 1.2, "contrast": 0.7, "saturation": 1.4}
    pairs = {name: (value, value) for name, value in options.items()}
    y = ImageTransform((4, 4, 3), hue=(0, 0), **pairs)(x, rng())
    gray = (x @ [0.299, 0.587, 0.114])[..., None]
    luma = 1.2 * (0.7 * gray + 0.3 * gray.mean())
    np.testing.assert_allclose(y, luma + 1.2 * 0.7 * 1.4 * (x - gray), rtol=1e-12)


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_a_number_is_a_range_of_factors_about_1(name):
    x = np.zeros((500, 1, 2, 3), np.float64)
    x[:, 0, 0] = 1, 0.2, 0  # beside black
    y = ImageTransform((1, 2, 3), **{name: 0.2})(x, rng())
    difference = y[:, 0, 0, 0] - y[:, 0, 0, 2]
    assert difference.min() == pytest.approx(0.8, abs=0.01)
    assert difference.max() == pytest.approx(1.2, abs=0.01)


@pytest.mark.parametrize("dtype", DTYPES)
def test_noise_is_gaussian(dtype):
    x = np.full((100, 30, 30), 0.5, dtype)
    noise = ImageTransform((30, 30), noise=0.1)(x, rng()) - x
    assert noise.mean() == pytest.approx(0, abs=0.001)
    assert noise.std() == pytest.approx(0.1, rel=0.01)
    assert (abs(noise) > 0.2).mean() == pytest.approx(0.0455, abs=0.003)
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.1


def test_the_result_is_clipped_if_asked():
    x = images(10, 8, 8)
    free = ImageTransform((8, 8), noise=1)(x, rng())
    clipped = ImageTransform((8, 8), noise=1, value_range=(-0.5, 1.5))(x, rng())
    assert free.min() < -1
    assert free.max() > 2
    np.testing.assert_array_equal(clipped, np.clip(free, -0.5, 1.5))


# The call


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_result_depends_on_the_generator_alone(dtype):
    x = images(20, 9, 8, 3, dtype=dtype)
    transform = ImageTransform((9, 8, 3), noise=0.1, **EVERYTHING)
    y = transform(x, rng(3))
    assert y.dtype == dtype
    np.testing.assert_array_equal(transform(x, rng(3)), y)
    np.testing.assert_array_equal(transform(x.reshape(20, -1), rng(3)), y.reshape(20, -1))
    assert (transform(x, rng(4)) != y).any(axis=(1, 2, 3)).all()
    again = rng(3)
    transform(x, again)
    assert (transform(x, again) != y).any()


def test_an_image_is_transformed_alike_in_a_shorter_batch():
    x = images(20, 9, 8, 3)
    transform = ImageTransform((9, 8, 3), **EVERYTHING)
    np.testing.assert_array_equal(transform(x[:7], rng()), transform(x, rng())[:7])


def test_an_option_changes_nothing_that_others_draw():
    x = images(20, 8, 8)
    both = ImageTransform((8, 8), rotation=30, contrast=0.5)(x, rng())
    turned = ImageTransform((8, 8), rotation=30)(x, rng())
    np.testing.assert_array_equal(ImageTransform((8, 8), rotation=30, crop=1)(x, rng()), turned)
    deviations = both.std(axis=(1, 2)) / turned.std(axis=(1, 2))
    expected = ImageTransform((8, 8), contrast=0.5)(x, rng()).std(axis=(1, 2)) / x.std(axis=(1, 2))
    np.testing.assert_allclose(deviations, expected, rtol=1e-4)


@pytest.mark.parametrize("options", [EVERYTHING, {"noise": 0.1}, {"contrast": 0.2}])
def test_the_batch_is_not_changed(options):
    x = images(6, 9, 8, 3)
    before = x.copy()
    x.flags.writeable = False
    y = ImageTransform((9, 8, 3), **options)(x, rng())
    np.testing.assert_array_equal(x, before)
    assert (y != x).any()


def test_any_layout_gives_what_the_contiguous_copy_gives():
    x = images(6, 9, 8, 3)
    transform = ImageTransform((9, 8, 3), noise=0.1, **EVERYTHING)
    expected = transform(x, rng())
    np.testing.assert_array_equal(transform(np.asfortranarray(x), rng()), expected)
    np.testing.assert_array_equal(transform(np.repeat(x, 2, axis=2)[:, :, ::2], rng()), expected)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (6, 1, 3), (8, 8)])
@pytest.mark.parametrize("n", [0, 1])
def test_small_batches_of_small_images(n, shape):
    options = EVERYTHING if shape[2:] == (3,) else {**EVERYTHING, "saturation": 0, "hue": 0}
    x = images(n, *shape)
    y = ImageTransform(shape, noise=0.1, **options)(x, rng())
    assert y.shape == x.shape
    assert np.isfinite(y).all()


def test_threads_share_a_transform():
    x = images(64, 16, 16, 3)
    transform = ImageTransform((16, 16, 3), noise=0.1, **EVERYTHING)
    expected = [transform(x, rng(seed)) for seed in range(16)]
    with ThreadPoolExecutor(4) as pool:
        actual = list(pool.map(lambda seed: transform(x, rng(seed)), range(16)))
    np.testing.assert_array_equal(actual, expected)


def test_opencv_is_needed_for_what_it_does_alone(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ImportError, match=r"pip install 'dlcore-kernels\[image\]'"):
        ImageTransform((8, 8), rotation=10)
    x = images(2, 8, 8)
    assert (ImageTransform((8, 8), noise=0.1, contrast=0.1)(x, rng()) != x).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rotation": -10}, r"rotation must be a finite number in \[0, inf\], not -10"),
        ({"rotation": "10"}, "rotation must be a finite number"),
        ({"rotation": None}, "rotation must be a finite number"),
        ({"rotation": (30, 10)}, r"rotation must be a pair \(low, high\) with low <= high"),
        ({"rotation": (1, 2, 3)}, r"rotation must be a pair \(low, high\)"),
        ({"rotation": (0, np.nan)}, "high of rotation must be a finite number, not nan"),
        ({"skew": 90}, r"low of skew=90 must be a finite number in \[-89, 89\], not -90"),
        ({"scale": 1.2}, "low of scale=1.2 must be a positive number"),
        ({"scale": (0, 1)}, "low of scale must be a positive number, not 0"),
        ({"shift": np.inf}, "shift must be a finite number"),
        ({"flip_horizontal": 1.1}, r"flip_horizontal must be a finite number in \[0, 1\]"),
        ({"flip_vertical": -0.1}, r"flip_vertical must be a finite number in \[0, 1\]"),
        ({"crop": 0}, r"crop must be a positive number in \[0, 1\]"),
        ({"crop": 1.5}, r"crop must be a positive number in \[0, 1\]"),
        ({"brightness": 1.5}, "low of brightness=1.5 must be"),
        ({"contrast": (-1, 1)}, "low of contrast must be"),
        ({"saturation": 0.1}, r"saturation and hue need a shape of \(height, width, 3\)"),
        ({"hue": 5}, r"saturation and hue need a shape of \(height, width, 3\)"),
        ({"noise": -1}, "noise must be"),
        ({"noise": (0, 1)}, "noise must be"),
        ({"fill": "mirror"}, "fill must be one of .*'edge'.*, not 'mirror'"),
        ({"fill": None}, "fill must be a finite number"),
        ({"interpolation": "bilinear"}, "interpolation must be one of .*'linear'"),
        ({"value_range": 1}, r"value_range must be a pair \(low, high\)"),
        ({"value_range": (1, 0)}, "value_range must be a pair .* low <= high"),
    ],
)
def test_errors_of_options(options, message):
    with pytest.raises(ValueError, match=message):
        ImageTransform((8, 8), **options)


@pytest.mark.parametrize("make", [ImageTransform, cutmix])
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (64, r"shape must be \(height, width\)"),
        ((8,), r"shape must be \(height, width\)"),
        ((8, 8, 3, 1), r"shape must be \(height, width\)"),
        ((0, 8), "the height in shape must be a positive integer"),
        ((8, 8.0), "the width in shape must be a positive integer"),
        ((8, 8, 129), "the channels in shape is at most 128"),
        ((8, 40000), "the width in shape is at most 32766"),
    ],
)
def test_errors_of_shapes(make, shape, message):
    with pytest.raises(ValueError, match=message):
        make(shape)


@pytest.mark.parametrize(
    ("batch", "generator", "error", "message"),
    [
        (np.zeros((2, 63), np.float32), rng(), ValueError, r"batch .* \(n, 64\) or \(n, 8, 8\)"),
        (np.zeros((8, 8), np.float32), rng(), ValueError, r"not \(8, 8\)"),
        (np.zeros((2, 64), np.uint8), rng(), TypeError, "batch must be float32 or .*not uint8"),
        ([[0.0] * 64], rng(), TypeError, "batch must be an array"),
        (np.zeros((2, 64), np.float32), 0, TypeError, "rng must be a numpy.random.Generator"),
    ],
)
def test_errors_of_calls(batch, generator, error, message):
    with pytest.raises(error, match=message):
        ImageTransform((8, 8), rotation=10)(batch, generator)


# Mixtures


@pytest.mark.parametrize("dtype", DTYPES)
def test_mixup_is_that_of_the_paper(dtype):
    x, labels = images(50, 12, dtype=dtype), rng(2).integers(0, 4, 50)
    y = one_hot(labels, 4, dtype)
    kept = x.copy(), y.copy()
    mixed_x, mixed_y = mixup(0.4)(x, y, rng())
    replay = rng()
    share, partner = replay.beta(0.4, 0.4), replay.permutation(50)
    tolerance = {"rtol": 1e-5, "atol": 1e-6}
    np.testing.assert_allclose(mixed_x, share * x + (1 - share) * x[partner], **tolerance)
    np.testing.assert_allclose(mixed_y, share * y + (1 - share) * y[partner], **tolerance)
    np.testing.assert_allclose(mixed_y.sum(axis=1), 1, rtol=1e-6)
    assert mixed_y.min() >= 0
    assert 0 < share < 1
    assert mixed_x.dtype == mixed_y.dtype == dtype
    np.testing.assert_array_equal(x, kept[0])
    np.testing.assert_array_equal(y, kept[1])


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_the_share_of_mixup_is_of_the_beta_distribution(alpha):
    x = np.array([[0.0], [1.0]])
    generator, mix = rng(), mixup(alpha)
    rows = [mix(x, x, generator)[0].ravel() for _ in range(4000)]
    shares = np.array([b for a, b in rows if a + b == 1 and (a, b) != (0, 1)])
    assert shares.mean() == pytest.approx(0.5, abs=0.03)
    assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)


def test_mixup_of_a_regression():
    x = images(30, 5, dtype=np.float64)
    for targets in (x @ np.arange(5.0), x @ np.ones((5, 2))):
        mixed_x, mixed_y = mixup(1)(x, targets, rng())
        weights = np.arange(5.0) if targets.ndim == 1 else np.ones((5, 2))
        assert mixed_y.shape == targets.shape
        np.testing.assert_allclose(mixed_y, mixed_x @ weights, rtol=1e-12)


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("shape", [(8, 12), (7, 5, 3)])
def test_the_targets_of_cutmix_are_the_shares_of_the_areas(shape, flat):
    n = 6
    x = np.empty((n, *shape), np.float32)
    x[:] = np.arange(n).reshape(n, *[1] * len(shape))
    x = x.reshape(n, -1) if flat else x
    y = np.eye(n, dtype=np.float32)
    clipped = changed = 0
    for seed in range(200):
        mixed_x, mixed_y = cutmix(shape)(x, y, rng(seed))
        assert mixed_x.shape == x.shape
        replay = rng(seed)
        side, partner = np.sqrt(1 - replay.beta(1, 1)), replay.permutation(n)
        area = np.zeros((n, n))
        for row, image in enumerate(mixed_x.reshape(n, *shape[:2], -1)):
            assert (image == image[..., :1]).all()
            owners = image[..., 0].astype(int)
            np.add.at(area, (row, owners.ravel()), 1 / owners.size)
            foreign = owners == partner[row]
            if partner[row] == row or not foreign.any():
                continue
            assert (foreign | (owners == row)).all()
            sides = foreign.any(axis=1).sum(), foreign.any(axis=0).sum()
            assert np.prod(sides) == foreign.sum()
            whole = [2 * (int(side * size) // 2) for size in shape[:2]]
            assert (np.array(sides) <= whole).all()
            clipped += (np.array(sides) < whole).any()
            changed += 1
        np.testing.assert_allclose(mixed_y, area, atol=1e-6)
    assert 0.3 * changed < clipped < changed
    assert changed > 100


def test_mixtures_keep_whole_rows_where_nothing_is_mixed():
    x, y = images(1, 64), one_hot(np.array([1]), 3)
    for mix in (mixup(1), cutmix((8, 8))):
        mixed_x, mixed_y = mix(x, y, rng())
        np.testing.assert_array_equal(mixed_x, x)
        np.testing.assert_array_equal(mixed_y, y)
        assert mix(x[:0], y[:0], rng())[0].shape == (0, 64)


@pytest.mark.parametrize("mix", [mixup(), cutmix((8, 8))])
@pytest.mark.parametrize(
    ("x", "y", "generator", "error", "message"),
    [
        (images(4, 64), np.arange(4), rng(), TypeError, "y .*int64; .*one_hot"),
        (images(4, 64).astype(int), np.eye(4), rng(), TypeError, "x must be float32"),
        (images(4, 64), np.eye(3), rng(), ValueError, "equally many rows"),
        (images(4, 64), np.eye(4), 0, TypeError, "rng must be a numpy.random.Generator"),
    ],
)
def test_errors_of_mixtures(mix, x, y, generator, error, message):
    with pytest.raises(error, match=message):
        mix(x, y, generator)


def test_cutmix_needs_images_of_its_shape():
    with pytest.raises(ValueError, match=r"x must have shape \(n, 64\) or \(n, 8, 8\)"):
        cutmix((8, 8))(images(4, 63), np.eye(4), rng())


@pytest.mark.parametrize("alpha", [0, -1, np.nan, None, "1"])
def test_alpha_must_be_positive(alpha):
    for make in (mixup, lambda a: cutmix((8, 8), a)):
        with pytest.raises(ValueError, match="alpha must be a positive number"):
            make(alpha)


# Targets


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", [np.uint8, np.int64])
def test_one_hot(kind, dtype):
    actual = one_hot(np.array([2, 0, 3, 2], kind), 4, dtype)
    assert actual.dtype == dtype
    np.testing.assert_array_equal(actual, [[0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((np.array([0, 4, -1]), 4), IndexError, r"labels\[1\] is 4, but the classes are 0 to 3"),
        ((np.array([0, -1]), 4), IndexError, r"labels\[1\] is -1"),
        ((np.array([0.0]), 4), TypeError, "labels must be of an integer dtype, not float64"),
        (([0, 1], 4), TypeError, "labels must be an array"),
        ((np.zeros((2, 1), int), 4), ValueError, r"labels must have shape \(n,\), not \(2, 1\)"),
        ((np.array([0]), 0), ValueError, "classes must be a positive integer"),
        ((np.array([0]), 4, np.int64), TypeError, "dtype must be float32 or float64"),
    ],
)
def test_errors_of_one_hot(arguments, error, message):
    with pytest.raises(error, match=message):
        one_hot(*arguments)
