import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from strangers import FLOAT, FLOAT16, UINT8, exported, linear, saved

from csd_core.standalone.foreign import is_exported_by_csd
from csd_core.standalone.preprocessing import Preprocessing
from csd_core.standalone.wrapping import wrap
from csd_core.system.errors import ArtifactError, CompatibilityError, ParamsError

DRAW = np.random.default_rng(0)
PIXELS = DRAW.integers(0, 256, (7, 6, 6, 3), np.uint8)
MATRIX = DRAW.normal(size=(6 * 6 * 3, 5))


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def wrapped(model, tmp_path, **options):
    return wrap(saved(model, tmp_path / "foreign.onnx"), tmp_path / "wrapped.onnx", Preprocessing(**options))


@pytest.mark.parametrize("kind", [UINT8, FLOAT, FLOAT16])
@pytest.mark.parametrize(("shape", "axes"), [(("n", 3, 6, 6), (0, 3, 1, 2)), (("n", 6, 6, 3), (0, 1, 2, 3))])
def test_pixels_reach_the_model_as_its_team_feeds_them(kind, shape, axes, tmp_path):
    options = {} if kind == UINT8 else {"mean": "0.5,0.4,0.3", "std": "0.2,0.3,0.4"}
    fed = PIXELS if kind == UINT8 else (PIXELS / 255 - [0.5, 0.4, 0.3]) / [0.2, 0.3, 0.4]
    expected = unit(fed.transpose(axes).reshape(len(PIXELS), -1) @ MATRIX)
    embedder = wrapped(linear(MATRIX, shape=shape, kind=kind), tmp_path, **options)
    assert embedder(PIXELS) == pytest.approx(expected, abs=5e-3 if kind == FLOAT16 else 1e-5)
    assert (embedder.metadata.size, embedder.metadata.channels, embedder.metadata.dimension) == (6, 3, 5)


def test_without_options_floats_lie_between_0_and_1(tmp_path):
    model = linear(MATRIX, shape=("n", 6, 6, 3), bias=[1, 2, 3, 4, 5])
    expected = unit(PIXELS.reshape(7, -1) / 255 @ MATRIX + [1, 2, 3, 4, 5])
    assert wrapped(model, tmp_path)(PIXELS) == pytest.approx(expected, abs=1e-5)


def test_one_mean_serves_all_channels_and_the_scale_is_free(tmp_path):
    expected = unit((PIXELS.reshape(7, -1) / 2 - 10) @ MATRIX)
    embedder = wrapped(linear(MATRIX, shape=("n", 6, 6, 3)), tmp_path, scale=0.5, mean="10")
    assert embedder(PIXELS) == pytest.approx(expected, abs=1e-5)


def test_a_size_that_the_file_leaves_open_comes_from_the_options(tmp_path):
    model = linear(MATRIX, shape=("n", 3, "h", "w"))
    assert wrapped(model, tmp_path, image_size=6, resize="pad").metadata.form.size == 6
    with pytest.raises(ParamsError, match=r"n x 3 x h x w leaves the images' size open; add --image-size"):
        wrapped(model, tmp_path)


def test_the_form_of_images_comes_from_the_options(tmp_path):
    options = {"image_size": 6, "resize": "crop", "crop_share": 0.875, "background": "white"}
    form = wrapped(linear(MATRIX, shape=("n", 3, "h", "w")), tmp_path, **options).metadata.form
    assert (form.resize, form.crop_share, form.background) == ("crop", 0.875, "white")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"background": "red"}, "--background red: no background; write black"),
        ({"crop_share": 0.9}, "--crop-share 0.9: counts with --resize crop alone; add that"),
        ({"crop_share": 1.5, "resize": "crop"}, "--crop-share 1.5: Input should be less than or equal to 1"),
    ],
)
def test_a_form_that_makes_no_sense_is_one_line(tmp_path, options, line):
    with pytest.raises(ParamsError, match=line):
        wrapped(linear(MATRIX, shape=("n", 6, 6, 3)), tmp_path, **options)


def test_a_size_that_the_graph_cannot_take_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match=r"cannot embed 3 images of 3 x 12 x 12 .*; export it with a dynamic batch"):
        wrapped(linear(MATRIX, shape=("n", 3, "h", "w")), tmp_path, image_size=12)


def test_a_shape_that_says_nothing_about_channels_needs_the_layout(tmp_path):
    model = linear(DRAW.normal(size=(27, 2)), shape=("n", 3, 3, 3))
    with pytest.raises(ParamsError, match=r"add --layout nchw or --layout nhwc"):
        wrapped(model, tmp_path)
    assert wrapped(model, tmp_path, layout="nhwc").metadata.form.size == 3


