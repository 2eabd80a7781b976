"""GRPO from top to bottom on a Hugging Face model, with the pure functions of `pilotage.objectives`.

    python examples/grpo_from_scratch.py                          # a tiny model with random weights, seconds on a CPU
    python examples/grpo_from_scratch.py --model PATH --lr 1e-6   # any causal language model that transformers opens

No trainer, no configuration, no run directory: what stands here is all that happens. Four lines are the method
(advantage, loss of a token, aggregation, sum); exchange one of them for another function of the package.
"""

import argparse
import random
import re

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from pilotage.objectives import clip, clipped, group_zscore, k3, seq_mean_token_mean, weighted_sum

parser = argparse.ArgumentParser(description="GRPO in one file.")
parser.add_argument("--model", default="", help="a causal language model (default: a tiny random one)")
parser.add_argument("--steps", type=int, default=60, help="batches of roll-outs")
parser.add_argument("--prompts", type=int, default=8, help="prompts per step")
parser.add_argument("--group-size", type=int, default=8, help="answers per prompt (G)")
parser.add_argument("--updates", type=int, default=2, help="optimiser steps per batch (μ)")
parser.add_argument("--max-tokens", type=int, default=0, help="longest answer (default: 2 of the tiny model, else 64)")
parser.add_argument("--lr", type=float, default=3e-3, help="learning rate of AdamW")
parser.add_argument("--kl", type=float, default=0.0, help="factor of the divergence from the model at the start (β)")
parser.add_argument("--seed", type=int, default=0, help="seed of prompts, weights and answers")
options = parser.parse_args()
torch.manual_seed(options.seed)
prompts_of = random.Random(options.seed)

# ---- the policy ------------------------------------------------------------------------------------------------------

if options.model:
    tokenizer = AutoTokenizer.from_pretrained(options.model, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
else:
    letters = ["<pad>", "<end>", *"0123456789+="]
    tiny = Tokenizer(models.WordLevel({letter: place for place, letter in enumerate(letters)}, unk_token="<pad>"))
    tiny.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tiny,
        pad_token="<pad>",
        eos_token="<end>",
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(letters), eos_token_id=1, pad_token_id=0, **shape))
if tokenizer.pad_token_id is None:
    tokenizer.pad_token = tokenizer.eos_token
max_tokens = options.max_tokens or (64 if options.model else 2)
optimiser = torch.optim.AdamW(model.parameters(), lr=options.lr, weight_decay=0.0)

# ---- the task: what is asked, and how good an answer is ------------------------------------------------------------


def question() -> tuple[str, int]:
    """Return a sum as text, and what it comes to."""
    first, second = prompts_of.randint(0, 4), prompts_of.randint(0, 4)
    if not options.model:
        return f"{first}+{second}=", first + second
    return f"What is {first} + {second}? Answer with a number.\n", first + second


def reward_of(answer: str, right: int) -> float:
    """Return 1 for the right number, 0.2 for another one, 0 for none."""
    numbers = re.findall(r"\d+", answer)
    return 0.0 if not numbers else 1.0 if int(numbers[-1]) == right else 0.2


# ---- the log-probability of what was sampled -----------------------------------------------------------------------


def log_probabilities(of: torch.nn.Module, ids: torch.Tensor, seen: torch.Tensor, answer_length: int) -> torch.Tensor:
    """Return the log-probability of every token of the answers, [answer, token].

    Args:
        of: the model.
        ids: prompts, padded on the left, and answers, [answer, position].
        seen: which positions are no padding, [answer, position].
        answer_length: number of positions that belong to the answers.
    """
    positions = (seen.cumsum(-1) - 1).clamp(min=0)
    logits = of(input_ids=ids, attention_mask=seen.long(), position_ids=positions).logits
    logits = logits[:, -answer_length - 1 : -1].float()
    return logits.log_softmax(-1).gather(-1, ids[:, -answer_length:, None]).squeeze(-1)


reference = None
if options.kl:
    reference = type(model)(model.config)
    reference.load_state_dict(model.state_dict())
    reference.eval()

# ---- the loop --------------------------------------------------------------------------------------------------------

for step in range(options.steps):
    # Roll out: `group_size` answers to each of `prompts` questions.
    asked = [question() for _ in range(options.prompts)]
    asked = [one for one in asked for _ in range(options.group_size)]
    group = torch.arange(options.prompts).repeat_interleave(options.group_size)
    batch = tokenizer([text for text, _ in asked], return_tensors="pt", padding=True, return_token_type_ids=False)
    model.eval()
    with torch.no_grad():
        ids = model.generate(
            **batch,
            max_new_tokens=max_tokens,
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            pad_token_id=tokenizer.pad_token_id,
        )
    answers = ids[:, batch["input_ids"].shape[1] :]

    # An answer ends with its first end token, which counts; what follows is padding.
    ended = (answers == tokenizer.eos_token_id).cumsum(-1)
    mask = (ended == 0) | ((ended == 1) & (answers == tokenizer.eos_token_id))
    seen = torch.cat([batch["attention_mask"].bool(), mask], dim=-1)

    # Score, and compare each answer with the others to its question.
    texts = tokenizer.batch_decode(
        [row[kept] for row, kept in zip(answers, mask, strict=True)], skip_special_tokens=True
    )
    reward = torch.tensor([reward_of(text, right) for text, (_, right) in zip(texts, asked, strict=True)])
    advantage = group_zscore(reward, group)

    # The policy that sampled is the one before the first update.
    with torch.no_grad():
        logp_old = log_probabilities(model, ids, seen, answers.shape[1])
        logp_ref = log_probabilities(reference, ids, seen, answers.shape[1]) if reference is not None else None

    for _ in range(options.updates):
        logp = log_probabilities(model, ids, seen, answers.shape[1])
        token_loss = clip(logp, logp_old, advantage, mask, low=0.2, high=0.2)
        if logp_ref is not None:
            token_loss = token_loss + options.kl * k3(logp, logp_ref, mask)
        loss = weighted_sum(token_loss, seq_mean_token_mean(mask))
        optimiser.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()

    if step % 10 == 0 or step == options.steps - 1:
        with torch.no_grad():
            cut = clipped(logp, logp_old, advantage, mask).float().sum() / mask.sum()
        print(
            f"step {step:4d}  reward {reward.mean():.3f}  right {(reward == 1).float().mean():.3f}  "
            f"length {mask.sum(-1).float().mean():.1f}  loss {loss.item():+.4f}  gradient {norm:.3f}  clipped {cut:.3f}"
        )
