"""CARP: a whole chunk of actions in a few passes, coarse tokens first and finer ones after."""

from __future__ import annotations

from pilotage.core.system import Card, Paper, System
from pilotage.systems.robots.carp.config import ACTIONS, TokensConfig, train

CARD = Card(
    name="carp",
    family="robots",
    summary="A residual quantiser turns chunks of actions into tokens at several scales of time; a transformer "
    "predicts them scale by scale, all tokens of a scale at once, so that a decision takes four small passes.",
    audience="Whoever wants the accuracy of a diffusion policy from demonstrations at the price of a few passes.",
    use_when="A decision must take milliseconds, a chunk is smooth in time, and demonstrations may go several ways.",
    avoid_when="Actions are sharp in time (binary grippers among many smooth numbers are the worst case of the "
    "tokeniser), data is so scarce that codes stay unused, or guidance by gradients is needed: tokens have none.",
    paper=Paper("CARP: Visuomotor Policy Learning via Coarse-to-Fine Autoregressive Prediction", "2412.06782"),
    notes="""\
- Two stages. The tokeniser is an artifact, known by the normalised chunks that it was trained on and shared by all arms
  and seeds; killed, it goes on from its own checkpoint. Its report (`tokeniser/…`: error by dimension and number of
  scales, use of codes, share of finest tokens that change when a reconstruction is tokenised again, high frequencies
  of the first scale) stands among the run's metrics, and an event says when it misses its gates.
- The paper trains one tokeniser per dimension and merges them; here the dimensions are groups of one network, which is
  the same (`systems.robots.carp.multiscale_tokeniser.merged` joins separate ones, token for token).
- The paper: 2 channels and 512 codes, 400 epochs at batch 256 and learning rate 3e-4·batch/256; transformer depth =
  heads = 8, width 64, 4000 epochs, learning rate 1e-4·batch/256 with weight decay .05, clip 2 and linear decay to a
  tenth. Here: 8 channels and 256 codes, 4 blocks of width 64, minutes. The paper's size is
  `--tokeniser multiscale:scales=1|2|3|4,codes=512,latent=8,channels=2 --network next_scale:width=64,depth=8`.
- The learning rate is larger than the paper's: on Push-T (6,000 steps of 128, one seed) 3e-3 covers .74, 1e-3 .61; on
  the pillar both always succeed.
- The published code switches off the initialisation of torch's layers for the whole process; here weights are
  initialised as in VAR, except that the gates of the blocks begin at 1.
- Drawing in parallel: with top_k above 1 the tokens of one scale are drawn independently, also those of different
  dimensions; nothing but the next scale can mend two that do not go together. `argmax_scales=1` draws the coarse
  scales only, `candidates=8` takes the likeliest of eight chunks (ours, not the paper's).
- Variants: `--network next_scale:order=token` predicts the same tokens one by one; `--tokeniser multiscale:scales=4`
  is a plain quantised chunk with one scale.
- Padding: a chunk at the edge of an episode repeats its last action, and its tokens are learned with that.
- Numbers that only ever are at one of the two ends of their range (grippers) are brought to the nearer end.
""",
)

SYSTEM = System(
    CARD,
    TokensConfig(
        head="tokens",
        network="next_scale:width=64,depth=4",
        steps=3000,
        batch=128,
        lr=3e-3,
        weight_decay=0.05,
        beta1=0.9,
        beta2=0.95,
        grad_clip=2.0,
    ),
    train,
    ACTIONS,
    metric="evaluation/success",
    pieces={
        "head": {"tokens": "pilotage.systems.robots.carp.head:NextScaleTokens"},
        "network": {"next_scale": "pilotage.systems.robots.carp.next_scale_transformer:NextScaleTransformer"},
        "tokeniser": {"multiscale": "pilotage.systems.robots.carp.multiscale_tokeniser:MultiscaleTokeniser"},
    },
)
