"""A server that answers when the test says so."""

import asyncio
from typing import Any, Self


class ToldSource:
    """What it is told goes to whoever fetches; an error is raised there."""

    def __init__(self) -> None:
        self._answers: asyncio.Queue[Any] = asyncio.Queue()
        self._is_owed = False
        self.is_closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.is_closed = True

    async def tell(self, answer: Any) -> None:
        """Returns once the answer has been taken in, and the next is being waited for."""
        self._answers.put_nowait(answer)
        await self._answers.join()

    def tell_last(self, answer: Any) -> None:
        """After this one nobody will ask again."""
        self._answers.put_nowait(answer)

    async def fetch(self) -> Any:
        if self._is_owed:
            self._answers.task_done()
        self._is_owed = True
        answer = await self._answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer
