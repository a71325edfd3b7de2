"""Numbers of the recipes that follow from others."""

import numpy as np

from configs.recipes import ebft_optim, ebft_steps, ebft_train


def test_steps_of_energy_based_fine_tuning():
    # 64 sequences of a step are 4 samples of each of 16 rows.
    for rows, episodes in ((20_000, 1), (20_015, 2), (15, 3)):
        assert ebft_steps(rows, episodes=episodes) == (rows * 4 // 64) * episodes
    assert ebft_steps(100, batch_size=8) == 12


def test_warm_up_is_three_percent_of_the_steps():
    assert [ebft_optim(steps).warmup_steps for steps in (1, 100, 1250, 1251)] == [1, 3, 38, 38]
    optim = ebft_optim(1250)
    assert (optim.peak_lr, optim.b1, optim.b2, optim.weight_decay, optim.clip_norm) == (1e-6, 0.9, 0.95, 0.0, 1.0)


def test_checkpoints_are_even_on_a_logarithmic_scale():
    for steps in (1250, 2500, 123, 20):
        train = ebft_train(steps)
        expected = sorted({int(step) for step in np.logspace(-2.1, 0, 10) * steps} - {0})
        assert list(train.checkpoint_at) == expected and expected[-1] == steps
        assert train.keep >= len(expected)
    assert ebft_train(1250).checkpoint_at == (9, 16, 29, 49, 85, 145, 249, 426, 730, 1250)
