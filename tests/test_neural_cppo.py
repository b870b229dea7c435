"""CPPO: its types and weights keep their constraints, and without weights it is PPO to the bit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from evals.learners.cells import Cell
from evals.learners.cppo import live, measure
from evals.learners.cppo_arms import ARMS, FAMILIES, Cppo
from memp.errors import InputError
from memp.neural.cppo import CPPO, CPPOSettings, Reference, Weighing, weigh
from memp.neural.policy import Policy
from memp.neural.ppo import PPO
from memp.neural.rollouts import collect
from memp.neural.weights import (
    ALPHA_SIGNS,
    BETA_SIGNS,
    NORMAL,
    TYPES,
    Weights,
    closed,
    gradient,
    heuristic,
    objective,
    standings,
    types,
    unmet,
)
from tasks.gridworld.preferences import Preferences
from tests.test_neural_ppo import made, parameters

LOW, HIGH = 0.3, 2.5

some = settings(deadline=None, max_examples=40)

finite = st.floats(-1e3, 1e3, width=32)


@st.composite
def judged(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Likelihoods and returns of the same rollouts."""
    n = draw(st.integers(1, 40))
    return tuple(torch.tensor(draw(st.lists(finite, min_size=n, max_size=n))) for _ in range(2))  # type: ignore[return-value]


kinds_of_all = st.lists(st.integers(0, NORMAL), min_size=1, max_size=60).map(torch.tensor)


def counted(*counts: int) -> Tensor:
    """So many rollouts of each type."""
    return torch.repeat_interleave(torch.arange(len(TYPES)), torch.tensor(counts))


class TestTypes:
    @some
    @given(judged(), st.floats(0.1, 2))
    def test_they_are_told_by_both_standings(self, both: tuple[Tensor, Tensor], threshold: float) -> None:
        p, r = (standings(found, threshold=threshold).tolist() for found in both)
        expected = [
            0 if a >= 1 and b >= 1
            else 1 if a >= 1 and b <= -1
            else 2 if a <= -1 and b >= 1
            else 3 if a <= -1 and b <= -1
            else 4
            for a, b in zip(p, r, strict=True)
        ]  # fmt: skip
        assert types(*both, threshold=threshold).tolist() == expected

    @pytest.mark.parametrize("equal", [0.1, -1 / 3, 7e20, 0.0])
    @pytest.mark.parametrize("threshold", [1e-6, 0.5])
    def test_where_all_are_equal_all_are_normal(self, equal: float, threshold: float) -> None:
        same, some = torch.full((7,), equal), torch.arange(7.0)

        assert (types(same, some, threshold=threshold) == NORMAL).all()
        assert (types(some, same, threshold=threshold) == NORMAL).all()
        assert heuristic(same, same, threshold=threshold, low=LOW, high=HIGH).alpha.tolist() == [1] * 7

    def test_what_single_precision_cannot_tell_apart_is_equal(self) -> None:
        rounded, some = torch.full((7,), 0.1), torch.arange(7.0)
        rounded[::2] = torch.nextafter(rounded[0], torch.tensor(1.0))

        assert len(rounded.unique()) == 2
        assert (types(rounded, some, threshold=0.5) == NORMAL).all()

    def test_a_single_rollout_is_normal(self) -> None:
        assert types(torch.ones(1), torch.ones(1), threshold=0.5).tolist() == [NORMAL]

    def test_a_standing_is_told_by_the_deviation_of_the_batch(self) -> None:
        assert standings(torch.tensor([0.0, 2.0]), threshold=0.5).tolist() == [-2, 2]


