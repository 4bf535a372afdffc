"""What a supervisor has been told to do with its engine and has not done yet."""

import asyncio


class Orders:
    """To park, to start again, or to give a hung engine up; given at any time, carried out by the supervisor's task.

    An order to park that was given is carried out once, whatever follows: whoever gave it waits to hear so.
    """

    def __init__(self) -> None:
        self.must_park = False
        self._is_hung = False
        self._may_run = asyncio.Event()
        self._may_run.set()
        self._given = asyncio.Event()

    @property
    def is_parked_for_good(self) -> bool:
        """Whether the last word was to park, and that has been done."""
        return not self.must_park and not self._may_run.is_set()

    def park(self) -> None:
        """Given again once it has been carried out, it changes nothing."""
        if self.is_parked_for_good:
            return
        self.must_park = True
        self._may_run.clear()
        self._given.set()

    def unpark(self) -> None:
        self._may_run.set()

    def hang(self) -> None:
        self._is_hung = True
        self._given.set()

    def parked(self) -> None:
        """The order to park has been carried out."""
        self.must_park = False
        self._settle()

    def take_hang(self) -> bool:
        """Whether the engine is to be given up; said once for each order."""
        is_hung, self._is_hung = self._is_hung, False
        self._settle()
        return is_hung

    async def given(self) -> None:
        """Wait until there is one to carry out, to park or to give up."""
        await self._given.wait()

    async def may_run(self) -> None:
        """Wait while the last word is to be parked."""
        await self._may_run.wait()

    def _settle(self) -> None:
        if not self.must_park and not self._is_hung:
            self._given.clear()