def branching():
    """A model whose tensors have the names of csd's form, used from inside a branch too."""
    floats = helper.make_tensor_value_info("embeddings", FLOAT, None)
    positive, negative = (
        helper.make_graph([helper.make_node("Mul", ["images", sign], ["embeddings"])], name, [], [floats])
        for name, sign in (("positive", "one"), ("negative", "minus"))
    )
    nodes = [
        helper.make_node("ReduceSum", ["images"], ["total"], keepdims=0),
        helper.make_node("Greater", ["total", "zero"], ["condition"]),
        helper.make_node("If", ["condition"], ["embeddings"], then_branch=positive, else_branch=negative),
        helper.make_node("Flatten", ["embeddings"], ["features"]),
    ]
    constants = {"zero": 0.0, "one": 1.0, "minus": -1.0}
    graph = helper.make_graph(
        nodes,
        "branching",
        [helper.make_tensor_value_info("images", FLOAT, ["n", 6, 6, 3])],
        [helper.make_tensor_value_info("features", FLOAT, ["n", 108])],
        [numpy_helper.from_array(np.float32(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_names_that_the_model_shares_with_csds_form_are_kept_apart(tmp_path):
    assert wrapped(branching(), tmp_path)(PIXELS) == pytest.approx(unit(PIXELS.reshape(7, -1) / 255.0), abs=1e-5)


def test_the_first_output_of_one_vector_an_image_is_taken(tmp_path):
    model = linear(MATRIX, shape=("n", 6, 6, 3))
    model.graph.output.insert(0, helper.make_tensor_value_info("floats", FLOAT, None))
    model.graph.output.append(helper.make_tensor_value_info("flat", FLOAT, None))
    assert wrapped(model, tmp_path).metadata.dimension == 5


def test_equal_files_and_options_give_equal_bytes_and_others_another_digest(tmp_path):
    model = linear(MATRIX, shape=("n", 6, 6, 3))
    first, again, other = (wrapped(model, tmp_path, mean=mean).digest for mean in ("0.5", "0.5", "0.4"))
    assert first == again != other


def test_what_csd_exported_is_known_as_such(tmp_path):
    foreign = saved(linear(MATRIX, shape=("n", 6, 6, 3)), tmp_path / "foreign.onnx")
    ours = saved(exported(DRAW.normal(size=(64, 4))), tmp_path / "ours.onnx")
    wrap(foreign, tmp_path / "wrapped.onnx", Preprocessing())
    assert [is_exported_by_csd(path) for path in (foreign, ours, tmp_path / "wrapped.onnx")] == [False, True, True]


def two_inputs():
    model = linear(MATRIX, shape=("n", 6, 6, 3))
    model.graph.input.append(helper.make_tensor_value_info("mask", FLOAT, ["n"]))
    return model


def no_vectors():
    model = linear(MATRIX, shape=("n", 6, 6, 3))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("floats", FLOAT, None))
    return model


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (two_inputs(), ArtifactError, r"has 2 inputs \(pixels, mask\)"),
        (no_vectors(), ArtifactError, r"of 3 images it makes \(3, 6, 6, 3\)"),
        (linear(MATRIX, shape=("n", 18, 6)), ArtifactError, r"tensor\(float\) n x 18 x 6"),
        (linear(MATRIX, shape=("n", 6, 6, 3), kind=TensorProto.INT64), ArtifactError, r"tensor\(int64\)"),
        (linear(MATRIX, shape=(1, 6, 6, 3)), ArtifactError, r"its batch is fixed \(1 x 6 x 6 x 3\)"),
        (linear(MATRIX, shape=("n", 3, 9, 4)), ArtifactError, r"csd makes square ones"),
        (linear(MATRIX * np.inf, shape=("n", 6, 6, 3)), CompatibilityError, r"vectors that are not finite"),
        (linear(MATRIX, shape=("n", 6, 6, 3), opset=6), ArtifactError, r"onnxruntime cannot load it"),
    ],
)
def test_what_is_no_embedder_of_images_is_refused_in_one_line(model, error, message, tmp_path):
    with pytest.raises(error, match=message) as caught:
        wrapped(model, tmp_path)
    assert "\n" not in str(caught.value)
    assert "foreign.onnx" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 7}, r"--image-size 7: .* takes images of 6 pixels"),
        ({"mean": "0.5,0.5"}, r"--mean 0.5,0.5: 2 numbers for 3 channels"),
        ({"mean": "half"}, r"--mean half: not numbers"),
        ({"std": "0"}, r"--std 0: must be above 0"),
        ({"scale": 0.0}, r"--scale 0.0: must be a finite number other than 0"),
    ],
)
def test_options_that_do_not_fit_are_named(options, message, tmp_path):
    with pytest.raises(ParamsError, match=message):
        wrapped(linear(MATRIX, shape=("n", 6, 6, 3)), tmp_path, **options)


def test_pixels_that_are_taken_as_they_are_need_no_mean(tmp_path):
    with pytest.raises(ParamsError, match=r"--mean: .* takes uint8 pixels as they are"):
        wrapped(linear(MATRIX, shape=("n", 6, 6, 3), kind=UINT8), tmp_path, mean="0.5")


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x07garbage"])
def test_a_file_that_is_no_model_is_refused(content, tmp_path):
    (tmp_path / "broken.onnx").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"broken.onnx: onnxruntime cannot load it"):
        wrap(tmp_path / "broken.onnx", tmp_path / "wrapped.onnx", Preprocessing())
    assert not (tmp_path / "wrapped.onnx").exists()


def test_the_wrapped_file_is_a_valid_model(tmp_path):
    wrapped(linear(MATRIX, shape=("n", 3, 6, 6)), tmp_path)
    onnx.checker.check_model(tmp_path / "wrapped.onnx", full_check=True)
