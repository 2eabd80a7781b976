"""GRPO, Dr.GRPO, DAPO, GSPO, CISPO and RLOO equal TRL's own trainers: advantage, loss and gradient, off-policy."""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from pilotage.objectives import advantages, aggregation, divergences, normalisation, penalties, surrogates

# TRL imports every tracker that is installed; no tracker's own import error shall decide about these tests.
os.environ.setdefault("DISABLE_MLFLOW_INTEGRATION", "TRUE")
trl = pytest.importorskip("trl")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning")
GROUP, PROMPTS, TOKENS = 4, 3, 12
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


def build_model() -> Any:
    torch.manual_seed(0)
    config = transformers.Qwen2Config(
        vocab_size=24, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        initializer_range=0.4, tie_word_embeddings=False,
    )  # fmt: skip
    return transformers.Qwen2ForCausalLM(config)


def build_tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {"<pad>": 0, "<bos>": 1, "<eos>": 2} | {f"w{i}": i for i in range(3, 24)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>", padding_side="left"
    )


def reward(completions: list[str], **_: Any) -> list[float]:
    """Anything that differs within most groups."""
    return [float(sum(map(ord, text)) % 5) for text in completions]


@dataclass
class Batch:
    """What TRL sampled and scored, as our columns; `logp` has a gradient to our own copy of the updated model."""

    inputs: dict[str, Any]
    reward: torch.Tensor
    group: torch.Tensor
    mask: torch.Tensor
    logp: torch.Tensor
    logp_old: torch.Tensor
    logp_ref: torch.Tensor
    model: torch.nn.Module


def score(model: torch.nn.Module, inputs: dict[str, Any]) -> torch.Tensor:
    """log-probabilities of the completions by a plain forward pass."""
    ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)
    attention = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1)
    logits = model(input_ids=ids, attention_mask=attention).logits[:, :-1].log_softmax(-1)
    return logits.gather(-1, ids[:, 1:, None])[..., 0][:, -inputs["completion_ids"].shape[1] :]


def sample(trainer: Any) -> Batch:
    """One batch by TRL's own code, then a step away from the policy that sampled it."""
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    prompts = [f"w{3 + p} w{4 + p}" + " w9" * p for p in range(PROMPTS)]
    rows = [{"prompt": prompt} for prompt in prompts for _ in range(GROUP)]
    torch.manual_seed(1)
    inputs = trainer._generate_and_score_completions(rows)
    texts = list(trainer._logs["completion"])[-len(rows) :]
    sampler = copy.deepcopy(plain_weights(trainer.model))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.add_(0.06 * torch.randn(parameter.shape, generator=generator))
    model = build_model()
    model.load_state_dict(plain_weights(trainer.model))
    reference = build_model()
    reference.load_state_dict(sampler)
    with torch.no_grad():
        logp_old = score(reference, inputs)
        for parameter in reference.parameters():
            parameter.mul_(0.8)
        logp_ref = score(reference, inputs)
    return Batch(
        inputs, torch.tensor(reward(texts)), torch.arange(PROMPTS).repeat_interleave(GROUP),
        inputs["completion_mask"].bool(), score(model, inputs), logp_old, logp_ref, model,
    )  # fmt: skip


def plain_weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach() for name, value in model.state_dict().items()}


def assert_same_loss_and_gradient(trainer: Any, batch: Batch, loss: torch.Tensor) -> None:
    trainer.model.zero_grad()
    theirs = trainer._compute_loss(trainer.model, batch.inputs)
    theirs.backward()
    loss.backward()
    torch.testing.assert_close(loss.detach(), theirs.detach(), **TOLERANCE)
    ours = dict(batch.model.named_parameters())
    largest = 0.0
    for name, parameter in trainer.model.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(ours[name].grad, parameter.grad, **TOLERANCE)
        largest = max(largest, parameter.grad.abs().max().item())
    assert largest > 1e-3, "a gradient of nothing proves nothing"


@pytest.fixture
def build(tmp_path: Path) -> Any:
    """Makes a TRL trainer of the tiny model: `build("grpo", loss_type=..., ...)`."""
    from datasets import Dataset

    def make(kind: str, **options: Any) -> Any:
        config, trainer = {
            "grpo": (trl.GRPOConfig, trl.GRPOTrainer),
            "rloo": (trl.RLOOConfig, trl.RLOOTrainer),
        }[kind]
        args = config(
            output_dir=str(tmp_path), per_device_train_batch_size=GROUP * PROMPTS, num_generations=GROUP,
            max_completion_length=TOKENS, gradient_accumulation_steps=1, num_iterations=2, use_cpu=True,
            report_to="none", gradient_checkpointing=False, bf16=False, disable_dropout=True, **options,
        )  # fmt: skip
        data = Dataset.from_dict({"prompt": ["w3 w4"] * 8})
        build_model().save_pretrained(tmp_path / "model")  # the reference of a KL is read from the policy's path
        model = transformers.Qwen2ForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
        return trainer(
            model=model, reward_funcs=reward, args=args, train_dataset=data, processing_class=build_tokenizer()
        )

    return make


