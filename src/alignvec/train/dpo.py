"""Training one side of a vector with DPO, resumable, with everything that made it stored beside it."""

import json
import math
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers.trainer import TRAINER_STATE_NAME

from alignvec import models, processes
from alignvec.data.schema import PreferenceRow
from alignvec.errors import ConfigError
from alignvec.files import storage_errors, write_text
from alignvec.logprobs import EncodedReplies, encode_replies, pack, reply_logprobs
from alignvec.provenance import provenance
from alignvec.train.batches import own_accumulation
from alignvec.train.config import TrainConfig
from alignvec.train.keep import encode_keep, recipe_rows
from alignvec.train.listwise import ListwiseCollator, ListwiseDPOTrainer
from alignvec.train.memory import launched_strategy
from alignvec.train.progress import StepClock, TrainingProgress, seconds_of, track
from alignvec.train.reference import cached_reference
from alignvec.train.rows import data_files, ordered_rows
from alignvec.train.start import load_factors, start_side
from alignvec.vectors.store import sha256

STARTED = "recipe.json"
"""Written when training begins, so that a killed run only goes on with the same recipe and data."""


def train_side(config: TrainConfig, side: str, out: Path) -> Path:
    """Train one side (`positive` or `negative`) and return the folder of the result.

    Several processes split each optimiser step, and which number of them goes on from a checkpoint is all the same.
    The folder `out` gets `model/` (a PEFT adapter, or all weights with `full`), `run.json` (resolved config, versions,
    seed, metrics by step) and `training.png`. Killed at any point, the same call goes on from the last checkpoint;
    finished, it returns at once.

    Raises:
        DataError: if the data or keep rows cannot be used, or a query with its reply does not fit `max_length`.
        VectorError: if the vector to start from does not fit.
        ConfigError: if `out` holds a run of another recipe, or the processes cannot split a step evenly.
    """
    from alignvec.train.plot import plot_training

    result = out / "model"
    own_accumulation(config.accumulate)
    sharded = launched_strategy() in ("fsdp", "zero3")
    if sharded and config.full:
        raise ConfigError(
            "all weights cannot be trained sharded, as the base's own scores need a second model; train factors (full: "
            "false), or without FSDP and DeepSpeed"
        )
    groups = ordered_rows(config, side)
    hashes = [sha256(path) for path in data_files(config)]
    keep = recipe_rows(config)
    start = start_side(config, side)
    record: dict[str, Any] = {
        "side": side,
        "order": config.orders()[side],
        "config": config.model_dump(mode="json"),
        "data_sha256": hashes[0] if len(hashes) == 1 else hashes,
        **config.source_hashes(),
    }
    if processes.on_main(lambda: _begun(out, record) and (out / "run.json").is_file()):
        return result
    base = models.load(config.base, dtype=config.dtype, device="cpu" if sharded else None)
    limit = min(config.max_length, base.context_length)
    encoded, pairs = [], []
    for group in groups:
        levels, own = group.replies(config.loss)
        encoded.append([_encode(base, row, levels, limit) for row in group.rows])
        pairs.append(own)
    kept = encode_keep(base, keep, side, max_length=limit)
    if kept:
        encoded.append(kept)
        pairs.append([(0, 1)])
    columns = _columns(config, base, encoded, pairs, scored=not sharded)
    trainer = make_trainer(config, base, columns, out)
    trainer.reference_beside = sharded  # no process could score with the whole model
    load_factors(trainer.model, start)
    write_text(out / STARTED, json.dumps(record, indent=1))
    progress = TrainingProgress()
    if processes.is_main():
        trainer.add_callback(progress)
    trainer.add_callback(StepClock())
    with storage_errors(out):
        checkpoint = processes.on_main(lambda: _last_checkpoint(out / "checkpoints"))
        _require_layout(checkpoint)
        try:
            with processes.others_alive():
                trainer.train(resume_from_checkpoint=checkpoint)
        finally:
            progress.close()
        trained: Any = trainer.accelerator.unwrap_model(trainer.model)
        state = trainer.accelerator.get_state_dict(trainer.model_wrapped) if sharded else None
        if processes.is_main():
            trained.save_pretrained(result, state_dict=state)
    tokens = sum(row.packed_length for rows in encoded for row in rows)
    history = trainer.state.log_history
    record |= {
        "rows": sum(len(group.rows) for group in groups),
        **({"keep_rows": len(kept), "keep_equal": len(keep) - len(kept)} if config.keep else {}),
        "tokens_a_pass": tokens,
        "tokens": round(tokens * config.epochs),
        "steps": trainer.state.global_step,
        "processes": processes.count(),
        "seconds": seconds_of(history),
        "provenance": provenance().model_dump(),
        "history": history,
    }
    plot_training(record, out / "training.png")
    write_text(out / "run.json", json.dumps(record, indent=1))
    processes.gather(None)  # written
    return result


def score_base(base: models.BaseModel, encoded: Sequence[EncodedReplies], batch_size: int) -> list[list[float]]:
    """Summed log-probability of every reply under the base, [rows, replies], in nats; processes split the batches."""
    starts = range(0, len(encoded), batch_size)
    own: dict[int, list[list[float]]] = {}
    with torch.no_grad():
        for start in track(processes.share(starts), "reference log-probabilities"):
            rows = encoded[start : start + batch_size]
            batch = pack(rows, pad_id=base.tokenizer.pad_token_id, dtype=base.model.dtype, device=base.device)
            own[start] = reply_logprobs(base.model, batch).tolist()
    found = {start: scores for of_one in processes.gather(own) for start, scores in of_one.items()}
    return [scores for start in starts for scores in found[start]]


