"""Options of the EBT reference implementation, under its names, as our configuration."""

from collections.abc import Mapping
from typing import Any, Literal

from ebm_jax.energy.replay import ReplayConfig
from ebm_jax.energy.schedule import DescentConfig
from ebm_jax.errors import UserError
from ebm_jax.models.transformer import TransformerConfig

_TRANSFORMER = {
    "embedding_dim", "num_transformer_blocks", "multiheaded_attention_heads", "ffn_dim_multiplier", "ebt_norm",
    "ebt_act_func", "weight_initialization_method", "weight_initialization_gain",
}  # fmt: skip
_DESCENT = {
    "mcmc_num_steps", "mcmc_step_size", "mcmc_step_size_learnable", "mcmc_step_size_lr_multiplier",
    "langevin_dynamics_noise", "langevin_dynamics_noise_learnable", "randomize_mcmc_step_size_scale",
    "randomize_mcmc_num_steps", "randomize_mcmc_num_steps_min", "randomize_mcmc_num_steps_final_landscape",
    "no_mcmc_detach", "normalize_initial_condition", "normalize_initial_condition_only_first_step", "truncate_mcmc",
    "clamp_futures_grad", "clamp_futures_grad_max_change", "absolute_clamp", "sharpen_predicted_distribution",
    "denoising_initial_condition", "gaussian_random_noise_scaling",
}  # fmt: skip
_LOSS = {
    "ebt_type", "vocab_to_embed_uses_prob_dist", "soften_target_prob_dist", "contrastive_loss", "contrastive_loss_coeff",
    "discrete_contrastive_loss_true_logit_val", "reconstruction_coeff", "mcmc_replay_buffer", "mcmc_replay_buffer_size",
    "mcmc_replay_buffer_sample_bs_percent",
}  # fmt: skip
_WITHOUT_EFFECT = {
    "tokenizer", "context_length", "batch_size_per_device", "dyt_alpha_init", "execution_mode", "debug_unused_parameters",
}  # fmt: skip
"""Sizes of the data and the run, read elsewhere."""
_ONLY = {"num_modality_processing_mlp_layers": (1,)}
"""Options of which one value is supported."""


def check_options(options: Mapping[str, Any]) -> None:
    """Refuses an option that has no counterpart here."""
    known = _TRANSFORMER | _DESCENT | _LOSS | _WITHOUT_EFFECT | set(_ONLY)
    if unknown := sorted(set(options) - known):
        raise UserError(f"unknown reference option {unknown[0]}={options[unknown[0]]!r}")
    for name, values in _ONLY.items():
        if options.get(name, values[0]) not in values:
            raise UserError(f"reference option {name}={options[name]!r} is not supported; only {values}")


def transformer_config(options: Mapping[str, Any]) -> TransformerConfig:
    """Sizes and block options."""
    return TransformerConfig(
        depth=options["num_transformer_blocks"],
        width=options["embedding_dim"],
        heads=options["multiheaded_attention_heads"],
        ffn_multiplier=options.get("ffn_dim_multiplier") or 1.0,
        norm=options.get("ebt_norm", "rms"),
        activation=options.get("ebt_act_func", "silu"),
        init=options.get("weight_initialization_method", "xavier"),
        init_gain=options.get("weight_initialization_gain", 1.0),
    )


def descent_config(options: Mapping[str, Any]) -> DescentConfig:
    """The inner loop."""
    get = options.get
    normalise: Literal["every_step", "first_landscape", "never"] = "never"
    if get("normalize_initial_condition", False):
        normalise = "first_landscape" if get("normalize_initial_condition_only_first_step", False) else "every_step"
    initial: dict[str, Literal["noise", "zeros"]] = {"random_noise": "noise", "zeros": "zeros"}
    condition = get("denoising_initial_condition", "random_noise")
    if condition not in initial:
        raise UserError(
            f"reference option denoising_initial_condition={condition!r} is not one of {', '.join(initial)}"
        )
    return DescentConfig(
        landscapes=options["mcmc_num_steps"],
        random_repeats=get("randomize_mcmc_num_steps", 0),
        min_repeats=get("randomize_mcmc_num_steps_min", 0) or 1,
        random_final_only=get("randomize_mcmc_num_steps_final_landscape", False),
        step_size=float(options["mcmc_step_size"]),
        learnable_step_size=get("mcmc_step_size_learnable", False),
        step_size_lr_multiplier=get("mcmc_step_size_lr_multiplier", 5000.0),
        step_size_spread=float(get("randomize_mcmc_step_size_scale", 1)),
        noise=get("langevin_dynamics_noise", 0.0),
        learnable_noise=get("langevin_dynamics_noise_learnable", False),
        normalise=normalise,
        detach=not get("no_mcmc_detach", False),
        loss_on="last_step" if get("truncate_mcmc", False) else "every_step",
        clamp_gradient=get("clamp_futures_grad_max_change", 9.0) if get("clamp_futures_grad", False) else 0.0,
        clamp_state=get("absolute_clamp", 0.0),
        temperature=get("sharpen_predicted_distribution", 0.0) or 1.0,
        initial=initial[condition],
        initial_scale=get("gaussian_random_noise_scaling", 1.0),
    )


def loss_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments of the EBT algorithm's configuration: conditioning, tying, loss terms, replay."""
    get = options.get
    replay = ReplayConfig()
    if get("mcmc_replay_buffer", False):
        replay = ReplayConfig(
            capacity=get("mcmc_replay_buffer_size", 192), fraction=get("mcmc_replay_buffer_sample_bs_percent", 0.5)
        )
    return {
        "conditioning": options["ebt_type"],
        "tied": get("vocab_to_embed_uses_prob_dist", False),
        "label_smoothing": get("soften_target_prob_dist", 0.0),
        "contrastive_coef": get("contrastive_loss_coeff", 5e-4) if get("contrastive_loss", False) else 0.0,
        "contrastive_logit": get("discrete_contrastive_loss_true_logit_val", 0.0),
        "prediction_coef": get("reconstruction_coeff", 1.0),
        "replay": replay,
    }
