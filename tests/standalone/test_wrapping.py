import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from strangers import FLOAT, FLOAT16, UINT8, exported, linear, saved
from torchvision import transforms

from csd_core.data.decode import decode
from csd_core.records.stages import ImageForm
from csd_core.retrieval.embedder import Embedder
from csd_core.standalone.models.foreign import is_exported_by_csd
from csd_core.standalone.models.preprocessing import Preprocessing
from csd_core.standalone.models.wrapping import wrap
from csd_core.system.errors import ArtifactError, CompatibilityError, ParamsError

DRAW = np.random.default_rng(0)
PIXELS = DRAW.integers(0, 256, (7, 6, 6, 3), np.uint8)
MATRIX = DRAW.normal(size=(6 * 6 * 3, 5))


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def wrapped(model, tmp_path, *, output="features", **options):
    """Few dimensions are enough here, so the output is named."""
    file = saved(model, tmp_path / "foreign.onnx")
    return wrap(file, tmp_path / "wrapped.onnx", Preprocessing(output=output, **options))


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
        ({"shorter_side": 4}, "--shorter-side 4: is below the size of 6 pixels"),
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


def with_head(last, *, dimension=20, names=("features",)):
    """A linear model of 20 dimensions and more nodes behind it; its outputs are `names`."""
    model = linear(DRAW.normal(size=(108, dimension)), shape=("n", 6, 6, 3))
    model.graph.node.extend(last)
    del model.graph.output[:]
    model.graph.output.extend(helper.make_tensor_value_info(name, FLOAT, None) for name in names)
    return model


def test_one_of_several_outputs_of_vectors_is_never_taken_by_itself(tmp_path):
    model = with_head([helper.make_node("Neg", ["features"], ["other"])], names=("other", "features", "floats"))
    with pytest.raises(
        ParamsError, match=r"2 outputs of vectors \(other N x 20, features N x 20, floats N x 6 x 6 x 3\)"
    ):
        wrapped(model, tmp_path, output=None)
    one, other = (wrapped(model, tmp_path, output=name)(PIXELS) for name in ("features", "other"))
    assert one == pytest.approx(-other)
    with pytest.raises(ParamsError, match=r"--output floats: is no output of vectors"):
        wrapped(model, tmp_path, output="floats")


@pytest.mark.parametrize(
    ("model", "doubt"),
    [
        (linear(MATRIX, shape=("n", 6, 6, 3)), r"its output features has 5 dimensions.*add --output features"),
        (
            with_head([helper.make_node("Softmax", ["features"], ["odds"])], names=("odds",)),
            r"looks like probabilities",
        ),
    ],
)
def test_an_output_that_looks_like_something_else_is_asked_about(model, doubt, tmp_path):
    with pytest.raises(ParamsError, match=doubt):
        wrapped(model, tmp_path, output=None)
    wrapped(model, tmp_path, output=model.graph.output[0].name)


def test_what_pooling_leaves_in_four_axes_is_flattened(tmp_path):
    axes = numpy_helper.from_array(np.array([2, 3]), "axes")
    model = with_head([helper.make_node("Unsqueeze", ["features", "axes"], ["pooled"])], names=("pooled", "features"))
    model.graph.initializer.append(axes)
    flat, pooled = (wrapped(model, tmp_path, output=name) for name in ("features", "pooled"))
    assert np.array_equal(flat(PIXELS), pooled(PIXELS))


@pytest.mark.parametrize("rigid", [False, True])
def test_a_model_of_one_image_takes_any_number(rigid, tmp_path):
    """Rigid: a Reshape to one row makes a graph that breaks with a dynamic first axis, so it is looped."""
    model = linear(MATRIX, shape=(1, 6, 6, 3))
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1
    if rigid:
        model.graph.node[1].CopyFrom(helper.make_node("Reshape", ["floats", "row"], ["flat"]))
        model.graph.initializer.append(numpy_helper.from_array(np.array([1, 108]), "row"))
    embedder = wrapped(model, tmp_path)
    assert ("Scan" in {node.op_type for node in onnx.load(tmp_path / "wrapped.onnx").graph.node}) == rigid
    assert embedder(PIXELS) == pytest.approx(unit(PIXELS.reshape(7, -1) / 255 @ MATRIX), abs=1e-5)
    assert embedder(PIXELS[:1]) == pytest.approx(embedder(PIXELS)[:1], abs=1e-6)


@pytest.mark.parametrize(("shape", "axes"), [(("n", 3, 6, 6), (0, 3, 1, 2)), (("n", 6, 6, 3), (0, 1, 2, 3))])
def test_caffes_models_see_blue_green_red_without_scale(shape, axes, tmp_path):
    fed = PIXELS[..., ::-1] - np.array([103.939, 116.779, 123.68])
    expected = unit(fed.transpose(axes).reshape(7, -1) @ MATRIX)
    model = linear(MATRIX, shape=shape)
    assert wrapped(model, tmp_path, preset="caffe")(PIXELS) == pytest.approx(expected, abs=1e-5)
    said = wrapped(model, tmp_path, bgr=True, scale=1.0, mean="103.939,116.779,123.68")
    assert said(PIXELS) == pytest.approx(expected, abs=1e-5)


