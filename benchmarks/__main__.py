"""`python -m benchmarks [--only NAME] [--quick] [--out FOLDER]`."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

from benchmarks import (
    bookkeeping,
    deciding,
    imitation_step,
    order_book,
    population,
    results,
    robustness,
    sampling,
    scaling,
    step,
)
from benchmarks.harness import Figure

BENCHMARKS = {
    module.NAME: module
    for module in (sampling, step, scaling, bookkeeping, deciding, imitation_step, robustness, population, order_book)
}
HERE = Path(__file__).parent
REASONS = {
    sampling.NAME: "32 prompts × 8 answers × 64 tokens, Qwen2 of 1.6 M random weights, 8-token prompts. Natural "
    "lengths are uniform in 8..64 and given to both sides. transformers gives tokens; ours gives their "
    "log-probabilities and entropies as well. «products alone» does the matrix products of our sampling and nothing "
    "else: its ratio is the share of our time that they take. The rest is attention (a quarter: products of few rows "
    "that are bound by memory), activations, norms and draws.",
    step.NAME: "The same batch through sampling, reward, advantage and one AdamW update, without KL, in both trainers; "
    "ours keeps its metrics and roll-outs as always, TRL's logging is off. For peak memory the ratio is TRL's over "
    "ours. «products alone» does the matrix products of the step and nothing else: its ratio is the share of our time "
    "that they take, the rest being attention, norms, sampling, AdamW and Python; its note says how far ahead of TRL "
    "they alone would be. The targets were set on a processor with AMX and AVX-512 that multiplies several times as "
    "fast: there the products, which both sides share, were a third of TRL's time (3.1 times as fast alone, 8-token "
    "prompts at full length); on a processor without them they are more, and every ratio lies nearer 1.",
    scaling.NAME: "Our whole step at three sizes, one thread; the ratio is the cost of a token at the largest over "
    "that at the smallest. Beyond 1, it is attention, whose cost per token grows with the length, and caches that no "
    "longer fit; below 1, fixed costs that are shared.",
    bookkeeping.NAME: "Our whole step on one thread at the default settings; the ratio is the share that goes into "
    "metrics, clocks, roll-outs, progress and, once in 20 steps, a checkpoint.",
    deciding.NAME: f"Policies trained for {deciding.STEPS:,} steps each on the world «pillar» with their own defaults "
    "otherwise (ibc and act, the dearest, on batches of 64); a decision is what one robot waits for. Networks differ "
    "as the rows say, so that passes compare only where the network is the same; success is that of one training and "
    "50 starts, a picture and no claim.",
    imitation_step.NAME: "Noise, forward, loss, backward, AdamW and the running average of weights, Push-T's sizes, "
    "256 chunks: U-Net of 64, 128, 256 and transformer of 4 layers of 128. On a par: both sides spend their time in "
    "the same products of torch, and two runs of seven rounds gave .98 and 1.01 for the U-Net, 1.00 and .97 for the "
    "transformer.",
    robustness.NAME: "One formula with nested windows and an until, random trajectories of 20 steps, exact "
    "robustness in float64, equal to 1e-9.",
    population.NAME: f"A simulated day on one thread, R {population.STRENGTH}, a tenth isolating, "
    f"{population.SHARE:.1%} infected at the start, without gradients. Ours looks only at the ill and those whom they "
    "meet; the plain version computes every agent's hazard from six rolled indices, as one writes it first; mesa has "
    "an object per agent, of which only the ill act. Our cost therefore follows the number of the ill, not only that "
    "of agents. «linear» is the cost of an agent-day in the larger city over that in the smaller, «flat» that of a "
    "day and person ill late in an epidemic over that at its start. agent-torch 0.6.0 from PyPI could not be measured: "
    "the example in its description, 37,518 agents, asks for a dense matrix of agents × agents (10.5 GiB) before its "
    "first step, and was ended by the system on a machine of 23 GiB, presumably for memory.",
    order_book.NAME: "A continuous double auction of one stock by price and time; random limits around a middle price, "
    f"{order_book.CANCELLED:.0%} of the events cancel an earlier order. Both others are pure Python: pyorderbook is "
    "kept up, with prices as Decimals; lightmatchingengine has had no release since 2019. Books in C, C++ or Rust "
    "are faster than any of these and were not measured.",
}


def surroundings(beside: str | None) -> str:
    """When, the machine, the versions, and what else it did."""
    from pilotage.networks.products import has_bfloat16_units
    from pilotage.runs.hardware import hardware, versions

    machine = hardware()
    known = ", ".join(f"{name} {version}" for name, version in versions().items() if version)
    return "; ".join(
        (
            time.strftime("%Y-%m-%d") + (f", {beside}" if beside else ""),
            f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
            f"AMX {'yes' if has_bfloat16_units() else 'no'}",
            machine["system"],
            known,
        )
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Side by side with other libraries.")
    parser.add_argument("--only", choices=sorted(BENCHMARKS), action="append", help="this one alone; may be repeated")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: whether it works, not how fast it is")
    parser.add_argument("--beside", help='what else the machine does, for the record: "on an idle machine"')
    parser.add_argument("--out", type=Path, help="folder of results.json and RESULTS.md; with --quick, none by default")
    given = parser.parse_args()
    names = given.only or list(BENCHMARKS)
    folder = given.out or (None if given.quick else HERE)
    targets = {name: module.TARGETS for name, module in BENCHMARKS.items()}
    figures: list[Figure] = []
    measured = surroundings(given.beside)
    for name in names:
        for figure in BENCHMARKS[name].measure(given.quick):
            verdict = results.verdict(figure, results.target_of(figure.name, targets))
            print(f"{figure.name}: {figure.ratio:.3g} ({figure.spread[0]:.3g}–{figure.spread[1]:.3g}) {verdict}")
            sys.stdout.flush()
            figures.append(replace(figure, measured=measured))
    if folder is None:
        return 0
    old = folder / "results.json"
    earlier = results.from_json(old.read_text(encoding="utf-8")) if old.exists() else []
    figures = results.merged(earlier, figures, names)
    figures.sort(key=lambda figure: list(BENCHMARKS).index(figure.name.partition("/")[0]))
    results.write(folder, figures, results.to_markdown(figures, targets, REASONS))
    print(f"written: {folder / 'results.json'}, {folder / 'RESULTS.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
