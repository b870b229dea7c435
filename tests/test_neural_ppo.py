"""PPO: what advantages and the loss are, step by step, that padding never counts, and that it learns."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from memp.errors import InputError
from memp.neural.policy import Policy
from memp.neural.ppo import PPO, Batch, PPOSettings, Retained, advantages, kl_penalty, loss
from memp.neural.rollouts import Rollouts, collect, joined, likelihood
from tasks.gridworld.preferences import Preferences

WIDTH, ACTIONS = 5, 3


def made(seed: int, n: int = 4, t: int = 6) -> Rollouts:
    """Rollouts by chance, of several lengths, some of them truncated."""
    random = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, t + 1, (n,), generator=random)
    lengths[0] = t

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random)

    return Rollouts(
        observations=drawn(n, t, WIDTH),
        actions=torch.randint(ACTIONS, (n, t), generator=random),
        rewards=drawn(n, t),
        log_probs=-drawn(n, t).abs(),
        values=drawn(n, t),
        mask=torch.arange(t) < lengths[:, None],
        last_values=drawn(n) * torch.randint(2, (n,), generator=random),
    )


def batch(rollouts: Rollouts, seed: int, retained: Retained | None = None) -> Batch:
    """What a step learns from, by chance."""
    random = torch.Generator().manual_seed(seed)
    shape = rollouts.mask.shape
    return Batch(
        rollouts,
        torch.randn(shape, generator=random),
        torch.randn(shape, generator=random),
        torch.rand(shape[0], generator=random) * 2,
        retained,
    )


def policy(seed: int = 0) -> Policy:
    return Policy(WIDTH, ACTIONS, hidden=(8,), seed=seed)


def retaining(rollouts: Rollouts, rows: Tensor) -> Retained:
    """Hold a policy to some rollouts."""
    return Retained(rollouts[rows], torch.ones(len(rows)))


def parameters(of: Policy) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in of.parameters()])


class TestRollouts:
    def test_actions_are_drawn_from_the_policy_and_its_log_probabilities_are_kept(self) -> None:
        acting = Policy(57, 4, seed=1)
        env = Preferences(0, 300, seed=2)
        rollouts = collect(acting, env, generator=torch.Generator().manual_seed(3))

        torch.testing.assert_close(rollouts.log_probs_under(acting), rollouts.log_probs * rollouts.mask)
        torch.testing.assert_close(rollouts.returns.max(), torch.tensor(1.0))
        assert rollouts.mask.sum(1).max() == env.max_steps
        assert torch.bincount(rollouts.steps[1]).min() > 300  # at first all actions are about as likely

    def test_only_a_truncated_rollout_has_a_last_value(self) -> None:
        acting = Policy(57, 4, seed=1)
        env = Preferences(0, 300, seed=2)
        rollouts = collect(acting, env, generator=torch.Generator().manual_seed(3))
        truncated = (rollouts.lengths == env.max_steps) & (rollouts.returns == 0)

        assert 50 < truncated.sum() < 250
        assert (rollouts.last_values[truncated] != 0).all()
        assert (rollouts.last_values[~truncated] == 0).all()

    def test_some_of_them_are_cut_to_their_longest(self) -> None:
        rollouts = made(1, n=20)
        rows = torch.nonzero(rollouts.lengths <= 3).squeeze(1)
        some = rollouts[rows]

        assert some.mask.shape == (len(rows), int(rollouts.lengths[rows].max()))
        assert torch.equal(some.returns, rollouts.returns[rows])

    def test_joined_ones_are_as_they_were(self) -> None:
        one, other = made(1, t=3), made(2, t=6)
        both = joined([one, other])

        assert torch.equal(both.returns, torch.cat([one.returns, other.returns]))
        assert torch.equal(both.steps[0], torch.cat([one.steps[0], other.steps[0]]))
        with pytest.raises(InputError, match="no rollouts"):
            joined([])

    def test_the_likelihood_of_a_rollout_is_a_mean_of_its_steps_or_their_sum(self) -> None:
        log_probs = torch.tensor([[-1.0, -2.0, 9.0], [-3.0, 9.0, 9.0]])
        mask = torch.tensor([[True, True, False], [True, False, False]])

        assert likelihood(log_probs, mask).tolist() == [-1.5, -3]
        assert likelihood(log_probs, mask, per="rollout").tolist() == [-3, -3]
        with pytest.raises(InputError, match="unknown per 'token'"):
            likelihood(log_probs, mask, per="token")  # type: ignore[arg-type]

    @pytest.mark.parametrize("field", [field.name for field in fields(Rollouts)])
    def test_shapes_that_disagree_are_refused(self, field: str) -> None:
        rollouts = made(0)
        with pytest.raises(InputError, match="of shape"):
            replace(rollouts, **{field: getattr(rollouts, field)[:-1]}).checked()

    @pytest.mark.parametrize("field", ["observations", "rewards", "log_probs", "values", "last_values"])
    @pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
    def test_numbers_that_are_not_finite_are_refused(self, field: str, wrong: float) -> None:
        rollouts = made(0)
        with pytest.raises(InputError, match=f"{field} holds a number that is not finite"):
            replace(rollouts, **{field: torch.full_like(getattr(rollouts, field), wrong)}).checked()

    @pytest.mark.parametrize("mask", [[[False, False]], [[False, True]]])
    def test_an_empty_rollout_and_padding_in_front_are_refused(self, mask: list[list[bool]]) -> None:
        rollouts = made(0, n=1, t=2)
        with pytest.raises(InputError, match="each must have a step"):
            replace(rollouts, mask=torch.tensor(mask)).checked()


class TestAdvantages:
    @settings(deadline=None, max_examples=40)
    @given(st.integers(0, 10**6), st.floats(0, 1), st.floats(0, 1))
    def test_they_are_the_discounted_sums_of_surprises(
        self, seed: int, discount: float, trace: float
    ) -> None:
        rollouts = made(seed)
        found = advantages(rollouts, discount=discount, trace=trace)
        for row, length in enumerate(rollouts.lengths.tolist()):
            values = [*rollouts.values[row, :length].tolist(), rollouts.last_values[row].item()]
            surprises = [
                rollouts.rewards[row, t].item() + discount * values[t + 1] - values[t] for t in range(length)
            ]
            for t in range(rollouts.mask.shape[1]):
                ahead = [(discount * trace) ** (k - t) * surprises[k] for k in range(t, length)]
                assert found[row, t].item() == pytest.approx(sum(ahead), abs=1e-4)

    def test_a_truncated_rollout_counts_what_was_to_come_and_a_terminated_one_does_not(self) -> None:
        one = made(0, n=1, t=1)
        ended = replace(one, rewards=torch.zeros(1, 1), values=torch.zeros(1, 1), last_values=torch.zeros(1))
        cut = replace(ended, last_values=torch.full((1,), 2.0))

        assert advantages(ended, discount=0.9, trace=0.5).item() == 0
        assert advantages(cut, discount=0.9, trace=0.5).item() == pytest.approx(1.8)


class TestLoss:
    @settings(deadline=None, max_examples=20)
    @given(st.integers(0, 10**6), st.sampled_from([None, 0.1]), st.sampled_from(["step", "rollout"]))
    def test_it_is_what_its_formula_says_step_by_step(
        self, seed: int, value_clip: float | None, per: str
    ) -> None:
        said = PPOSettings(value_clip=value_clip, value_weight=0.7, entropy_weight=0.3, clip=0.1)
        now, kept = policy(seed), made(seed + 1, n=3, t=4)
        retained = Retained(kept, torch.tensor([0.0, 1.0, 2.5]), 0.4, per)  # type: ignore[arg-type]
        given_ = batch(made(seed), seed, retained)
        found = loss(now, given_, said)

        surrogate, value, entropy = [], [], []
        rollouts = given_.rollouts
        for row, length in enumerate(rollouts.lengths.tolist()):
            for t in range(length):
                log_probs = now.log_probs(rollouts.observations[row, t])
                ratio = (log_probs[rollouts.actions[row, t]] - rollouts.log_probs[row, t]).exp()
                gain = given_.advantages[row, t]
                clipped = torch.min(ratio * gain, ratio.clamp(0.9, 1.1) * gain)
                surrogate.append(-given_.alpha[row] * clipped)
                entropy.append(torch.distributions.Categorical(logits=log_probs).entropy())
                expected, target = now.values(rollouts.observations[row, t]), given_.targets[row, t]
                error = (expected - target) ** 2
                if value_clip is not None:
                    before = rollouts.values[row, t]
                    held = before + (expected - before).clamp(-value_clip, value_clip)
                    error = torch.max(error, (held - target) ** 2)
                value.append(error / 2)
        away = []
        for row, length in enumerate(kept.lengths.tolist()):
            steps = [
                now.log_probs(kept.observations[row, t])[kept.actions[row, t]] - kept.log_probs[row, t]
                for t in range(length)
            ]
            mean = torch.stack(steps).sum() / (length if per == "step" else 1)
            away.append(retained.beta[row] * mean**2)
        parts = [torch.stack(part).mean() for part in (surrogate, value, entropy, away)]
        total = parts[0] + 0.7 * parts[1] - 0.3 * parts[2] + 0.4 * parts[3]

        torch.testing.assert_close(torch.stack(found), torch.stack([*parts, total]), rtol=1e-4, atol=1e-5)

    def test_what_is_in_the_padding_never_counts(self) -> None:
        rollouts = made(4)
        changed = replace(
            rollouts,
            **{
                field: torch.where(rollouts.mask, getattr(rollouts, field), 77.0)
                for field in ("rewards", "log_probs", "values")
            },
            observations=torch.where(rollouts.mask[..., None], rollouts.observations, 77.0),
            actions=torch.where(rollouts.mask, rollouts.actions, 0),
        )
        learned = []
        for given_ in (rollouts, changed):
            learner = PPO(policy(), seed=0)
            learner.update(given_, retained=partial(retaining, given_))
            learned.append(parameters(learner.policy))

        assert (~rollouts.mask).any()
        assert torch.equal(*learned)


class TestLearning:
    def test_a_task_is_learned_on_arrangements_never_seen(self) -> None:
        learner = PPO(Policy(57, 4, seed=0), PPOSettings(entropy_weight=0.05), seed=0)
        env, generator = Preferences(1, 128, seed=0), torch.Generator().manual_seed(0)
        for _ in range(25):
            learner.update(collect(learner.policy, env, generator=generator))
        test = Preferences(1, 500, seed=1, split="test")
        collect(learner.policy, test, generator=generator)

        assert test.success.mean() > 0.75

    def test_the_same_seed_gives_the_same_policy_and_leaves_global_randomness_alone(self) -> None:
        before = torch.get_rng_state()
        learned = []
        for seed in (0, 0, 1):
            learner = PPO(policy(), seed=seed)
            learner.update(made(1, n=16))
            learned.append(parameters(learner.policy))

        assert torch.equal(learned[0], learned[1])
        assert not torch.equal(learned[0], learned[2])
        assert torch.equal(before, torch.get_rng_state())

    def test_the_critic_learns_what_was_paid_whatever_was_expected(self) -> None:
        rollouts = made(7, n=8, t=1)
        rollouts = replace(rollouts, values=torch.full((8, 1), 5.0), last_values=torch.zeros(8))
        learner = PPO(policy(), PPOSettings(learning_rate=0.02, epochs=400, minibatches=1, trace=1), seed=0)
        learner.update(rollouts)

        torch.testing.assert_close(
            learner.policy.values(rollouts.observations), rollouts.rewards, rtol=0, atol=0.2
        )

    def test_from_a_rollout_without_weight_the_actor_learns_nothing(self) -> None:
        rollouts, learned = made(3, n=2), []
        for worst in (-1.0, 1.0):
            learner = PPO(policy(), PPOSettings(entropy_weight=0, max_gradient=1e9), seed=0)
            acted = replace(rollouts, log_probs=rollouts.log_probs_under(learner.policy))
            gain = torch.ones_like(acted.rewards)
            gain[1] = worst
            said = Batch(acted, gain, gain, torch.tensor([1.0, 0.0]))
            loss(learner.policy, said, learner.settings).total.backward()
            learned.append([parameter.grad for parameter in learner.policy.actor.parameters()])

        assert all(torch.equal(*pair) for pair in zip(*learned, strict=True))

    def test_a_penalty_on_divergence_holds_a_policy_where_it_was(self) -> None:
        moved = []
        for weight in (0.0, 100.0):
            learner = PPO(policy(), PPOSettings(entropy_weight=0), seed=0)
            held = kl_penalty(learner.policy, learner.policy.frozen(), weight=weight)
            rollouts = made(2, n=16)
            assert held(rollouts).item() == 0
            for _ in range(5):
                learner.update(
                    replace(rollouts, log_probs=rollouts.log_probs_under(learner.policy)), penalty=held
                )
            unit = kl_penalty(learner.policy, policy(), weight=1.0)
            moved.append(unit(rollouts).item())

        assert 0 < 10 * moved[1] < moved[0]

    def test_retained_rollouts_keep_their_likelihood(self) -> None:
        kept, away = made(5, n=16), []
        for coefficient in (0.0, 10.0):
            learner = PPO(policy(), seed=0)
            kept = replace(kept, log_probs=kept.log_probs_under(learner.policy))
            retained = Retained(kept, torch.ones(16), coefficient)
            for _ in range(5):
                rollouts = made(6, n=16)
                learner.update(
                    replace(rollouts, log_probs=rollouts.log_probs_under(learner.policy)),
                    retained=partial(lambda held, _: held, retained),
                )
            away.append(retained.loss(learner.policy).item())

        assert 0 < 10 * away[1] < away[0]


class TestRefusing:
    @pytest.mark.parametrize("alpha", [torch.ones(3), torch.ones(4, 1), torch.full((4,), float("nan"))])
    def test_weights_that_are_not_one_finite_number_for_each_rollout(self, alpha: Tensor) -> None:
        with pytest.raises(InputError, match="a finite weight for each of 4 rollouts"):
            PPO(policy(), seed=0).update(made(0), alpha=alpha)

    def test_a_loss_that_is_not_finite(self) -> None:
        learner = PPO(policy(), seed=0)
        before = parameters(learner.policy)
        with pytest.raises(InputError, match="the loss is nan"):
            learner.update(made(0), penalty=lambda _: torch.tensor(float("nan")))
        assert torch.equal(before, parameters(learner.policy))

    @pytest.mark.parametrize(
        "wrong",
        [
            {"learning_rate": 0.0},
            {"clip": -0.1},
            {"discount": 1.1},
            {"trace": -0.1},
            {"value_clip": 0.0},
            {"entropy_weight": -1.0},
            {"epochs": 0},
            {"minibatches": 0},
            {"max_gradient": float("nan")},
        ],
    )
    def test_settings_out_of_range(self, wrong: dict[str, float]) -> None:
        with pytest.raises(InputError, match=f"{next(iter(wrong))} is "):
            PPOSettings(**wrong)  # type: ignore[arg-type]

    def test_a_policy_without_width(self) -> None:
        with pytest.raises(InputError, match="at least 1"):
            Policy(0, 4, seed=0)
