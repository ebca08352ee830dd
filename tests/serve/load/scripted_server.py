"""A chat server that follows a script: what the prompt says is what happens, in a process's own thread."""

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse


@dataclass
class Script:
    """What the server has seen, and how many requests it holds back until all of them are there."""

    hold: int = 0
    bodies: list[Any] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    hung_up: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: int = 0


def event(**choice: Any) -> str:
    return f"data: {json.dumps({'choices': [{'index': 0, 'delta': {}, **choice}]})}\n\n"


def text_of(body: Any) -> list[str]:
    """Pieces of the reply: the prompt, then the knobs."""
    return [body["messages"][-1]["content"], " ", json.dumps(body.get("alignment"), sort_keys=True)]


def create(script: Script) -> FastAPI:
    app = FastAPI()

    @app.get("/v1/models")
    async def models(request: Request) -> Response:
        if request.headers.get("authorization") == "Bearer wrong":
            return JSONResponse({"error": {"message": "no such key"}}, 401)
        return JSONResponse({"data": [{"id": "scripted"}]})

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        try:
            body = await request.json()
        except ValueError:
            return JSONResponse({"error": {"message": "the body is no JSON"}}, 400)
        script.bodies.append(body)
        script.keys.append(request.headers.get("authorization"))
        prompt = body["messages"][-1]["content"]
        if prompt == "refuse":
            return JSONResponse({"error": {"message": "the queue is full"}}, 429, {"Retry-After": "3"})
        echo = {"X-Request-Id": request.headers.get("x-request-id", "")}
        return StreamingResponse(follow(prompt, body), media_type="text/event-stream", headers=echo)

    async def follow(prompt: str, body: Any) -> AsyncIterator[str]:
        try:
            if script.hold:
                script.waiting += 1
                if script.waiting == script.hold:
                    script.gate.set()
                await script.gate.wait()
            if prompt == "never":
                await asyncio.sleep(3600)
            for piece in text_of(body):
                yield event(delta={"content": piece})
            if prompt == "reset":
                raise RuntimeError("the script says so")
            if prompt == "error":
                yield f"data: {json.dumps({'error': {'message': 'out of memory'}})}\n\n"
            elif prompt == "nonsense":
                yield "data: <html>\n\n"
            elif prompt != "cut":
                yield event(finish_reason="length")
                yield f"data: {json.dumps({'choices': [], 'usage': {'completion_tokens': 5}})}\n\n"
                yield "data: [DONE]\n\n"
        except asyncio.CancelledError:
            script.hung_up += 1
            raise

    return app


@contextmanager
def scripted_server(*, hold: int = 0) -> Iterator[tuple[str, Script]]:
    """URL of a running server, and what it saw."""
    script = Script(hold=hold)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(create(script), log_level="critical", lifespan="off"))
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1", script
        finally:
            server.should_exit = True
            thread.join(30)
