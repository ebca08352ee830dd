"""The two endpoints that generate."""

import asyncio
import json
import secrets
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from alignvec.errors import AlignvecError
from alignvec.serve.api.body import MOST_CHOICES, Body, ChatBody, CompletionBody
from alignvec.serve.api.connection import while_connected
from alignvec.serve.api.errors import ERRORS
from alignvec.serve.api.knobs import HEADER, header_knobs, model_knobs
from alignvec.serve.api.reply_schema import ChatChunk, ChatReply, CompletionReply
from alignvec.serve.api.schema import KEY, KNOBS_HEADER, answered
from alignvec.serve.api.shapes import ChatShape, CompletionShape, Shape
from alignvec.serve.ask import GONE, Ask, Piece
from alignvec.serve.errors import BadRequestError, ServeError
from alignvec.serve.policy.rules import Rules
from alignvec.serve.service import Service
from alignvec.serve.setting import Setting
from alignvec.steer.knobs import format_knobs
from alignvec.steer.routed import user_turns
from alignvec.steer.sampling import Sampling

GREEDY_BELOW = 1e-3
"""Temperatures below give the likeliest token but for one draw in far more than 10^9, and overflow on the way."""
SEEDS = 2**31


def replies_router(service: Service) -> APIRouter:
    """Routes of chats and completions."""
    router = APIRouter(prefix="/v1", responses=ERRORS, dependencies=[KEY], tags=["replies"])
    tokenizer = service.engine.base.tokenizer
    known = min(len(tokenizer), service.engine.base.model.get_input_embeddings().num_embeddings)

    @router.post("/chat/completions", responses=answered(ChatReply, ChatChunk), openapi_extra=KNOBS_HEADER)
    async def chat(request: Request, body: ChatBody) -> Response:
        """Reply to a conversation."""
        turns = [{"role": message.role, "content": message.text} for message in body.messages]
        logprobs = (body.top_logprobs or 0) if body.logprobs else None
        text = json.dumps(turns, ensure_ascii=False)

        async def prompts() -> tuple[list[list[int]], str, tuple[str, ...]]:
            return [await asyncio.to_thread(service.chat_prompt, turns)], text, user_turns(turns)

        return await answer(request, body, prompts, logprobs, ChatShape)

    @router.post("/completions", responses=answered(CompletionReply, CompletionReply), openapi_extra=KNOBS_HEADER)
    async def completions(request: Request, body: CompletionBody) -> Response:
        """Go on with a text, or with several."""

        async def prompts() -> tuple[list[list[int]], str, tuple[str, ...]]:
            one = isinstance(body.prompt, str) or isinstance(body.prompt[0], int)
            given: Sequence[Any] = [body.prompt] if one else body.prompt
            if len(given) * (body.n or 1) > MOST_CHOICES:
                raise BadRequestError(f"more than {MOST_CHOICES} replies in all; ask for fewer", param="n")
            ids = [
                await asyncio.to_thread(service.text_prompt, p) if isinstance(p, str) else _known(p, known)
                for p in given
            ]
            if not all(ids):
                raise BadRequestError("prompt: has no tokens; write something", param="prompt")
            text = given[0] if one and isinstance(given[0], str) else json.dumps(given, ensure_ascii=False)
            return ids, text, (given[0] if isinstance(given[0], str) else tokenizer.decode(given[0]),)

        return await answer(request, body, prompts, body.logprobs, CompletionShape)

    async def answer(request: Request, body: Body, prompts: Any, logprobs: int | None, shape: type[Shape]) -> Response:
        rules: Rules = request.state.rules
        endpoint = request.url.path

        async def respond() -> Response:
            try:
                setting = _setting(service, rules, request, body)
                ids, text, user = await prompts()
                ask = Ask(
                    ids,
                    _sampling(body, ids, service, rules),
                    setting,
                    n=body.n or 1,
                    stop=body.stops,
                    logprobs=logprobs,
                    text=text,
                    user=user,
                    endpoint=endpoint,
                    model=body.model,
                )
            except (AlignvecError, asyncio.CancelledError) as error:
                service.refused(endpoint, rules.name, error, body.model)
                raise
            reply = shape(tokenizer, body.model, ask.choices, ask.prompt_tokens, logprobs)
            pieces = service.pieces(ask, rules)
            if body.stream:
                usage = body.stream_options is not None and body.stream_options.include_usage
                first = await anext(pieces)  # errors before it have a status of their own
                return Events(_events(reply, first, pieces, usage), _headers(first.setting))
            async with aclosing(pieces):
                async for piece in pieces:
                    reply.add(piece)
            return JSONResponse(reply.whole(), headers=_headers(reply.setting))

        done: Response | None = await while_connected(request.receive, respond())
        return Response(status_code=GONE) if done is None else done

    return router


class Events(Response):
    """Server-sent events; the stream is closed when it ends or its client goes away."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[str, None], headers: Mapping[str, str]) -> None:
        super().__init__(headers={**headers, "cache-control": "no-cache", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything."""
        await while_connected(receive, self._send(send))

    async def _send(self, send: Send) -> None:
        async with aclosing(self._events):
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async for event in self._events:
                await send({"type": "http.response.body", "body": f"data: {event}\n\n".encode(), "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _events(
    reply: Shape, first: Piece, rest: AsyncGenerator[Piece, None], usage: bool
) -> AsyncGenerator[str, None]:
    empty = {"usage": None} if usage else {}
    async with aclosing(rest):
        try:
            for chunk in reply.chunks(first):
                yield json.dumps(chunk | empty)
            async for piece in rest:
                for chunk in reply.chunks(piece):
                    yield json.dumps(chunk | empty)
        except ServeError as error:
            yield json.dumps(error.body())
            return
    if usage:
        yield json.dumps(reply.usage_chunk())
    yield "[DONE]"


def _headers(setting: Setting) -> dict[str, str]:
    return {"X-Alignment-Applied": format_knobs(setting.applied)}


def _setting(service: Service, rules: Rules, request: Request, body: Body) -> Setting:
    named = model_knobs(body.model, service.options.model)
    header = header_knobs(",".join(filter(str.strip, request.headers.getlist(HEADER))))
    return service.setting(rules, [named, header, body.alignment or {}])


def _sampling(body: Body, prompts: Sequence[Sequence[int]], service: Service, rules: Rules) -> Sampling:
    temperature = 1.0 if body.temperature is None else body.temperature
    return Sampling(
        temperature=temperature if temperature >= GREEDY_BELOW else 0.0,
        top_p=body.top_p or 1.0,
        repetition_penalty=body.repetition_penalty or 1.0,
        max_new_tokens=body.reply_tokens or service.reply_tokens(max(prompts, key=len), rules),
        seed=secrets.randbelow(SEEDS) if body.seed is None else body.seed,
    )


def _known(tokens: list[int], vocabulary: int) -> list[int]:
    if wrong := [token for token in tokens if token >= vocabulary]:
        raise BadRequestError(
            f"prompt: token {str(wrong[0])[:20]} is outside the vocabulary of {vocabulary}; check the ids",
            param="prompt",
        )
    return tokens
