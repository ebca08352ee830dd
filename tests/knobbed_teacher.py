"""The demo model behind an OpenAI-compatible endpoint: its knobs write the levels, the shipped judge reads them.

A model of this size does not follow written instructions; its alignment vectors do what the instructions ask for.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI

from alignvec.data.load import shipped_file
from alignvec.evaluate.judge import judge_for
from alignvec.steer.model import KnobbedModel
from alignvec.steer.sampling import Sampling

KNOBS = {"decline to answer": -1.0, "well-informed friend": 0.0, "talking to a colleague": 1.0}
"""A phrase of each level's instruction, and the knob that does it."""


def knobbed_app(model: KnobbedModel, vector: str) -> FastAPI:
    """Chat completions by a model with one vector."""
    app = FastAPI()
    judge = judge_for(shipped_file(vector))
    busy = threading.Lock()

    @app.post("/v1/chat/completions")
    def complete(body: dict[str, Any]) -> dict[str, Any]:
        system, user = (message["content"] for message in body["messages"])
        if "sort replies" in system:
            reply = user.split("The reply:", 1)[1].split("Which kind is the reply?", 1)[0]
            text = judge.verdicts([reply.strip()])[0]
        else:
            knob = next(value for phrase, value in KNOBS.items() if phrase in system)
            sampling = Sampling(
                temperature=body["temperature"],
                top_p=body["top_p"],
                repetition_penalty=1.1,
                max_new_tokens=body["max_tokens"],
                seed=body["seed"],
            )
            with busy:
                text = model.generate([user], {vector: knob}, sampling)[0]
        used = len(model.base.tokenizer(text)["input_ids"])
        ended = used < body["max_tokens"] - 1
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": body["model"],
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text},
                    "finish_reason": "stop" if ended else "length",
                    "logprobs": None,
                }
            ],
            "usage": {
                "prompt_tokens": len(user) // 4,
                "completion_tokens": used,
                "total_tokens": len(user) // 4 + used,
            },
        }

    return app


@contextmanager
def serving_app(app: FastAPI) -> Iterator[str]:
    """URL of an app served on a free port of the loopback."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.should_exit = True
        thread.join(10)