class TestHeuristic:
    @some
    @given(judged(), st.floats(0.1, 2), st.floats(0, 0.9), st.floats(1.1, 5))
    def test_weights_are_on_the_side_that_their_type_asks_for_and_within_bounds(
        self, both: tuple[Tensor, Tensor], threshold: float, low: float, high: float
    ) -> None:
        kinds = types(*both, threshold=threshold)
        weights = heuristic(*both, threshold=threshold, low=low, high=high)
        p, r = (standings(found, threshold=threshold) for found in both)
        for weight, signs, z in ((weights.alpha, ALPHA_SIGNS, p), (weights.beta, BETA_SIGNS, r)):
            assert torch.isfinite(weight).all()
            assert ((weight >= low - 1e-6) & (weight <= high + 1e-6)).all()
            assert (weight[kinds == NORMAL] == 1).all()
            for kind, sign in enumerate(signs):
                away = sign * (weight - 1)[kinds == kind]
                assert (away >= 0).all()
                assert (away > 0)[z[kinds == kind].abs() > 1.001].all()

    @some
    @given(judged(), st.floats(0.1, 2))
    def test_it_follows_the_table(self, both: tuple[Tensor, Tensor], threshold: float) -> None:
        weights = heuristic(*both, threshold=threshold, low=LOW, high=HIGH)
        p, r = (standings(found, threshold=threshold).tolist() for found in both)
        of_type = types(*both, threshold=threshold).tolist()
        for row, (kind, a, b) in enumerate(zip(of_type, p, r, strict=True)):
            alpha, beta = {
                "r1": (min(HIGH, a), min(HIGH, b)),
                "r2": (min(HIGH, a), max(LOW, 2 + b)),
                "r3": (min(HIGH, -a), max(LOW, 2 - b)),
                "r4": (max(LOW, 2 + a), max(LOW, 2 + b)),
                "r5": (1, 1),
            }[TYPES[kind]]
            assert weights.alpha[row].item() == pytest.approx(alpha, rel=1e-5)
            assert weights.beta[row].item() == pytest.approx(beta, rel=1e-5)

    @some
    @given(judged(), st.integers(0, 39), st.sampled_from([1 - 1e-4, 1.0, 1 + 1e-4]))
    def test_weights_are_continuous_at_the_border(
        self, both: tuple[Tensor, Tensor], row: int, beside: float
    ) -> None:
        row %= len(both[0])
        for name, found in zip(("alpha", "beta"), both, strict=True):
            away = standings(found, threshold=1.0)[row].abs().item()
            assume(away > 1e-3)
            weights = heuristic(*both, threshold=away * beside, low=LOW, high=HIGH)
            assert getattr(weights, name)[row].item() == pytest.approx(1, abs=2e-4)

    @some
    @given(judged(), st.floats(0.1, 2), st.sampled_from([0.0, 0.5]))
    def test_normalised_weights_have_a_mean_of_one(
        self, both: tuple[Tensor, Tensor], threshold: float, low: float
    ) -> None:
        weights = heuristic(*both, threshold=threshold, low=low, high=2, normalise=True)
        for weight in weights:
            assert torch.isfinite(weight).all()
            assert weight.mean().item() == pytest.approx(1, abs=1e-5) or not weight.any()

    def test_where_nothing_is_worth_retaining_normalised_weights_stay_zero(self) -> None:
        p, r = torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0])
        assert heuristic(p, r, threshold=0.5, low=0, high=2, normalise=True).beta.tolist() == [0, 0]


