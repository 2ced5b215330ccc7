import numpy as np
import pytest

from csd_core.report.figures import Generation, measure

EAST, NORTH, WEST = (1.0, 0.0), (0.0, 1.0), (-1.0, 0.0)
NORTHEAST = (0.8, 0.6)


def generation(vectors, classes, columns=None):
    return Generation(
        vectors=np.array(vectors, np.float32),
        columns=np.array(columns if columns is not None else np.eye(len(classes), 2), np.float32),
        classes=classes,
    )


def random_line(seed, *, items=60, tasks=3):
    """Random items of `tasks` tasks with two classes each, seen by as many generations."""
    random = np.random.default_rng(seed)
    task_of = np.sort(random.integers(tasks, size=items))
    labels = np.array([f"c{2 * task + random.integers(2)}" for task in task_of])
    generations = []
    for number in range(tasks):
        classes = tuple(f"c{each}" for each in range(2 * number + 2))
        vectors = random.normal(size=(items, 4))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        generations.append(generation(vectors, classes, random.normal(size=(len(classes), 4))))
    return labels, task_of, [(f"c{2 * task}", f"c{2 * task + 1}") for task in range(tasks)], generations


def hit_share(queries, rows, labels):
    """Recall@1 without a query's own row, as a loop; queries alone in their class do not count."""
    hits = []
    for query in range(len(labels)):
        others = [row for row in range(len(labels)) if row != query]
        if not any(labels[row] == labels[query] for row in others):
            continue
        nearest = max(others, key=lambda row: queries[query] @ rows[row])
        hits.append(labels[nearest] == labels[query])
    return np.mean(hits)


def right_share(model, rows, labels, among):
    """Accuracy as a loop."""
    right = []
    for row in rows:
        scores = {
            name: model.vectors[row] @ column / np.linalg.norm(column)
            for name, column in zip(model.classes, model.columns, strict=True)
            if name in among
        }
        right.append(bool(scores) and max(scores, key=scores.get) == labels[row])
    return np.mean(right)


def test_a_line_of_two_tasks_gives_the_figures_that_were_worked_out_by_hand():
    labels = np.array(["a", "a", "b", "b"])
    first = generation([EAST, EAST, NORTH, WEST], ("a",), [EAST])
    second = generation([EAST, NORTHEAST, NORTH, NORTH], ("a", "b"), [EAST, NORTH])

    figures = measure(
        labels=labels,
        groups=np.arange(4),
        task_of=np.array([0, 0, 1, 1]),
        task_classes=[("a",), ("b",)],
        active=[0, 1],
        generations=[first, second],
    )

    # a gallery of one class cannot miss; over everything, b's two lie together at north
    assert figures.own_recall.tolist()[1] == [1.0, 1.0]
    assert figures.seen_recall.tolist()[1] == [1.0, 1.0]
    assert figures.own_recall[0, 0] == 1.0
    assert np.isnan(figures.own_recall[0, 1])
    # by argmax: (0.8, 0.6) is nearer to east, so every item is named rightly
    assert figures.seen_accuracy.tolist()[1] == [1.0, 1.0]
    # first generation: b at north is at right angles to all others, and a tie is a miss; b at west is nearest to north
    assert figures.cross[0, 0] == pytest.approx(3 / 4)
    # second on first: b's first query has its own row at north left out, and ties again; its second finds that row
    assert figures.cross[1, 0] == pytest.approx(3 / 4)
    assert figures.cross[1, 1] == 1.0
    assert figures.all_seen[1].queries == 4
    assert figures.map_at_r == 1.0


@pytest.mark.parametrize("seed", range(4))
def test_every_matrix_agrees_with_a_readable_loop(seed):
    labels, task_of, task_classes, generations = random_line(seed)

    figures = measure(
        labels=labels,
        groups=np.arange(len(labels)),
        task_of=task_of,
        task_classes=task_classes,
        active=[0, 1, 2],
        generations=generations,
    )

    for stage, model in enumerate(generations):
        seen = np.flatnonzero(task_of <= stage)
        for task in range(stage + 1):
            rows = np.flatnonzero(task_of == task)
            own = hit_share(model.vectors[rows], model.vectors[rows], labels[rows])
            assert figures.own_recall[stage, task] == pytest.approx(own)
            assert figures.own_accuracy[stage, task] == pytest.approx(
                right_share(model, rows, labels, task_classes[task])
            )
            everything = {name for names in task_classes[: stage + 1] for name in names}
            assert figures.seen_accuracy[stage, task] == pytest.approx(right_share(model, rows, labels, everything))
        pooled = hit_share(model.vectors[seen], model.vectors[seen], labels[seen])
        assert figures.all_seen[stage].at[1] == pytest.approx(pooled)
        weights = [(task_of[seen] == task).sum() for task in range(stage + 1)]
        assert np.average(figures.seen_recall[stage, : stage + 1], weights=weights) == pytest.approx(pooled)
        for older in range(stage + 1):
            expected = hit_share(model.vectors, generations[older].vectors, labels)
            assert figures.cross[stage, older] == pytest.approx(expected)


