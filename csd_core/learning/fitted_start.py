"""What given start weights lack before a first stage learns: a projection and a classifier, fitted without a step.

The projection takes the directions in which images differ more than those of one class do.

N images of K classes, F features of the backbone, D dimensions.
"""

import numpy as np
import numpy.typing as npt
import scipy.linalg
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from torch.nn.functional import one_hot

from csd_core.learning.batches import LabelledImages
from csd_core.learning.distributed.group import ProcessGroup
from csd_core.learning.embedding import BATCH, class_means
from csd_core.learning.networks.network import EmbeddingNetwork

SHRINKAGE = 1.0
"""Times the mean variance within classes, added to that of every direction: less finds more of the classes at hand and
less of classes that come later (docs/experiments.md)."""

Doubles = npt.NDArray[np.float64]


def fit_start(network: EmbeddingNetwork, images: LabelledImages, ranks: ProcessGroup) -> None:
    """Fill, in place, the projection that start weights lack, and the classifier's rows with the class means.

    Rows of class means are those of Qi et al. (CVPR 2018). The network is left in evaluation mode.

    Args:
        network: The same in every process.
        images: Their targets are columns of the classifier.
        ranks: The processes, each of which reads its share of the images.
    """
    if network.fits_projection and isinstance(network.projection, nn.Linear):
        _fit_projection(network, network.projection.weight, images, ranks)
    if network.classifier.weight.requires_grad:  # else they are corners of a simplex
        means = class_means(network, images, ranks)
        known = means.any(dim=1, keepdim=True)
        with torch.no_grad():
            network.classifier.weight.copy_(torch.where(known, means, network.classifier.weight))


@torch.inference_mode()
def _fit_projection(network: EmbeddingNetwork, weight: Tensor, images: LabelledImages, ranks: ProcessGroup) -> None:
    """Fill the projection's weight (D, F), in place; its features are as long on average as before."""
    network.eval()
    gram = torch.zeros((weight.shape[1], weight.shape[1]), dtype=torch.float64, device=weight.device)
    sums = torch.zeros((network.classes, weight.shape[1]), dtype=torch.float64, device=weight.device)
    for positions in torch.split(torch.arange(len(images))[ranks.share(len(images))], BATCH):
        features = network.features(images.take(positions).to(weight.device)).double()
        gram += features.T @ features
        sums += one_hot(images.targets[positions].to(weight.device), network.classes).double().T @ features
    of_all, of_classes = (ranks.gather(each[None], total=ranks.count).sum(dim=0).cpu().numpy() for each in (gram, sums))
    counts = np.bincount(images.targets.numpy(), minlength=network.classes)
    rows = directions(of_all, of_classes, counts, dimension=len(weight))
    before, after = (
        float(np.einsum("df,fg,dg->", each, of_all, each, optimize=True))
        for each in (weight.double().cpu().numpy(), rows)
    )
    weight.copy_(torch.from_numpy(rows * (before / after) ** 0.5))


def directions(gram: Doubles, sums: Doubles, counts: npt.NDArray[np.intp], *, dimension: int) -> Doubles:
    """Return the D directions (D, F) along which features vary most, measured by how they vary within classes.

    They are the generalised eigenvectors of the second moments and of the covariance within classes (Fisher, 1936, with
    the second moments in place of the covariance between classes, so that D may exceed K; Friedman's shrinkage, 1989;
    Mikolajczyk & Matas, ICCV 2007, whiten descriptors so). Directions beyond N, or F, are zero.

    Args:
        gram: (F, F) sum of the outer products of the features with themselves.
        sums: (K, F) sums of the features of each class.
        counts: (K,) images of each class.
        dimension: D.
    """
    known, total, features = counts > 0, int(counts.sum()), len(gram)
    means = sums[known] / counts[known, None]
    within = (gram - (means * counts[known, None]).T @ means) / total
    spread = within if len(means) < total else gram / total  # a single image of each class does not differ within it
    within += np.eye(features) * (SHRINKAGE * np.trace(spread) / features)
    count = min(dimension, features, total)
    with threadpool_limits(1, user_api="blas"):  # so that no weight depends on how many threads there are
        _, found = scipy.linalg.eigh(gram / total, within, subset_by_index=(features - count, features - 1))
    largest = found[np.abs(found).argmax(axis=0), np.arange(count)]
    rows = np.zeros((dimension, features))
    rows[:count] = (found * np.sign(largest))[:, ::-1].T  # the sign of an eigenvector is arbitrary
    return rows