class TestLearned:
    @some
    @given(kinds_of_all, st.floats(0.001, 1))
    def test_the_closed_form_has_a_mean_of_one_before_its_bounds(self, kinds: Tensor, tau: float) -> None:
        unbounded = closed(kinds, tau=tau, low=0, high=1e9)
        for weight in unbounded:
            if weight.min() > 0:
                assert weight.mean().item() == pytest.approx(1, abs=1e-4)

    @some
    @given(kinds_of_all, st.floats(0.001, 1))
    def test_the_closed_form_is_within_bounds_and_one_for_all_of_a_type(
        self, kinds: Tensor, tau: float
    ) -> None:
        for weight in closed(kinds, tau=tau, low=LOW, high=HIGH):
            assert ((weight >= LOW - 1e-6) & (weight <= HIGH + 1e-6)).all()
            assert all(len(weight[kinds == kind].unique()) <= 1 for kind in range(len(TYPES)))

    @pytest.mark.parametrize("seed", range(5))
    def test_descent_finds_the_closed_form(self, seed: int) -> None:
        random = torch.Generator().manual_seed(seed)
        n = int(torch.randint(30, 129, (1,), generator=random))
        kinds, tau = torch.randint(len(TYPES), (n,), generator=random), 0.01 * (1 + seed)
        solved = closed(kinds, tau=tau, low=LOW, high=HIGH)
        descended = gradient(kinds, tau=tau, low=LOW, high=HIGH)
        for one, other in zip(solved, descended, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-3)

    @some
    @given(kinds_of_all, st.floats(0.01, 0.2), st.integers(0, 10**6))
    def test_no_weights_beside_the_closed_form_are_better(self, kinds: Tensor, tau: float, seed: int) -> None:
        solved = closed(kinds, tau=tau, low=LOW, high=HIGH)
        random = torch.Generator().manual_seed(seed)
        beside = Weights(
            *(
                (weight + 0.1 * torch.randn(len(kinds), generator=random)).clamp(LOW, HIGH)
                for weight in solved
            )
        )
        assert objective(solved, kinds, tau=tau) <= objective(beside, kinds, tau=tau) + 1e-6

    def test_it_gives_what_was_measured_for_a_batch_of_128(self) -> None:
        kinds = counted(22, 10, 12, 22, 62)
        alpha, beta = closed(kinds, tau=0.05, low=0.2, high=2)
        first = [0, 22, 32, 44, 127]

        assert alpha[first].tolist() == pytest.approx([1.145, 1.320, 1.267, 0.855, 0.897], abs=1e-3)
        assert beta[first].tolist() == pytest.approx([1.145, 0.680, 0.733, 0.855, 1.103], abs=1e-3)

    def test_without_normal_rollouts_all_weights_are_one(self) -> None:
        alpha, beta = closed(counted(3, 2, 2, 1, 0), tau=0.5, low=LOW, high=HIGH)
        assert alpha.tolist() == beta.tolist() == [1] * 8


class TestConstraints:
    @some
    @given(st.tuples(*[st.integers(1, 30)] * 5), st.floats(0.001, 0.01))
    def test_the_closed_form_meets_all_but_those_that_its_counts_forbid(
        self, counts: tuple[int, ...], tau: float
    ) -> None:
        kinds = counted(*counts)
        expected = []
        if counts[NORMAL] <= 2 * counts[3]:
            expected.append("alpha r4 < r5")
        if counts[NORMAL] <= 2 * counts[0]:
            expected.append("beta r1 > r5")
        assert sorted(unmet(closed(kinds, tau=tau, low=0, high=2), kinds)) == expected

    @some
    @given(judged(), st.floats(0.1, 2))
    def test_the_rule_meets_all(self, both: tuple[Tensor, Tensor], threshold: float) -> None:
        kinds = types(*both, threshold=threshold)
        p, r = (standings(found, threshold=threshold).abs() for found in both)
        assume(((p > 1.001) & (r > 1.001) | (kinds == NORMAL)).all())
        assert unmet(heuristic(*both, threshold=threshold, low=LOW, high=HIGH), kinds) == ()

    def test_uniform_weights_meet_none(self) -> None:
        kinds = counted(1, 1, 0, 1, 1)
        assert unmet(Weights(torch.ones(4), torch.ones(4)), kinds) == (
            "alpha r1 > r5",
            "alpha r2 > r5",
            "alpha r4 < r5",
            "beta r1 > r5",
            "beta r2 < r5",
            "beta r4 < r5",
        )


