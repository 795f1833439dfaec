"""Registries that do not answer as they should: what is asked is done, or not, and the asker is told too little."""

from __future__ import annotations

import asyncio

from gateway.errors import RegistryUnavailable


class LosesAnswers:
    """Does what it is asked, and loses one answer to this method: the first one, or the one after so many.

    done: False if the question is lost, too.
    """

    def __init__(self, registry, name: str, *, after: int = 0, done: bool = True) -> None:
        self.registry = registry
        self.name = name
        self.lost = 0
        self._after = after
        self._done = done

    def __getattr__(self, name):
        method = getattr(self.registry, name)
        return self._lose(method) if name == self.name and not self.lost else method

    def _lose(self, method):
        async def ask(*args, **options):
            self._after -= 1
            if self._after >= 0:
                return await method(*args, **options)
            if self._done:
                await method(*args, **options)
            self.lost += 1
            raise RegistryUnavailable("the answer is lost")

        return ask


class HoldsUp:
    """Holds up questions of this kind until it goes on, but for so many at first.

    all_else: and whatever is asked after the first of them, as if the node were suspended there.
    """

    def __init__(self, registry, name: str, *, after: int = 0, all_else: bool = True) -> None:
        self.registry = registry
        self.name = name
        self.reached = asyncio.Event()
        self.goes_on = asyncio.Event()
        self.asked: tuple = ()
        """What came with the first of them."""
        self._after = after
        self._all_else = all_else

    def __getattr__(self, name):
        method = getattr(self.registry, name)

        async def ask(*args, **options):
            self._after -= name == self.name
            if self._after < 0 and not self.reached.is_set():
                self.asked = args
                self.reached.set()
            if self.reached.is_set() and (name == self.name or self._all_else):
                await self.goes_on.wait()
            return await method(*args, **options)

        return ask
