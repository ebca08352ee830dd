"""Starts llama.cpp's server on the demo model, in float32 or as it is shipped, and asks it."""

import json
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf

PYTHON = "ALIGNVEC_LLAMACPP_PYTHON"
"""Names an interpreter that has xllamacpp; without it the tests that need the server are skipped."""
PROCESS = Path(__file__).with_name("llama_process.py")


@dataclass(frozen=True)
class LlamaServer:
    """A running server.

    Attributes:
        url: where it listens.
    """

    url: str

    def ask(self, path: str, body: Any = None) -> Any:
        """The JSON answer to a request; a refusal raises `urllib.error.HTTPError`."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, headers={"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=300) as answer:
            return json.load(answer)

    def complete(self, prompt: Sequence[int], fields: dict[str, Any], tokens: int = 1, top: int = 10) -> "Completion":
        """Greedy continuation of token ids."""
        body = {"prompt": list(prompt), "n_predict": tokens, "temperature": 0, "n_probs": top, **fields}
        answer = self.ask("/completion", body)
        first = answer["completion_probabilities"][0]["top_logprobs"]
        reused = answer["timings"]["cache_n"]
        return Completion(answer["content"], {entry["id"]: entry["logprob"] for entry in first}, reused)


@dataclass(frozen=True)
class Completion:
    """What the server answered.

    Attributes:
        text: of the reply.
        first: log-probabilities of the likeliest first tokens, by id.
        reused: prompt tokens that were not read anew.
    """

    text: str
    first: dict[int, float]
    reused: int


@contextmanager
def llama_server(model: Path, adapters: Sequence[Path], *, scale: float = 0.0, **options: Any) -> Iterator[LlamaServer]:
    """A server with these adapters, all at one scale for requests that do not say; options are `CommonParams`'."""
    wanted = {"model": str(model), "adapters": [(str(path), scale) for path in adapters], "options": options}
    process = subprocess.Popen(
        [os.environ[PYTHON], str(PROCESS), json.dumps(wanted)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        assert url, f"no server: {PYTHON}={os.environ[PYTHON]} ended with {process.wait()}"
        yield LlamaServer(url)
    finally:
        process.stdin.close()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def dequantised(source: Path, target: Path) -> Path:
    """The same model with every tensor in float32."""
    reader = gguf.GGUFReader(source)
    architecture = reader.get_field("general.architecture")
    assert architecture is not None
    writer = gguf.GGUFWriter(target, architecture.contents())
    left_out = ("general.architecture", "general.file_type", "general.quantization_version")
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in left_out:
            continue
        if field.types[0] == gguf.GGUFValueType.ARRAY:
            writer.add_array(name, field.contents())
        else:
            writer.add_key_value(name, field.contents(), field.types[0])
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, gguf.dequantize(tensor.data, tensor.tensor_type))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target
