"""The well-known ways to imitate as rows: what everything else is compared with. Each is a choice for each part.

Sizes are those of a laptop; the papers' own stand in the notes.
"""

from __future__ import annotations

from collections.abc import Mapping

from pilotage.core.system import Card, Paper, System
from pilotage.training.imitation.config import ACTIONS, RUN, ImitationConfig


def _row(
    name: str,
    summary: str,
    use_when: str,
    avoid_when: str,
    paper: Paper | None,
    config: ImitationConfig,
    notes: str = "",
    pieces: Mapping[str, Mapping[str, str]] | None = None,
) -> System:
    card = Card(
        name=name,
        family="robots",
        summary=summary,
        audience="Anyone who has demonstrations and needs a faithful baseline.",
        use_when=use_when,
        avoid_when=avoid_when,
        paper=paper,
        baseline=True,
        notes=notes,
    )
    return System(card, config, RUN, ACTIONS, metric="evaluation/success", pieces=pieces or {})


DIFFUSION_POLICY = Paper("Diffusion Policy: Visuomotor Policy Learning via Action Diffusion", "2303.04137")

SYSTEMS = [
    _row(
        "diffusion-mlp",
        "A residual network denoises the flattened chunk of actions and predicts the clean chunk.",
        "Observations are low-dimensional and minutes matter: the cheapest diffusion policy that is good.",
        "Chunks are long or images are the input.",
        DIFFUSION_POLICY,
        ImitationConfig(head="denoiser:predicts=clean", network="residual_mlp:width=512,depth=3", steps=6000),
        "- Predicting the clean chunk instead of the noise learns faster at this size; the paper predicts noise.\n",
        pieces={
            "head": {"denoiser": "pilotage.policies.control.heads.denoiser:Denoiser"},
            "noise_schedule": {"vp": "pilotage.objectives.noise_paths:VariancePreserving"},
            "denoising_sampler": {
                "ddpm": "pilotage.policies.control.sampling.discrete_samplers:ddpm",
                "ddim": "pilotage.policies.control.sampling.discrete_samplers:ddim",
            },
            "start": {"fresh": "pilotage.policies.control.sampling.starts:FreshStart"},
        },
    ),
    _row(
        "diffusion-policy-c",
        "A 1-D convolutional U-Net denoises the chunk of actions; receding horizon. Diffusion Policy, the CNN variant.",
        "You want the reference method for imitation from multi-modal demonstrations.",
        "A decision must take few milliseconds: it is tens of passes of a U-Net.",
        DIFFUSION_POLICY,
        ImitationConfig(
            head="denoiser:predicts=noise",
            network="unet:widths=64|128|256",
            sampler="ddpm:steps=100",
            lr=1e-4,
            lr_warmup_steps=500,
        ),
        "- The paper's widths are 256, 512, 1024 and its 5000 epochs are far more than a laptop's "
        "(`--network 'unet:widths=256|512|1024'`).\n",
        pieces={
            "network": {"unet": "pilotage.networks.unet1d:UNet1d"},
            "encoder": {"image": "pilotage.policies.control.encoders:ImageEncoder"},
            "env": {"push-t": "pilotage.environments.control.push_t:PushT"},
        },
    ),
    _row(
        "diffusion-policy-t",
        "A transformer denoises the chunk of actions, attending to the observed frames. Diffusion Policy, the "
        "transformer variant.",
        "Actions change fast from step to step, which convolutions smooth away.",
        "Data is scarce: it is more sensitive to its hyper-parameters than the U-Net.",
        DIFFUSION_POLICY,
        ImitationConfig(
            head="denoiser:predicts=noise",
            network="transformer:width=128,depth=4,heads=4",
            sampler="ddpm:steps=100",
            lr=1e-4,
            lr_warmup_steps=1000,
            beta1=0.9,
            beta2=0.95,
            weight_decay=0.1,
        ),
        "- The paper's Push-T size is width 256, depth 8.\n",
        pieces={"network": {"transformer": "pilotage.networks.action_transformer:ActionTransformer"}},
    ),
    _row(
        "flow-matching",
        "A velocity field carries noise to actions along straight lines, in a few Euler steps.",
        "You want diffusion's multi-modality with fewer passes and a simpler loss.",
        "You need guidance or samplers that were made for diffusion.",
        Paper("Flow Matching for Generative Modeling", "2210.02747"),
        ImitationConfig(
            head="denoiser:predicts=velocity", noise_schedule="linear", sampler="flow_euler:steps=10", steps=6000
        ),
        pieces={
            "noise_schedule": {"linear": "pilotage.objectives.noise_paths:Linear"},
            "denoising_sampler": {"flow_euler": "pilotage.policies.control.sampling.samplers:flow_euler"},
        },
    ),
    _row(
        "bc-mlp",
        "Behaviour cloning: a network is regressed on the demonstrated chunk.",
        "Demonstrations do one thing in one situation; it takes one pass and trains in seconds.",
        "Demonstrations do different things in one situation: it answers their mean.",
        None,
        ImitationConfig(head="regression", network="residual_mlp:width=512,depth=3"),
        pieces={
            "head": {"regression": "pilotage.policies.control.heads.direct:Regression"},
            "encoder": {
                "flatten": "pilotage.policies.control.encoders:FlattenEncoder",
                "mlp": "pilotage.policies.control.encoders:MLPEncoder",
            },
            "network": {"residual_mlp": "pilotage.networks.residual_mlp:ResidualMLP"},
            "reader": {
                "minari": "pilotage.data.formats.minari_dataset:read_minari",
                "lerobot": "pilotage.data.formats.lerobot_dataset:read_lerobot",
                "zarr": "pilotage.data.formats.zarr_replay:read_zarr",
                "robomimic": "pilotage.data.formats.robomimic_hdf5:read_robomimic",
                "d4rl": "pilotage.data.formats.d4rl_hdf5:read_d4rl",
                "npz": "pilotage.data.formats.numpy_archive:read_npz",
                "pusht": "pilotage.data.pusht:read_pusht",
            },
            "executor": {"receding": "pilotage.policies.control.execution.executors:RecedingHorizon"},
            "env": {
                "pillar": "pilotage.environments.control.pillar:Pillar",
                "ring": "pilotage.environments.control.mazes:PointMaze",
                "ring-fixed": "pilotage.environments.control.mazes:ring_fixed",
                "lattice": "pilotage.environments.control.mazes:lattice",
                "lattice-fixed": "pilotage.environments.control.mazes:lattice_fixed",
                "lattice-goals": "pilotage.environments.control.mazes:lattice_goals",
                "lattice-play": "pilotage.environments.control.mazes:lattice_play",
            },
            "expert": {
                "pillar": "pilotage.environments.control.pillar:SwerveExpert",
                "ring": "pilotage.environments.control.mazes:WaypointExpert",
                "lattice": "pilotage.environments.control.mazes:WaypointExpert",
                "lattice-play": "pilotage.environments.control.mazes:PlayExpert",
            },
        },
    ),
    _row(
        "lstm-gmm",
        "An LSTM over the observed frames gives a mixture of Gaussians; acts with the mean of a drawn mode.",
        "History matters and a decision must be one cheap pass.",
        "Modes are many or chunks are long.",
        Paper("What Matters in Learning from Offline Human Demonstrations for Robot Manipulation", "2108.03298"),
        ImitationConfig(
            encoder="recurrent:width=128,depth=2",
            head="mixture:modes=5,per_step=true",
            network="framewise",
            n_obs_steps=10,
            chunk_size=10,
            n_action_steps=1,
        ),
        "- A mixture for every step of a window of ten, of which the last is executed. robomimic's LSTM has width 400 "
        "and keeps its state from step to step; here it is run anew over the window.\n",
        pieces={
            "head": {"mixture": "pilotage.policies.control.heads.direct:Mixture"},
            "encoder": {"recurrent": "pilotage.policies.control.encoders:RecurrentEncoder"},
            "network": {"framewise": "pilotage.networks.framewise:Framewise"},
        },
    ),
    _row(
        "bet",
        "Behavior Transformer: k-means bins of actions are classified, and an offset from the bin's centre is added.",
        "Multi-modal demonstrations and one pass per decision.",
        "Actions are many-dimensional: bins over whole actions grow sparse.",
        Paper("Behavior Transformers: Cloning k modes with one stone", "2206.11251"),
        ImitationConfig(
            head="bins:bins=24,offset_weight=1000",
            network="gpt:width=72,depth=4,heads=4",
            n_obs_steps=3,
            chunk_size=3,
            n_action_steps=1,
        ),
        pieces={
            "head": {"bins": "pilotage.policies.control.heads.direct:BinsWithOffsets"},
            "network": {"gpt": "pilotage.networks.gpt:GPT"},
        },
    ),
    _row(
        "ibc",
        "Implicit behaviour cloning: an energy is trained to be lower at demonstrated actions than at random ones.",
        "You want to compare with the first energy-based imitation.",
        "Actions are many-dimensional or chunks long: its search without gradients does not scale.",
        Paper("Implicit Behavioral Cloning", "2109.00137"),
        ImitationConfig(
            head="contrastive:negatives=64,candidates=512,rounds=5",
            network="residual_mlp:width=256,depth=4",
            n_obs_steps=2,
            chunk_size=2,
            n_action_steps=1,
        ),
        "- The paper has 1024 negatives and networks of width 1024.\n",
        pieces={
            "head": {"contrastive": "pilotage.policies.control.heads.energy:ContrastiveEnergy"},
            "guidance": {"best_of": "pilotage.policies.control.sampling.guidance:BestOf"},
        },
    ),
    _row(
        "act",
        "Action chunking: a transformer with a latent variable predicts chunks by L1; overlapping ones are averaged.",
        "Fine manipulation where single-step errors add up and demonstrations are nearly of one mind.",
        "Demonstrations are truly multi-modal: with its latent at zero it answers one compromise.",
        Paper("Learning Fine-Grained Bimanual Manipulation with Low-Cost Hardware", "2304.13705"),
        ImitationConfig(
            head="latent:latent=8,divergence_weight=10",
            network="transformer:width=128,depth=2,heads=4",
            executor="ensembling:rate=0.01",
            n_action_steps=1,
            lr=3e-4,
        ),
        "- The paper: chunk 100, width 512, four encoder and one decoder layers, latent 32.\n",
        pieces={
            "head": {"latent": "pilotage.policies.control.heads.direct:LatentVariable"},
            "executor": {"ensembling": "pilotage.policies.control.execution.executors:TemporalEnsembling"},
        },
    ),
]
