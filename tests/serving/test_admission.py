from csd_core.serving.http.admission import BURST, LONGEST_REFUSAL, REFUSALS_PER_SECOND, Admission


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_few_refusals_are_sent_at_once():
    clock = Clock()
    admission = Admission(1, 1, clock=clock)
    for _ in range(100):
        assert admission.refusal_delay() == 0
        clock.now += 1.1 / REFUSALS_PER_SECOND


def test_many_refusals_are_sent_one_after_the_other_and_none_is_held_for_long():
    admission = Admission(1, 1, clock=Clock())
    delays = [admission.refusal_delay() for _ in range(1000)]
    assert delays[: BURST - 1] == [0.0] * (BURST - 1)
    assert delays == sorted(delays)
    within = sum(delay <= 1 for delay in delays)
    assert abs(within - BURST - REFUSALS_PER_SECOND) <= 2
    assert max(delays) <= LONGEST_REFUSAL


def test_bodies_are_held_up_to_a_sum():
    admission = Admission(1, 100)
    assert [admission.hold(40) for _ in range(3)] == [True, True, False]
    admission.held -= 120
    assert admission.hold(100)
