from hypothesis import given
from hypothesis import strategies as st

from csd_core.data.classes import natural_key, order_classes

names = st.lists(st.text(min_size=1), unique=True)


def test_numbers_in_names_are_compared_as_numbers():
    ordered = order_classes(["10", "2", "class 10b", "class 9", "Apple", "banana", "1"], "natural", seed=0)
    assert ordered == ("1", "2", "10", "Apple", "banana", "class 9", "class 10b")


@given(names)
def test_natural_keys_order_any_names_and_keep_them_apart(labels):
    ordered = order_classes(labels, "natural", seed=0)
    assert sorted(ordered) == sorted(labels)
    assert order_classes(reversed(labels), "natural", seed=0) == ordered
    assert len({natural_key(label) for label in labels}) == len(labels)


@given(names, st.integers(0, 9))
def test_a_class_that_is_left_out_moves_no_other_in_the_seeded_order(labels, seed):
    ordered = order_classes(labels, "seeded", seed)
    assert sorted(ordered) == sorted(labels)
    for absent in labels:
        rest = order_classes([label for label in labels if label != absent], "seeded", seed)
        assert rest == tuple(label for label in ordered if label != absent)


def test_the_seed_decides_the_seeded_order():
    labels = [str(number) for number in range(20)]
    assert order_classes(labels, "seeded", 1) == order_classes(labels, "seeded", 1)
    assert order_classes(labels, "seeded", 1) != order_classes(labels, "seeded", 2)
