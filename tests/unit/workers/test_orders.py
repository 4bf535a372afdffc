import asyncio

from workers.orders import Orders


async def given(orders: Orders) -> bool:
    waiting = asyncio.create_task(orders.given())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    is_given = waiting.done()
    waiting.cancel()
    return is_given


async def test_nothing_is_given_at_first() -> None:
    orders = Orders()
    assert not await given(orders)
    assert not orders.must_park
    await orders.may_run()


async def test_an_order_to_park_stands_until_carried_out_though_it_was_followed_by_another() -> None:
    orders = Orders()
    orders.park()
    orders.unpark()
    assert orders.must_park
    assert await given(orders)
    orders.parked()
    assert not await given(orders)
    await orders.may_run()


async def test_to_park_again_once_parked_is_no_new_order_and_before_that_the_same_one() -> None:
    orders = Orders()
    orders.park()
    orders.park()
    orders.parked()
    assert orders.is_parked_for_good
    orders.park()
    assert not orders.must_park
    orders.unpark()
    orders.park()
    assert orders.must_park


async def test_a_hang_is_taken_once() -> None:
    orders = Orders()
    orders.hang()
    assert await given(orders)
    assert orders.take_hang()
    assert not orders.take_hang()
    assert not await given(orders)
