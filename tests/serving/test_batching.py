import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from csd_core.serving.batching import MicroBatcher


def run(scenario):
    with ThreadPoolExecutor(1) as executor:
        return asyncio.run(scenario(executor))


def test_items_that_come_while_a_call_is_under_way_go_together_in_the_next():
    sizes, gate = [], threading.Event()

    def double(items):
        sizes.append(len(items))
        gate.wait(10)
        return [2 * item for item in items]

    async def scenario(executor):
        batcher = MicroBatcher(double, size=8, wait=0, executor=executor)
        first = asyncio.ensure_future(batcher(0))
        await asyncio.sleep(0.05)
        others = [asyncio.ensure_future(batcher(number)) for number in range(1, 11)]
        await asyncio.sleep(0)
        gate.set()
        return await asyncio.gather(first, *others)

    assert run(scenario) == [2 * number for number in range(11)]
    assert sizes == [1, 8, 2]


def test_one_client_alone_never_waits():
    async def scenario(executor):
        batcher = MicroBatcher(lambda items: items, size=8, wait=30, executor=executor)
        with batcher.expecting():
            return await asyncio.wait_for(batcher("alone"), 5)

    assert run(scenario) == "alone"


def test_an_item_waits_for_another_that_is_on_its_way():
    sizes = []

    def work(items):
        sizes.append(len(items))
        return items

    async def scenario(executor):
        batcher = MicroBatcher(work, size=8, wait=30, executor=executor)

        async def client(item, seconds):
            with batcher.expecting():
                await asyncio.sleep(seconds)
                return await batcher(item)

        return await asyncio.wait_for(asyncio.gather(client("a", 0), client("b", 0.1)), 10)

    assert run(scenario) == ["a", "b"]
    assert sizes == [2]


def test_it_waits_no_longer_than_it_may():
    async def scenario(executor):
        batcher = MicroBatcher(lambda items: items, size=8, wait=0.02, executor=executor)
        with batcher.expecting(), batcher.expecting():  # the second never comes
            return await asyncio.wait_for(batcher("a"), 5)

    assert run(scenario) == "a"


def test_an_item_that_was_on_its_way_and_failed_holds_nobody_up():
    async def scenario(executor):
        batcher = MicroBatcher(lambda items: items, size=8, wait=30, executor=executor)

        async def broken():
            with batcher.expecting():
                await asyncio.sleep(0.05)

        async def client():
            with batcher.expecting():
                return await batcher("a")

        answer, _ = await asyncio.wait_for(asyncio.gather(client(), broken()), 10)
        return answer

    assert run(scenario) == "a"


def test_a_call_that_fails_fails_its_items_and_the_next_goes_on():
    def work(items):
        if "bad" in items:
            raise ValueError("no")
        return items

    async def scenario(executor):
        batcher = MicroBatcher(work, size=1, wait=0, executor=executor)
        with pytest.raises(ValueError, match="no"):
            await batcher("bad")
        return await batcher("good")

    assert run(scenario) == "good"


def test_an_item_whose_client_left_is_not_worked_on():
    seen, gate = [], threading.Event()

    def work(items):
        seen.extend(items)
        gate.wait(10)
        return items

    async def scenario(executor):
        batcher = MicroBatcher(work, size=4, wait=0, executor=executor)
        first = asyncio.ensure_future(batcher("first"))
        await asyncio.sleep(0.05)
        left = asyncio.ensure_future(batcher("left"))
        stays = asyncio.ensure_future(batcher("stays"))
        await asyncio.sleep(0)
        left.cancel()
        gate.set()
        return await asyncio.gather(first, stays)

    assert run(scenario) == ["first", "stays"]
    assert seen == ["first", "stays"]


def test_each_call_tells_how_long_its_items_waited():
    waits, gate = [], threading.Event()

    def work(items):
        gate.wait(10)
        return items

    async def scenario(executor):
        batcher = MicroBatcher(work, size=2, wait=0, executor=executor, on_batch=waits.append)
        answers = [asyncio.ensure_future(batcher("first"))]
        await asyncio.sleep(0.05)
        answers.append(asyncio.ensure_future(batcher("second")))
        await asyncio.sleep(0.2)
        answers.append(asyncio.ensure_future(batcher("third")))
        await asyncio.sleep(0.05)
        gate.set()
        await asyncio.gather(*answers)

    run(scenario)
    (alone,), (second, third) = waits
    assert 0 <= alone < 0.2 <= second
    assert 0.05 <= third <= second - 0.15


def test_an_item_that_waits_for_others_or_for_the_thread_tells_it():
    waits = []

    async def scenario(executor):
        executor.submit(time.sleep, 0.2)  # a call of another batcher
        batcher = MicroBatcher(lambda items: items, size=8, wait=0.02, executor=executor, on_batch=waits.append)
        with batcher.expecting(), batcher.expecting():
            await batcher("a")

    run(scenario)
    assert waits[0][0] >= 0.15
