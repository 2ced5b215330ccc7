"""The training engine: one stage from start weights, or from the champion, to the weights of its best epoch."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from csd_core.learning.augmentation.augment import augment
from csd_core.learning.batches import batch_sizes, epoch_batches
from csd_core.learning.checkpoint import (
    Checkpoint,
    Epoch,
    TrainingState,
    load_by_all,
    optimizer_state,
    restore_optimizer,
)
from csd_core.learning.curves import live_curves
from csd_core.learning.distributed.group import ALONE, ProcessGroup
from csd_core.learning.embedding import embed, mean_of_pooled, recall_at_1
from csd_core.learning.fitted_start import fit_start
from csd_core.learning.networks.blocks import batch_norms, checkpointed
from csd_core.learning.networks.heads import CentredHead
from csd_core.learning.networks.weights import TrainedModel, plain
from csd_core.learning.schedules import SHARE, new_optimizer, rate_factor
from csd_core.learning.seeding import keyed_generator
from csd_core.learning.start import StageData, start_of
from csd_core.learning.teacher import Outputs, outputs_of
from csd_core.params.training import Training
from csd_core.records.stages import ModelRecord
from csd_core.system.console import Meter, echo, progress
from csd_core.system.errors import TrainingError

LIVE = "live"


def train(
    data: StageData,
    training: Training,
    *,
    champion: TrainedModel | None,
    device: torch.device,
    work: Path,
    start_weights: Path | None = None,
    on_first_batch: Callable[[], None] = lambda: None,
    ranks: ProcessGroup = ALONE,
) -> TrainedModel:
    """Train a stage, resuming from the checkpoint in `work` if there is one.

    Without a champion this is a first stage (`training.first`). With one it is the teacher, `training.later` holds, and
    its method says what is added to the loss and, as a rule, that the student starts from the champion's weights. The
    outcome depends on the arguments, not on how often the run was stopped; of `ranks` only its rounding does.

    Args:
        data: Images, classes and names.
        training: Seed, network and recipes.
        champion: The active model; left as it is.
        device: Where to compute.
        work: Scratch folder, unique to this stage and its inputs; it holds the checkpoint and, in `live`, the curves.
            The caller removes it when the outcome is saved.
        start_weights: File of the first stage's start weights, if `training.network.weights` names one.
        on_first_batch: Called before the first step.
        ranks: The processes that do this together, all with the same arguments; the first one writes.

    Raises:
        TrainingError: if a loss or an embedding is not finite, or nothing can be learned; the last checkpoint stays.
        CompatibilityError: if the champion takes images of another form.
    """
    stage = _Stage(data, training, champion=champion, device=device, start_weights=start_weights, ranks=ranks)
    stage.resume(work)
    epochs, images = stage.recipe.epochs, stage.images_per_epoch
    with (
        live_curves(work / LIVE, stage.progress.history) if ranks.first else nullcontext() as curves,
        progress(f"train {data.task}", total=epochs * images, unit="images") as meter,
    ):
        done = len(stage.progress.history)
        meter.resume_at(done * images)
        if not done:
            scalars = stage.judge_start_weights()
            if curves and not epochs:
                curves.add(scalars)
        for epoch in range(done, epochs):
            started = time.monotonic()
            scalars = stage.run_epoch(epoch, meter, on_first_batch if epoch == done else lambda: None)
            if curves:
                stage.checkpoint().save(work)
                curves.add(scalars)
            _tell(scalars, epoch=epoch, epochs=epochs, rate=images / (time.monotonic() - started))
    return stage.outcome()


class _Stage:
    """The state of one stage while it runs."""

    def __init__(
        self,
        data: StageData,
        training: Training,
        *,
        champion: TrainedModel | None,
        device: torch.device,
        start_weights: Path | None,
        ranks: ProcessGroup = ALONE,
    ) -> None:
        self._data, self._seed, self._device, self._ranks = data, training.seed, device, ranks
        self._precision = training.precision
        self._start = start_of(
            data, training, champion=champion, device=device, start_weights=start_weights, ranks=ranks
        )
        self._student, self._teacher, self._objective = self._start.student, self._start.teacher, self._start.objective
        self.recipe = self._start.recipe
        self._optimizer = new_optimizer(self._student, self.recipe)
        names = {parameter: name for name, parameter in self._student.named_parameters()}
        self._names = [names[each] for group in self._optimizer.param_groups for each in group["params"]]
        self._batch_sizes = batch_sizes(data.train.per_epoch, self.recipe.batch_size)
        self._best: dict[str, Tensor] = {}
        self.progress = TrainingState()

    @property
    def images_per_epoch(self) -> int:
        return sum(self._batch_sizes)

    def resume(self, work: Path) -> None:
        """Take over the state of an interrupted run."""
        found = load_by_all(work, self._ranks)
        if found is None:
            return
        self._student.load_state_dict(found.student)
        restore_optimizer(self._optimizer, self._names, found.optimizer)
        self._best, self.progress = found.best, found.progress
        echo(f"resuming {self._data.task} after epoch {len(found.progress.history)} of {self.recipe.epochs}")

    def checkpoint(self) -> Checkpoint:
        return Checkpoint(
            progress=self.progress,
            student=self._student.state_dict(),
            optimizer=optimizer_state(self._optimizer, self._names),
            best=self._best,
        )

    def run_epoch(self, epoch: int, meter: Meter, on_first_batch: Callable[[], None]) -> Epoch:
        """Train for one epoch (counted from 0), measure it on select and remember it if it is the best."""
        self._student.train()
        self._student.head.train(self._start.is_fresh)  # else its statistics stay
        for part in (*self._start.frozen, *(batch_norms(self._student) if self._start.fixed_statistics else ())):
            part.eval()
        key = (self._seed, self._data.task, "dropout", epoch, self._ranks.rank)
        torch.manual_seed(keyed_generator(*key).initial_seed())  # networks drop paths out by the global generator
        generator = keyed_generator(self._seed, self._data.task, "epoch", epoch)
        batches = epoch_batches(
            self._data.train,
            batch_size=self.recipe.batch_size,
            per_class=self.recipe.per_class,
            generator=generator,
            ranks=self._ranks,
        )
        names = (*self._objective.weights, "total")
        sums = torch.zeros(len(names), dtype=torch.float64, device=self._device)
        steps: deque[Tensor] = deque()
        for batch, (images, targets) in enumerate(batches):
            ready = augment(
                images.to(self._device),
                self.recipe.augmentation,
                generator=generator,
                batch=len(targets),
                share=self._ranks.share(len(targets)),
            )
            if batch == 0:
                on_first_batch()
            losses = self._step(ready, targets.to(self._device), epoch=epoch, batch=batch)
            sums += losses.double() * len(targets)
            steps.append(losses)
            if batch:  # looked at when the next step is on its way, so that no device waits for the look
                self._refuse_non_finite(steps.popleft(), names, epoch=epoch, batch=batch - 1)
            meter.advance(len(targets))
        self._refuse_non_finite(steps.popleft(), names, epoch=epoch, batch=len(self._batch_sizes) - 1)
        means = (sums / self.images_per_epoch).tolist()
        scalars: Epoch = {f"train/{name}": mean for name, mean in zip(names, means, strict=True)}
        scalars["train/lr"] = self._optimizer.param_groups[0]["lr"]
        recall = self._measure(epoch)
        if recall is not None:
            scalars["select/recall_at_1"] = recall
            meter.note(f"loss {means[-1]:.3f} · recall@1 {recall:.2%}")
        self._remember(epoch, recall, scalars)
        return scalars

    def _step(self, images: Tensor, targets: Tensor, *, epoch: int, batch: int) -> Tensor:
        """One update by this process's share of the images and all targets; the terms and their total, (terms + 1,)."""
        factor = rate_factor(
            self.recipe.schedule,
            step=epoch * len(self._batch_sizes) + batch,
            steps_per_epoch=len(self._batch_sizes),
            epochs=self.recipe.epochs,
        )
        for group in self._optimizer.param_groups:
            group["lr"] = self.recipe.optimizer.lr * factor * group[SHARE]
        taught = self._of_all(self._teacher(images), targets) if self._teacher else None
        with checkpointed(self._student.backbone) if self.recipe.gradient_checkpointing else nullcontext():
            student = self._of_all(outputs_of(self._student, images, self._precision), targets)
        terms = self._objective.terms(student, targets, taught)
        total = self._objective.total(terms)
        losses = torch.stack([*terms.values(), total]).detach()
        self._optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
        self._ranks.sum_gradients(self._student.parameters())
        self._optimizer.step()
        return losses

    def _of_all(self, outputs: Outputs, targets: Tensor) -> Outputs:
        """Return the outputs for the whole batch, of which `outputs` are those of this process's share."""
        return outputs.each(lambda share: self._ranks.gather(share, total=len(targets)))

    def _refuse_non_finite(self, losses: Tensor, names: Sequence[str], *, epoch: int, batch: int) -> None:
        finite = losses.isfinite().tolist()
        if all(finite):
            return
        name = names[finite.index(False)]
        raise TrainingError(
            f"loss {name} of task {self._data.task} is {losses[names.index(name)].item()} in epoch {epoch + 1}, batch "
            f"{batch + 1} of {len(self._batch_sizes)}; lower optimizer.lr or this term's weight (the checkpoint of "
            f"epoch {epoch} stays)"
        )

    def _measure(self, epoch: int) -> float | None:
        select, ranks = self._data.select, self._ranks
        own = embed(self._student, select.part(ranks.share(len(select))))
        vectors = ranks.gather(torch.from_numpy(own), total=len(select)).numpy()
        if not np.isfinite(vectors).all():
            raise TrainingError(
                f"embeddings of task {self._data.task} are not finite after epoch {epoch + 1}; lower optimizer.lr (the "
                f"checkpoint of epoch {epoch} stays)"
            )
        if not ranks.first:
            return ranks.from_first(None)
        return ranks.from_first(recall_at_1(vectors, select.targets.numpy(), select.groups))

    def _remember(self, epoch: int, recall: float | None, scalars: Epoch) -> None:
        before = self.progress
        # Without a figure to choose by, the last epoch is as good as any.
        better = recall is None or before.best_recall is None or recall > before.best_recall
        if better:
            self._best = plain(self._student.state_dict())
        self.progress = replace(
            before,
            history=(*before.history, scalars),
            best_epoch=epoch + 1 if better else before.best_epoch,
            best_recall=recall if better else before.best_recall,
        )

    def judge_start_weights(self) -> Epoch:
        """Let start weights that are given compete with the epochs, which must find more of select than they do."""
        student, head = self._student, self._student.head
        if not (self._start.is_fresh and student.network.weights):
            return {}
        fit_start(student, self._data.train, self._ranks)
        if not self.recipe.epochs:
            if isinstance(head, CentredHead) and not head.mean.any():  # start weights may bring one
                head.mean.copy_(mean_of_pooled(student, self._data.train, self._ranks))
            echo(f"{self._data.task}: the start weights as they are, by training.first.epochs: 0")
        self.progress = TrainingState(best_recall=(recall := self._measure(-1)))
        self._best = plain(student.state_dict())
        return {} if recall is None else {"select/recall_at_1": recall}

    def outcome(self) -> TrainedModel:
        """Return the best epoch's model; a stage that learned afresh centres its features, if its head does that."""
        self._student.load_state_dict(self._best)
        head, recall = self._student.head, self.progress.best_recall
        if self._start.is_fresh and self.recipe.epochs and isinstance(head, CentredHead):
            head.mean.copy_(mean_of_pooled(self._student, self._data.train, self._ranks))
            recall = self._measure(self.progress.best_epoch - 1)
        record = ModelRecord(
            task=self._data.task,
            network=self._start.network,
            images=self._data.form,
            classes=self._data.classes,
            trained_on=self._data.trained_on,
            remembered=self._data.train.remembered_ids,
            best_epoch=self.progress.best_epoch,
            select_recall=recall,
        )
        return TrainedModel(record=record, network=self._student.eval())


def _tell(scalars: Epoch, *, epoch: int, epochs: int, rate: float) -> None:
    terms = " ".join(
        f"{name.removeprefix('train/')} {value:.4g}" for name, value in scalars.items() if "train/" in name
    )
    recall = scalars.get("select/recall_at_1")
    found = "no select query can hit" if recall is None else f"recall@1 {recall:.2%}"
    echo(f"epoch {epoch + 1}/{epochs}: {terms} · {found} · {rate:,.0f} images/s")