def _encode(base: models.BaseModel, row: PreferenceRow, levels: Sequence[str], limit: int) -> EncodedReplies:
    return encode_replies(base.tokenizer, row.query, [row.responses[level] for level in levels], max_length=limit)


def _columns(
    config: TrainConfig,
    base: models.BaseModel,
    encoded: Sequence[list[EncodedReplies]],
    pairs: Sequence[list[tuple[int, int]]],
    *,
    scored: bool,
) -> dict[str, list[Any]]:
    """Columns of the dataset for groups of rows, each with one number of replies and the same pairs of them.

    Args:
        scored: whether the base scores the replies; else the reference is no number.
    """
    columns: dict[str, list[Any]] = {"prompt": [], "replies": [], "reference": [], "pairs": []}
    for rows, own in zip(encoded, pairs, strict=True):
        reference = [[math.nan] * len(row.replies) for row in rows]
        if scored:
            reference = cached_reference(base, rows, partial(score_base, base, rows, config.batch_size))
        columns["prompt"] += [row.prompt for row in rows]
        columns["replies"] += [row.replies for row in rows]
        columns["reference"] += [list(scores) for scores in reference]
        columns["pairs"] += [own for _ in rows]
    return columns


def make_trainer(
    config: TrainConfig, base: models.BaseModel, columns: dict[str, list[Any]], out: Path
) -> ListwiseDPOTrainer:
    """The trainer of a recipe on rows that are encoded already.

    Args:
        config: the recipe.
        base: its base model, which the trainer changes.
        columns: of the dataset, see `ListwiseDPOTrainer`.
        out: folder for checkpoints.
    """
    from peft import LoraConfig
    from trl.trainer.dpo_config import DPOConfig

    dataset = Dataset.from_dict(columns)
    steps = -(-len(dataset) // (config.batch_size * config.accumulate)) * config.epochs
    likelihood = {"sft": config.sft_weight} if config.sft_weight and config.loss != "sft" else {}
    losses = {config.loss: 1.0} | likelihood
    arguments = DPOConfig(
        output_dir=str(out / "checkpoints"),
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=own_accumulation(config.accumulate),
        num_train_epochs=config.epochs,
        learning_rate=config.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=round(config.warmup_share * steps),
        loss_type=list(losses),
        loss_weights=list(losses.values()),
        beta=config.beta,
        precompute_ref_log_probs=True,
        gradient_checkpointing=False,
        bf16=False,
        fp16=False,
        logging_steps=1,
        logging_first_step=True,
        save_steps=config.checkpoint_steps,
        save_total_limit=1,
        seed=config.seed,
        data_seed=config.seed,
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
        use_cpu=torch.device(processes.own_device()).type == "cpu",
        ddp_find_unused_parameters=False,
    )
    adapter = None
    if not config.full:
        adapter = LoraConfig(
            r=config.rank,
            lora_alpha=config.rank,
            lora_dropout=0.0,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        )
    trainer = ListwiseDPOTrainer(
        model=base.model,
        args=arguments,
        train_dataset=dataset,
        processing_class=base.tokenizer,
        data_collator=ListwiseCollator(base.tokenizer.pad_token_id, base.model.dtype),
        peft_config=adapter,
    )
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    return trainer


def _begun(out: Path, record: dict[str, Any]) -> bool:
    """Whether `out` holds this very run, begun or finished."""
    path = out / STARTED
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {error}; delete {out} to train again") from None
    different = [key for key, value in record.items() if _stated(stored.get(key)) != _stated(value)]
    if different:
        state = "a finished run" if (out / "run.json").is_file() else "an unfinished run"
        raise ConfigError(f"{out} holds {state} with another {different[0]}; choose another --out or delete it")
    return True


def _stated(value: Any) -> Any:
    """A value without keys that are None: runs begun before a recipe had the key do not name it."""
    return {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else value


def _last_checkpoint(folder: Path) -> str | None:
    """Newest whole checkpoint; one cut short by a kill is deleted (its state file, written last, is torn)."""
    whole = {}
    for checkpoint in folder.glob("checkpoint-*"):
        try:
            json.loads((checkpoint / TRAINER_STATE_NAME).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            shutil.rmtree(checkpoint)
        else:
            whole[int(checkpoint.name.removeprefix("checkpoint-"))] = str(checkpoint)
    return whole[max(whole)] if whole else None


def _require_layout(checkpoint: str | None) -> None:
    """Refuse a checkpoint that holds the weights in another way than this launch does."""
    strategy = launched_strategy()
    own = strategy if strategy in ("fsdp", "zero3") else "whole"
    if checkpoint is not None:
        parts = {path.name.rstrip("0123456789") for path in Path(checkpoint).iterdir()}
        found = "fsdp" if "pytorch_model_fsdp_" in parts else "zero3" if "global_step" in parts else "whole"
        if found != own:
            raise ConfigError(
                f"{checkpoint} holds {found} weights and this launch {own} ones; go on with the launch that began the "
                "run (in any number of processes), or delete the checkpoint to train again"
            )