def test_what_lies_above_the_diagonal_is_never_a_figure():
    labels, task_of, task_classes, generations = random_line(0)
    figures = measure(
        labels=labels,
        groups=np.arange(len(labels)),
        task_of=task_of,
        task_classes=task_classes,
        active=[0, 1, 2],
        generations=generations,
    )
    for matrix in (figures.own_recall, figures.own_accuracy, figures.seen_recall, figures.seen_accuracy):
        assert np.isnan(matrix[np.triu_indices(3, 1)]).all()
        assert not np.isnan(matrix[np.tril_indices(3)]).any()


def test_a_carried_champion_counts_for_every_stage_it_serves():
    labels, task_of, task_classes, generations = random_line(1)
    figures = measure(
        labels=labels,
        groups=np.arange(len(labels)),
        task_of=task_of,
        task_classes=task_classes,
        active=[0, 0, 0],
        generations=generations[:1],
    )
    assert figures.cross.shape == (1, 1)
    assert figures.own_recall[2, 0] == figures.own_recall[1, 0] == figures.own_recall[0, 0]


def test_a_class_the_model_never_learned_counts_as_an_error():
    labels, task_of, task_classes, generations = random_line(2)
    figures = measure(
        labels=labels,
        groups=np.arange(len(labels)),
        task_of=task_of,
        task_classes=task_classes,
        active=[0, 0, 0],
        generations=generations[:1],
    )
    assert figures.own_accuracy[2, 2] == 0.0
    assert figures.seen_accuracy[2, 2] == 0.0
    assert figures.own_recall[2, 2] > 0.0


def test_without_a_champion_there_are_no_figures():
    labels, task_of, task_classes, _ = random_line(3)
    figures = measure(
        labels=labels,
        groups=np.arange(len(labels)),
        task_of=task_of,
        task_classes=task_classes,
        active=[None] * 3,
        generations=[],
    )
    assert np.isnan(figures.own_recall).all()
    assert figures.all_seen == (None, None, None)
    assert figures.map_at_r is None
    assert figures.cross.shape == (0, 0)


def test_vectors_of_another_dimension_find_nothing():
    labels, task_of, task_classes, (first, second, _) = random_line(0)
    wider = generation(
        np.pad(second.vectors, ((0, 0), (0, 1))), second.classes, np.pad(second.columns, ((0, 0), (0, 1)))
    )
    figures = measure(
        labels=labels,
        groups=np.arange(len(labels)),
        task_of=task_of,
        task_classes=task_classes,
        active=[0, 1, 1],
        generations=[first, wider],
    )
    assert figures.cross[1, 0] == 0.0
    assert figures.cross[1, 1] > 0.0


@pytest.mark.parametrize("twins", [0, 1])
def test_an_item_without_another_group_in_its_class_is_left_out_and_counted(twins):
    """Of class b there is one item, or one and its near-duplicate."""
    labels = np.array(["a", "a", "b", "b"][: 3 + twins])
    model = generation([EAST, EAST, NORTH, NORTH][: 3 + twins], ("a", "b"), [EAST, NORTH])
    figures = measure(
        labels=labels,
        groups=np.array([4, 1, 0, 0])[: 3 + twins],
        task_of=np.zeros(3 + twins, int),
        task_classes=[("a", "b")],
        active=[0],
        generations=[model],
    )
    assert figures.excluded.tolist() == [1 + twins]
    assert figures.all_seen[0].queries == 2
    assert figures.own_recall[0, 0] == figures.map_at_r == 1.0


def test_a_task_without_test_items_has_no_figure_and_disturbs_no_other():
    labels = np.array(["a", "a"])
    model = generation([EAST, EAST], ("a",), [EAST])
    figures = measure(
        labels=labels,
        groups=np.arange(2),
        task_of=np.zeros(2, int),
        task_classes=[("a",), ("b",)],
        active=[0, 0],
        generations=[model],
    )
    assert figures.own_recall[1].tolist()[0] == 1.0
    assert np.isnan(figures.own_recall[1, 1])
    assert np.isnan(figures.seen_accuracy[1, 1])


def test_no_test_items_at_all_give_no_figures():
    model = generation(np.empty((0, 2)), ("a",), [EAST])
    figures = measure(
        labels=np.empty(0, str),
        groups=np.empty(0, int),
        task_of=np.empty(0, int),
        task_classes=[("a",)],
        active=[0],
        generations=[model],
    )
    assert figures.all_seen == (None,)
    assert figures.map_at_r is None
    assert np.isnan(figures.cross).all()


def test_the_classifier_compares_directions_and_not_lengths():
    labels = np.array(["a", "a"])
    model = generation([EAST, EAST], ("a", "b"), [(0.1, 0.0), (5.0, 5.0)])
    figures = measure(
        labels=labels,
        groups=np.arange(2),
        task_of=np.zeros(2, int),
        task_classes=[("a", "b")],
        active=[0],
        generations=[model],
    )
    assert figures.own_accuracy[0, 0] == 1.0
