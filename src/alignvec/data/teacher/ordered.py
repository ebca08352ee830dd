"""Work done concurrently, results taken in order: what comes out does not depend on who was first."""

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


async def ordered(
    items: AsyncIterable[Item] | Iterable[Item], work: Callable[[Item], Awaitable[Result]], *, window: int
) -> AsyncIterator[Result]:
    """Yield `work(item)` in the items' order, with at most `window` items begun and not yet taken.

    If an item's work fails, those begun after it are finished first (what they ask for is paid for); if the source
    fails, those begun are finished and yielded first.

    Args:
        items: what to work on; read only as far as the window needs.
        work: done for several items at once.
        window: bounds memory and work in hand.
    """
    source = aiter(items if isinstance(items, AsyncIterable) else _stream(items))
    begun: deque[asyncio.Task[Result]] = deque()
    failure: Exception | None = None
    try:
        while True:
            try:
                item = await anext(source)
            except StopAsyncIteration:
                break
            except Exception as error:
                failure = error
                break
            begun.append(asyncio.ensure_future(work(item)))
            while len(begun) >= window or (begun and begun[0].done()):
                yield await begun[0]
                begun.popleft()
        while begun:
            yield await begun[0]
            begun.popleft()
    except Exception:
        await asyncio.gather(*begun, return_exceptions=True)
        raise
    finally:
        for task in begun:
            task.cancel()
    if failure is not None:
        raise failure


async def _stream(items: Iterable[Item]) -> AsyncIterator[Item]:
    for item in items:
        yield item