CASES = {
    "grpo": ({"loss_type": "grpo"}, {}, aggregation.seq_mean_token_mean),
    "grpo with batch scaling": (
        {"loss_type": "grpo", "scale_rewards": "batch"}, {}, aggregation.seq_mean_token_mean,
    ),
    "grpo with delta": ({"loss_type": "grpo", "delta": 1.5}, {"delta": 1.5}, aggregation.seq_mean_token_mean),
    "dr_grpo": (
        {"loss_type": "dr_grpo", "scale_rewards": "none"}, {},
        lambda mask: aggregation.const_norm(mask, maximum=TOKENS),
    ),
    "dapo": ({"loss_type": "dapo", "epsilon_high": 0.28}, {"high": 0.28}, aggregation.token_mean),
    "gspo": (
        {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 0.03, "epsilon_high": 0.04},
        {"low": 0.03, "high": 0.04, "level": "sequence"}, aggregation.seq_mean_token_mean,
    ),
    "luspo": (
        {"loss_type": "luspo", "importance_sampling_level": "sequence"}, {"level": "sequence"},
        aggregation.token_sum_norm,
    ),
    "cispo": ({"loss_type": "cispo", "epsilon_high": 1.3}, {"high": 1.3}, aggregation.token_mean),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_grpo_family_equals_trl(name: str, build: Any) -> None:
    theirs, ours, coefficients = CASES[name]
    trainer = build("grpo", beta=0.0, **theirs)
    batch = sample(trainer)
    lengths = batch.mask.sum(-1)
    assert len(lengths.unique()) > 2, "the batch should hold several lengths"
    scaling = theirs.get("scale_rewards", "group")
    if scaling == "none":
        advantage = advantages.group_center(batch.reward, batch.group)
    else:
        advantage = advantages.group_zscore(batch.reward, batch.group, epsilon=1e-4, scale=scaling)
    torch.testing.assert_close(advantage, batch.inputs["advantages"], **TOLERANCE)
    torch.testing.assert_close(
        torch.where(batch.mask, batch.logp_old, 0), torch.where(batch.mask, batch.inputs["old_per_token_logps"], 0),
        **TOLERANCE,
    )  # fmt: skip
    columns = (batch.logp, batch.logp_old, advantage, batch.mask)
    if name == "cispo":
        loss = surrogates.cispo(*columns, **ours)
        touched = surrogates.ratio(batch.logp, batch.logp_old, batch.mask) > ours["high"]
    else:
        loss = surrogates.clip(*columns, **ours)
        bounds = {key: value for key, value in ours.items() if key != "delta"}
        touched = surrogates.clipped(*columns, **bounds)
    assert 0.02 < touched[batch.mask].float().mean() < 0.9, "some tokens should be clipped and some not"
    assert_same_loss_and_gradient(trainer, batch, aggregation.weighted_sum(loss, coefficients(batch.mask)))


@pytest.mark.parametrize("corrected", [False, True])
def test_grpo_with_a_divergence_in_the_loss_equals_trl(build: Any, corrected: bool) -> None:
    trainer = build("grpo", loss_type="grpo", beta=0.04, use_bias_correction_kl=corrected)
    batch = sample(trainer)
    batch.inputs["ref_per_token_logps"] = batch.logp_ref
    advantage = advantages.group_zscore(batch.reward, batch.group, epsilon=1e-4)
    loss = surrogates.clip(batch.logp, batch.logp_old, advantage, batch.mask)
    divergence = divergences.k3(batch.logp, batch.logp_ref, batch.mask)
    if corrected:  # TRL's default: the estimate is taken under the present policy
        divergence = divergence * surrogates.ratio(batch.logp, batch.logp_old, batch.mask)
    loss = loss + 0.04 * divergence
    coefficients = aggregation.seq_mean_token_mean(batch.mask)
    assert_same_loss_and_gradient(trainer, batch, aggregation.weighted_sum(loss, coefficients))


@pytest.mark.parametrize("normalise", [False, True])
def test_rloo_equals_trl(build: Any, normalise: bool) -> None:
    trainer = build("rloo", beta=0.0, epsilon=0.5, normalize_advantages=normalise)
    batch = sample(trainer)
    advantage = advantages.leave_one_out(batch.reward, batch.group)
    if normalise:
        advantage = normalisation.whiten_rows(advantage)
    torch.testing.assert_close(advantage, batch.inputs["advantages"], **TOLERANCE)
    columns = (batch.logp, batch.logp_old, advantage, batch.mask)
    options = {"low": 0.5, "high": 0.5, "level": "trajectory"}
    touched = surrogates.clipped(*columns, **options)
    assert touched.any(-1).any()
    assert not touched.any(-1).all()
    coefficients = aggregation.seq_mean_token_sum(batch.mask)
    loss = aggregation.weighted_sum(surrogates.clip(*columns, **options), coefficients)
    assert_same_loss_and_gradient(trainer, batch, loss)


def test_rloo_with_a_divergence_in_the_reward_equals_trl(build: Any) -> None:
    trainer = build("rloo", beta=0.05)
    reference = trainer.ref_model
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.mul_(0.8)
    batch = sample(trainer)
    score_after = penalties.kl_in_score(batch.reward, batch.logp_old, batch.logp_ref, batch.mask, coefficient=0.05)
    assert (score_after - batch.reward).abs().max() > 1e-2
    advantage = advantages.leave_one_out(score_after, batch.group)
    torch.testing.assert_close(advantage, batch.inputs["advantages"], **TOLERANCE)