class TestLearning:
    @pytest.mark.parametrize("reference", get_args(Reference))
    def test_with_alpha_one_and_beta_zero_it_is_ppo_to_the_bit(self, reference: Reference) -> None:
        plain = CPPOSettings(alpha="uniform", beta="zero", reference=reference)
        continual = CPPO(Policy(57, 4, seed=4), plain, seed=5)
        ppo = PPO(Policy(57, 4, seed=4), seed=5)
        generators = [torch.Generator().manual_seed(6) for _ in range(2)]
        for task in range(2):
            envs = [Preferences(task, 32, seed=7) for _ in range(2)]
            for _ in range(3):
                rollouts = collect(ppo.policy, envs[0], generator=generators[0])
                same = collect(continual.policy, envs[1], generator=generators[1])
                ppo.update(rollouts)
                updated = continual.update(same)
            continual.retain(rollouts)

        assert updated.weighed is not None
        assert updated.losses.retention == 0
        assert torch.equal(parameters(ppo.policy), parameters(continual.policy))

    @pytest.mark.parametrize("reference", get_args(Reference))
    @pytest.mark.parametrize("weighing", get_args(Weighing))
    def test_every_way_to_weigh_and_every_reference_learns_finite_parameters(
        self, weighing: Weighing, reference: Reference
    ) -> None:
        learner = CPPO(
            Policy(57, 4, seed=0),
            CPPOSettings(alpha=weighing, beta=weighing, reference=reference, probability=True, per="rollout"),
            seed=0,
        )
        generator = torch.Generator().manual_seed(0)
        for task in range(2):
            rollouts = collect(learner.policy, Preferences(task, 16, seed=task), generator=generator)
            updated = learner.update(rollouts)
            learner.retain(rollouts)

        assert torch.isfinite(parameters(learner.policy)).all()
        assert updated.weighed is not None
        assert sum(updated.weighed.counts) == 16

    @pytest.mark.parametrize("reference", ["previous", "d2"])
    def test_before_there_is_something_to_retain_it_is_ppo(self, reference: Reference) -> None:
        learner = CPPO(Policy(5, 3, seed=0), CPPOSettings(reference=reference), seed=0)
        ppo = PPO(Policy(5, 3, seed=0), seed=0)
        rollouts = made(0, n=16)

        assert learner.update(rollouts).weighed is None
        ppo.update(rollouts)
        assert torch.equal(parameters(learner.policy), parameters(ppo.policy))

    def test_what_is_stored_grows_task_by_task_and_keeps_the_probabilities_it_was_done_with(self) -> None:
        learner = CPPO(Policy(5, 3, seed=0), CPPOSettings(reference="d2"), seed=0)
        first, second = made(0, n=8, t=3), made(1, n=6, t=5)
        learner.retain(first)
        learner.update(made(2, n=8))
        learner.retain(second)

        assert learner.stored is not None
        done = torch.cat([task.log_probs[task.mask] for task in (first, second)])
        assert torch.equal(learner.stored.log_probs[learner.stored.mask], done)

    def test_only_with_stored_rollouts_an_earlier_task_is_kept(self) -> None:
        kept = {}
        for reference, coefficient in (("previous", 0.03), ("d2", 1.0)):
            said = CPPOSettings(reference=reference, coefficient=coefficient)  # type: ignore[arg-type]
            learner = CPPO(Policy(57, 4, seed=0), said, seed=0)
            generator = torch.Generator().manual_seed(0)
            for task in range(2):
                env = Preferences(task, 128, seed=task)
                for _ in range(15):
                    learner.update(collect(learner.policy, env, generator=generator))
                learner.retain(collect(learner.policy, Preferences(task, 256, seed=9), generator=generator))
            test = Preferences(0, 300, seed=10, split="test")
            collect(learner.policy, test, generator=generator)
            kept[reference] = test.success.mean()

        assert kept["previous"] < 0.3
        assert kept["d2"] > 0.6

    def test_probabilities_and_their_logarithms_may_tell_types_apart_otherwise(self) -> None:
        rollouts = made(11, n=40)
        logarithms = weigh(rollouts, CPPOSettings())
        probabilities = weigh(rollouts, CPPOSettings(probability=True))
        whole = weigh(rollouts, CPPOSettings(per="rollout"))

        assert len({logarithms.counts, probabilities.counts, whole.counts}) > 1