def test_weights_in_a_file_beside_the_model_come_along(tmp_path):
    matrix = DRAW.normal(size=(108, 20))
    file = tmp_path / "split.onnx"
    onnx.save(
        linear(matrix, shape=("n", 6, 6, 3)), file, save_as_external_data=True, location="split.data", size_threshold=0
    )
    made = wrap(file, tmp_path / "whole.onnx", Preprocessing())
    (tmp_path / "split.data").unlink()
    again = Embedder.load(tmp_path / "whole.onnx")
    assert again(PIXELS) == pytest.approx(unit(PIXELS.reshape(7, -1) / 255 @ matrix), abs=1e-5)
    assert again.digest == made.digest


def torchvisions(image, *, shorter, size):
    transform = transforms.Compose(
        [transforms.Resize(shorter, transforms.InterpolationMode.BILINEAR), transforms.CenterCrop(size)]
    )
    return np.asarray(transform(image))


def test_resize_then_crop_is_torchvisions_to_the_pixel(tmp_path):
    for size in ((97, 61), (61, 97), (300, 200)):
        image = Image.fromarray(DRAW.integers(0, 256, (*size, 3), np.uint8))
        image.save(tmp_path / "photo.png")
        form = ImageForm(size=28, channels=3, resize="crop", shorter_side=32, resampling="bilinear")
        assert np.array_equal(decode(tmp_path / "photo.png", form), torchvisions(image, shorter=32, size=28))


@pytest.mark.parametrize("size", [(9, 13), (40, 25), (16, 16)])
def test_opencvs_bilinear_is_four_pixels_around_each_centre(size, tmp_path):
    """cv2.INTER_LINEAR by its definition: half-pixel centres, edges repeated, no antialiasing; it rounds to a byte."""
    pixels = DRAW.integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    form = ImageForm(size=14, channels=3, resize="squash", resampling="opencv-bilinear")
    expected = pixels.astype(float)
    for axis, length in enumerate(size):
        centre = (np.arange(14) + 0.5) * length / 14 - 0.5
        low = np.floor(centre).astype(int)
        share = (centre - low).reshape([-1 if each == axis else 1 for each in range(3)])
        first, second = (np.take(expected, np.clip(each, 0, length - 1), axis) for each in (low, low + 1))
        expected = first * (1 - share) + second * share
    assert np.abs(decode(tmp_path / "photo.png", form) - expected).max() <= 1 + 1e-9


def test_a_wrapped_model_is_verified_by_a_vector_or_told_what_comes_closest(csd, tmp_path):
    matrix = DRAW.normal(size=(24 * 24 * 3, 20))
    file = saved(linear(matrix, shape=("n", 3, 24, 24)), tmp_path / "model.onnx")
    image = Image.fromarray(DRAW.integers(0, 256, (90, 60, 3), np.uint8))
    image.save(tmp_path / "photo.png")
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    fed = (torchvisions(image, shorter=27, size=24) / 255 - mean) / std
    np.save(tmp_path / "vector.npy", fed.transpose(2, 0, 1).reshape(-1) @ matrix)
    verify = ("--verify", "photo.png", "vector.npy", "-o", "wrapped.onnx")
    code, _, errors = csd("upgrade", "wrap", file, "--preset", "imagenet", *verify)
    assert code not in (0, 7)
    assert (
        "closest is --shorter-side 27 --resampling bilinear --preset imagenet with 1.0000, which is the same" in errors
    )
    assert not (tmp_path / "wrapped.onnx").exists()
    right = ("--preset", "imagenet", "--shorter-side", "27", "--resampling", "bilinear")
    code, printed, errors = csd("upgrade", "wrap", file, *right, *verify)
    assert code == 0, errors
    assert "photo.png: the same vector, cosine 1.000" in printed
    with pytest.raises(ParamsError, match=r"--preset imagenet: says what --mean would"):
        wrap(file, tmp_path / "twice.onnx", Preprocessing(preset="imagenet", mean="0.5"))


def test_equal_files_and_options_give_equal_bytes_and_others_another_digest(tmp_path):
    model = linear(MATRIX, shape=("n", 6, 6, 3))
    first, again, other = (wrapped(model, tmp_path, mean=mean).digest for mean in ("0.5", "0.5", "0.4"))
    assert first == again != other


def test_what_csd_exported_is_known_as_such(tmp_path):
    foreign = saved(linear(DRAW.normal(size=(108, 20)), shape=("n", 6, 6, 3)), tmp_path / "foreign.onnx")
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
        (no_vectors(), ArtifactError, r"of 3 images it makes floats N x 6 x 6 x 3"),
        (linear(MATRIX, shape=("n", 18, 6)), ArtifactError, r"tensor\(float\) n x 18 x 6"),
        (linear(MATRIX, shape=("n", 6, 6, 3), kind=TensorProto.INT64), ArtifactError, r"tensor\(int64\)"),
        (linear(MATRIX, shape=(2, 6, 6, 3)), ArtifactError, r"its batch is fixed \(2 x 6 x 6 x 3\)"),
        (linear(MATRIX, shape=("n", 3, 9, 4)), ArtifactError, r"csd makes square ones"),
        (linear(np.full((108, 20), np.inf), shape=("n", 6, 6, 3)), CompatibilityError, r"vectors that are not finite"),
        (linear(np.zeros((108, 20)), shape=("n", 6, 6, 3)), CompatibilityError, r"not finite, or of length 0"),
        (linear(MATRIX, shape=("n", 6, 6, 3), opset=6), ArtifactError, r"onnxruntime cannot load it"),
    ],
)
def test_what_is_no_embedder_of_images_is_refused_in_one_line(model, error, message, tmp_path):
    with pytest.raises(error, match=message) as caught:
        wrapped(model, tmp_path, output=None)
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
