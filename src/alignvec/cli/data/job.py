"""From the options of `alignvec data build` to its job."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alignvec.data.synthesis.job import Job, PersonaChoice, Stage
    from alignvec.data.teacher.batched import InProcess

DATASET = "dataset"
"""Folder to publish, in the folder of a build."""


def job_of(stages: tuple["Stage", ...], given: dict[str, Any]) -> "Job":
    """The job of the stages.

    Args:
        stages: to run.
        given: options by name; those that only other stages use may be missing.

    Raises:
        ConfigError: if options are missing or exclude each other.
    """
    from alignvec import models
    from alignvec.data.domain import load_domain
    from alignvec.data.publish.card import require_free
    from alignvec.data.schema import Sampling
    from alignvec.data.synthesis.job import Job
    from alignvec.data.synthesis.prompts import load_prompts
    from alignvec.data.synthesis.settings import REPLY_SAMPLING, BuildSettings
    from alignvec.data.teacher.budget import Limits, Prices
    from alignvec.data.teacher.endpoint import Endpoint
    from alignvec.errors import ConfigError
    from alignvec.vectors.fingerprint import fingerprint

    vllm = given["teacher_engine"] == "vllm"
    if vllm and given["teacher_url"]:
        raise ConfigError("--teacher-engine vllm has no URL; leave out --teacher-url, or the engine")
    if not vllm and not given["teacher_url"]:
        raise ConfigError("no teacher: name its --teacher-url, or use --teacher-engine vllm")
    if vllm and not given.get("judge_url") and (given.get("judge_model") or given.get("judge_key_variable")):
        raise ConfigError("the one model of --teacher-engine vllm is the judge as well; another needs --judge-url")
    name = teacher = given["teacher_model"]
    if vllm and (folder := Path(name).expanduser()).is_dir():  # folders of different models may share a name
        name = folder.resolve().name
        teacher = f"{name}@{fingerprint(models.resolve(str(folder)))[:12]}"
    if "rows" in stages:
        require_free(given["out"] / DATASET)
    settings = BuildSettings(
        domain=load_domain(given["domain"]),
        prompts=load_prompts(given["prompts"]),
        teacher=teacher,
        judge=None
        if given.get("no_judge")
        else given.get("judge_model") or (name if given.get("judge_url") else teacher),
        seed=given["seed"],
        queries_per_persona=given.get("queries_per_persona", 2),
        retries=given["retries"],
        reply_sampling=Sampling(
            temperature=given.get("temperature", REPLY_SAMPLING.temperature),
            top_p=REPLY_SAMPLING.top_p,
            max_tokens=given.get("max_tokens", REPLY_SAMPLING.max_tokens),
        ),
    )
    endpoint = Endpoint(
        given["teacher_url"] or "", given["in_flight"], given["timeout"], given["attempts"], given["key_variable"]
    )
    judge, judge_url = None, given.get("judge_url")
    if judge_url or given.get("judge_key_variable"):
        judge = dataclasses.replace(endpoint, url=judge_url or endpoint.url, role="judge")
        shared = not vllm and judge.same_server(endpoint)
        mine = given.get("judge_key_variable") or (endpoint.key_variable if shared else None)
        judge = dataclasses.replace(judge, key_variable=mine)
    limit, count = given["limit"], given.get("personas", 0)
    return Job(
        settings=settings,
        out=given["out"],
        stages=stages,
        personas=min(count, limit) if limit else count,
        endpoint=_in_process(given) if vllm else endpoint,
        judge_endpoint=judge,
        choice=_choice(given.get("personas_from"), given.get("persona_hub")),
        prices=Prices(given["price_in"], given["price_out"]),
        limits=Limits(given["budget_tokens"], given["budget_money"]),
        limit=limit,
    )


def _in_process(given: dict[str, Any]) -> "InProcess":
    from alignvec.data.teacher.batched import BatchEngine, InProcess

    def start() -> BatchEngine:
        from alignvec.evaluate.bulk.in_process import vllm_answers

        return vllm_answers(given["teacher_model"])

    return InProcess(start, given["in_flight"])


def _choice(file: Path | None, hub: str | None) -> "PersonaChoice | None":
    from alignvec.data.schema import PersonaSource
    from alignvec.data.synthesis.job import PersonaChoice
    from alignvec.data.synthesis.personas import PERSONA_HUB_LICENCE, persona_hub_texts, persona_texts
    from alignvec.errors import ConfigError

    if file is not None and hub is not None:
        raise ConfigError("--personas-from and --persona-hub both name personas; use one")
    if file is not None:
        return PersonaChoice(lambda: persona_texts(file), PersonaSource(kind="file", name=file.name), by_keyword=False)
    if hub is not None:
        source = PersonaSource(kind="persona-hub", name=hub, licence=PERSONA_HUB_LICENCE)
        return PersonaChoice(lambda: persona_hub_texts(hub), source, by_keyword=True)
    return None
