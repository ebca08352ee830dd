"""llama.cpp's server in a process of its own, run by an interpreter that has xllamacpp; ends with its standard input.

Takes one JSON object (model, adapters with their scales, options of `CommonParams`), prints the address it listens on.
"""

import json
import sys

import xllamacpp  # type: ignore[import-not-found,unused-ignore]

wanted = json.loads(sys.argv[1])
parameters = xllamacpp.CommonParams()
parameters.model.path = wanted["model"]
parameters.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(path, scale) for path, scale in wanted["adapters"]]
parameters.n_ctx = wanted.pop("n_ctx", 2048)
parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
parameters.warmup = False
for name, value in wanted.get("options", {}).items():
    setattr(parameters, name, value)
server = xllamacpp.Server(parameters)
print(server.listening_address, flush=True)
sys.stdin.read()