class TestRefusing:
    @pytest.mark.parametrize(
        ("p", "r"),
        [
            (torch.ones(3), torch.ones(2)),
            (torch.ones(2, 2), torch.ones(2, 2)),
            (torch.ones(0), torch.ones(0)),
            (torch.tensor([1.0, float("nan")]), torch.ones(2)),
            (torch.ones(2), torch.tensor([1.0, float("inf")])),
        ],
    )
    def test_what_is_not_one_finite_number_for_each_rollout(self, p: Tensor, r: Tensor) -> None:
        with pytest.raises(InputError, match="give"):
            types(p, r, threshold=0.5)

    @pytest.mark.parametrize(
        "kinds", [torch.tensor([0, 5]), torch.tensor([-1]), torch.ones(2), torch.zeros(0).long()]
    )
    def test_what_are_no_types(self, kinds: Tensor) -> None:
        for form in (closed, gradient):
            with pytest.raises(InputError, match="type"):
                form(kinds, tau=0.1, low=LOW, high=HIGH)

    @pytest.mark.parametrize(
        ("low", "high"), [(2.0, 0.5), (1.0, 2.0), (0.5, 1.0), (-0.1, 2.0), (0.5, float("nan"))]
    )
    def test_bounds_that_one_is_not_between(self, low: float, high: float) -> None:
        with pytest.raises(InputError, match="0 <= low < 1 < high"):
            CPPOSettings(low=low, high=high)
        with pytest.raises(InputError, match="0 <= low < 1 < high"):
            heuristic(torch.ones(2), torch.ones(2), threshold=0.5, low=low, high=high)

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"threshold": 0.0}, "threshold is 0.0"),
            ({"tau": float("nan")}, "tau is nan"),
            ({"coefficient": -1.0}, "coefficient is -1.0"),
            ({"alpha": "heuristics"}, "unknown alpha 'heuristics'. Did you mean 'heuristic'"),
            ({"beta": "none"}, "unknown beta 'none'"),
            ({"reference": "d3"}, "unknown reference 'd3'"),
            ({"per": "token"}, "unknown per 'token'"),
        ],
    )
    def test_settings_out_of_range(self, wrong: dict[str, Any], message: str) -> None:
        with pytest.raises(InputError, match=message):
            CPPOSettings(**wrong)

    def test_descent_without_a_step(self) -> None:
        with pytest.raises(InputError, match="0 steps"):
            gradient(counted(1, 1, 1, 1, 1), tau=0.1, low=LOW, high=HIGH, steps=0)

    def test_rollouts_with_returns_that_are_no_numbers(self) -> None:
        wrong = replace(made(0), rewards=torch.full((4, 6), float("nan")))
        learner = CPPO(Policy(5, 3, seed=0), CPPOSettings(reference="rollout"), seed=0)
        for use in (learner.update, learner.retain):
            with pytest.raises(InputError, match="rewards holds a number that is not finite"):
                use(wrong)


class TestStudy:
    def test_all_arms_with_a_seed_are_the_same_until_the_first_task_is_learned(self) -> None:
        study = Cppo(iterations=3, rollouts=32, stored=16, tested=40, tasks=2)
        lives = [live(study, (arm, 3)) for arm in ("ppo", "ppo-kl-1", "ewc-100", "cppo", "cppo-logged-sharp")]
        first = [[cell.model_dump(exclude={"arm"}) for cell in cells[:4]] for cells in lives]

        assert all(other == first[0] for other in first)
        assert len({tuple(cell.success for cell in cells) for cells in lives}) > 1
        assert {len(cells) for cells in lives} == {study.rows_of(("ppo", 3))}

    def test_the_same_seed_gives_the_same_cells(self) -> None:
        study = Cppo(iterations=2, rollouts=16, stored=16, tested=20, tasks=2)
        assert live(study, ("cppo-d2", 1)) == live(study, ("cppo-d2", 1))
        assert live(study, ("cppo-d2", 1)) != live(study, ("cppo-d2", 2))

    def test_metrics_are_of_the_matrix_of_tasks(self) -> None:
        success = [[0.2, 0.3], [0.8, 0.1], [0.5, 0.9]]
        cells = [
            Cell(
                arm="ppo", seed=0, after=after, number=number, task=str(number), episodes=1,
                success=success[after][number], reward=2 * success[after][number] - 1, steps=4,
            )
            for after in range(3)
            for number in range(2)
        ]  # fmt: skip
        assert measure(cells) == pytest.approx(
            {
                "success": 0.7,
                "return": 0.4,
                "forgetting": 0.6,
                "forgetting_ratio": 0.3 / 0.8,
                "plasticity": 0.85,
            }
        )

    def test_each_point_of_a_sweep_is_an_arm(self) -> None:
        for name, family in FAMILIES.items():
            tried = [arm.coefficient for arm in ARMS.values() if arm.family == name]
            assert sorted(tried) == sorted({family.coefficient, *family.swept})
            assert not family.swept or family.coefficient in family.swept
        assert set(Cppo.quick["arms"]) <= set(ARMS)

    @pytest.mark.parametrize("tasks", [1, 7])
    def test_too_few_and_too_many_tasks_are_refused(self, tasks: int) -> None:
        with pytest.raises(InputError, match="there must be 2 to 6"):
            Cppo(tasks=tasks)
