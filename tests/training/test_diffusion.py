"""The identities of training/diffusion.py, against closed forms, brute force and diffusers' schedulers; float64 throughout."""

import math
from collections.abc import Callable

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from diffusers.schedulers.scheduling_ddim import rescale_zero_terminal_snr
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence
from torch.testing import assert_close

import training.diffusion as d

STEPS = 1000
AUDIOLDM = d.alpha_bars(d.scaled_linear_betas())
EARLIER = [(2, 1), (10, 9), (500, 499), (1000, 999), (1000, 980), (700, 3)]  # (t, s)


def same(got: Tensor, expected: Tensor, within: float = 1e-6) -> None:
    """Equal in float64 to ``within``, absolute and relative."""
    assert got.dtype == torch.float64
    assert_close(got, expected.expand_as(got), rtol=within, atol=within)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def times(stride: int = 1, last: int = STEPS) -> list[int]:
    return list(range(last, 0, -stride))


# ---------------------------------------------------------------------------------------------------------- Schedules


@pytest.mark.parametrize(
    ("betas", "name", "start", "end"),
    [
        (d.linear_betas(), "linear", 1e-4, 0.02),
        (d.scaled_linear_betas(), "scaled_linear", 0.0015, 0.0195),
        (d.cosine_betas(), "squaredcos_cap_v2", 0.0, 0.0),
    ],
)
def test_schedules_are_those_of_diffusers(betas: Tensor, name: str, start: float, end: float) -> None:
    theirs = DDPMScheduler(STEPS, beta_schedule=name, beta_start=start, beta_end=end)
    same(betas, theirs.betas.double())
    same(d.alpha_bars(betas)[1:], theirs.alphas_cumprod.double(), 1e-5)  # theirs are float32 products


@pytest.mark.parametrize("betas", [d.linear_betas(), d.scaled_linear_betas(), d.cosine_betas()])
def test_zero_terminal_snr_is_that_of_diffusers(betas: Tensor) -> None:
    rescaled = d.zero_terminal_snr(betas)
    same(rescaled, rescale_zero_terminal_snr(betas))
    assert d.alpha_bars(rescaled)[-1] == 0
    same(rescaled[0], betas[0])


def test_per_row_gives_each_row_its_own_value() -> None:
    picked = d.per_row(AUDIOLDM, torch.tensor([0, 7]), torch.zeros(2, 3, 4))
    assert picked.shape == (2, 1, 1)
    assert picked.flatten().tolist() == [1.0, float(AUDIOLDM[7])]


# ------------------------------------------------------------------------------------------------ Forward, posterior


def test_steps_of_the_chain_compose_to_the_jump() -> None:
    """x_0 -> x_t at once has the mean and variance of t single steps."""
    mean, var = normal(5), torch.zeros(5, dtype=torch.float64)
    x0 = mean
    for t in range(1, STEPS + 1):
        step = d.transition(mean, AUDIOLDM[t], AUDIOLDM[t - 1])
        mean, var = step.mean, var * AUDIOLDM[t] / AUDIOLDM[t - 1] + step.var
        if t in (1, 500, 1000):
            jump = d.forward(x0, AUDIOLDM[t])
            same(mean, jump.mean, 1e-12)
            same(var, jump.var, 1e-12)


def test_samples_of_the_jump_have_its_mean_and_variance() -> None:
    x0, a = torch.tensor(0.7, dtype=torch.float64), AUDIOLDM[400]
    x = d.diffuse(x0, normal(400_000), a)
    expected = d.forward(x0, a)
    assert abs(x.mean() - expected.mean) < 4 * (expected.var / 400_000).sqrt()
    assert abs(x.var() / expected.var - 1) < 4 * (2 / 400_000) ** 0.5


def test_the_chain_ends_where_the_jump_ends() -> None:
    x0 = torch.full((200_000,), 2.0, dtype=torch.float64)
    alpha_bar = d.alpha_bars(d.linear_betas(10, 0.02, 0.3))
    xs = d.chain(x0, normal(10, 200_000), alpha_bar)
    assert len(xs) == 11
    jump = d.forward(x0[0], alpha_bar[10])
    assert abs(xs[10].mean() - jump.mean) < 4 * (jump.var / 200_000).sqrt()
    assert abs(xs[10].var() / jump.var - 1) < 4 * (2 / 200_000) ** 0.5


@pytest.mark.parametrize(("t", "s"), EARLIER)
def test_posterior_is_bayes_rule(t: int, s: int) -> None:
    """log q(x_s | x_t, x_0) = log q(x_t | x_s) + log q(x_s | x_0) - log q(x_t | x_0), everywhere."""
    x0, xs, xt = normal(3, 64)
    bayes = (
        d.transition(xs, AUDIOLDM[t], AUDIOLDM[s]).log_prob(xt)
        + d.forward(x0, AUDIOLDM[s]).log_prob(xs)
        - d.forward(x0, AUDIOLDM[t]).log_prob(xt)
    )
    same(d.posterior(xt, x0, AUDIOLDM[t], AUDIOLDM[s]).log_prob(xs), bayes, 1e-9)


def test_posterior_moments_by_brute_force_on_a_grid() -> None:
    t, s, x0, xt = 300, 299, torch.tensor(0.4), torch.tensor(-0.9)
    grid = torch.linspace(-8, 8, 400_001, dtype=torch.float64)
    density = (d.transition(grid, AUDIOLDM[t], AUDIOLDM[s]).log_prob(xt) + d.forward(x0, AUDIOLDM[s]).log_prob(grid)).exp()
    density = density / density.sum()
    mean = (density * grid).sum()
    got = d.posterior(xt.double(), x0.double(), AUDIOLDM[t], AUDIOLDM[s])
    same(got.mean, mean, 1e-7)
    same(got.var, (density * (grid - mean) ** 2).sum(), 1e-7)


def test_posterior_of_a_single_step_is_equation_7_of_ho() -> None:
    x0, xt = normal(2, 64)
    beta = d.scaled_linear_betas()
    for t in (2, 250, 1000):
        a, before, b = AUDIOLDM[t], AUDIOLDM[t - 1], beta[t - 1]
        got = d.posterior(xt, x0, a, before)
        same(got.mean, before.sqrt() * b / (1 - a) * x0 + (1 - b).sqrt() * (1 - before) / (1 - a) * xt, 1e-12)
        same(got.var, (1 - before) / (1 - a) * b, 1e-12)


def test_posterior_at_zero_is_x0_itself() -> None:
    x0, xt = normal(2, 8)
    got = d.posterior(xt, x0, AUDIOLDM[50], AUDIOLDM[0])
    same(got.mean, x0, 1e-12)
    assert got.var == 0


def test_log_prob_and_kl_are_those_of_torch_distributions() -> None:
    mean_p, mean_q, x = normal(3, 64)
    var_p, var_q = normal(2, 64, seed=1).exp()
    p, q = d.Gaussian(mean_p, var_p), d.Gaussian(mean_q, var_q)
    theirs_p, theirs_q = Normal(mean_p, var_p.sqrt()), Normal(mean_q, var_q.sqrt())
    same(d.kl(p, q), kl_divergence(theirs_p, theirs_q), 1e-9)
    same(p.log_prob(x), theirs_p.log_prob(x), 1e-12)
    same(d.kl(p, p), torch.zeros(64, dtype=torch.float64), 1e-12)


# --------------------------------------------------------------------------------------------------- Parametrisations


@pytest.mark.parametrize(("t", "s"), EARLIER)
def test_every_parametrisation_converts_to_every_other(t: int, s: int) -> None:
    x0, eps = normal(2, 64)
    a, earlier = AUDIOLDM[t], AUDIOLDM[s]
    xt = d.diffuse(x0, eps, a)
    written: dict[str, Callable[[d.Estimate], Tensor]] = {
        "x0": lambda e: e.x0,
        "eps": lambda e: e.eps,
        "v": lambda e: d.velocity(e.x0, e.eps, a),
        "mu": lambda e: d.mu(e, xt, a, earlier),
    }
    true = {
        "x0": x0,
        "eps": eps,
        "v": a.sqrt() * eps - (1 - a).sqrt() * x0,
        "mu": d.posterior(xt, x0, a, earlier).mean,
    }
    read = {
        "x0": d.from_x0(true["x0"], xt, a),
        "eps": d.from_eps(true["eps"], xt, a),
        "v": d.from_v(true["v"], xt, a),
        "mu": d.from_mu(true["mu"], xt, a, earlier),
    }
    for estimate in read.values():
        for name, write in written.items():
            same(write(estimate), true[name], 1e-8)


def test_mu_from_eps_is_equation_11_of_ho() -> None:
    eps, xt = normal(2, 64)
    t, b = 321, d.scaled_linear_betas()[320]
    a = AUDIOLDM[t]
    got = d.mu(d.from_eps(eps, xt, a), xt, a, AUDIOLDM[t - 1])
    same(got, (xt - b / (1 - a).sqrt() * eps) / (1 - b).sqrt(), 1e-10)


def test_score_is_the_gradient_of_the_log_density() -> None:
    x0, eps = normal(2, 64)
    a = AUDIOLDM[321]
    xt = d.diffuse(x0, eps, a).requires_grad_()
    (gradient,) = torch.autograd.grad(d.forward(x0, a).log_prob(xt).sum(), xt)
    same(d.score(eps, a), gradient, 1e-9)


def test_noise_alone_is_read_from_v_and_refused_from_eps() -> None:
    x0, eps = normal(2, 64)
    a = d.alpha_bars(d.zero_terminal_snr(d.scaled_linear_betas()))
    xt = d.diffuse(x0, eps, a[STEPS])
    same(xt, eps, 1e-12)
    same(d.from_v(d.velocity(x0, eps, a[STEPS]), xt, a[STEPS]).x0, x0, 1e-12)
    with pytest.raises(ValueError, match="predict v or x0"):
        d.from_eps(eps, xt, a[STEPS])
    with pytest.raises(ValueError, match="t >= 1"):
        d.from_x0(x0, x0, a[0])


# -------------------------------------------------------------------------------------------------------------- Bound

TOY = d.alpha_bars(d.linear_betas(8, 0.05, 0.5))
TOY_STEPS = 8
DATA_MEAN, DATA_VAR = 1.5, 0.25


def toy_line(t: int) -> tuple[float, float, float]:
    """(slope, shift, variance) of p(x_{t-1} | x_t): the true reverse of N(1.5, 0.25) data, and then a little wrong."""
    a, before = float(TOY[t]), float(TOY[t - 1])
    alpha, spread = a / before, before * DATA_VAR + 1 - before
    var = 1 / (1 / spread + alpha / (1 - alpha))
    slope = var * math.sqrt(alpha) / (1 - alpha)
    shift = var * math.sqrt(before) * DATA_MEAN / spread
    return 0.97 * slope, shift + 0.02, 1.1 * var


def toy_reverse(x: Tensor, t: int) -> d.Gaussian:
    slope, shift, var = toy_line(t)
    return d.Gaussian(slope * x + shift, torch.tensor(var, dtype=x.dtype))


def toy_bound(x0: float) -> float:
    """log p(x_0) - KL(q(x_1..x_T | x_0) || p(x_1..x_T | x_0)) from the joint normal distributions: no term of the lecture."""
    n = TOY_STEPS
    # p: every x_t is a linear function of n + 1 independent standard normals, from x_T down.
    rows, means = torch.zeros(n + 1, n + 1, dtype=torch.float64), torch.zeros(n + 1, dtype=torch.float64)
    rows[n, n] = 1
    for t in range(n, 0, -1):
        slope, shift, var = toy_line(t)
        rows[t - 1] = slope * rows[t]
        rows[t - 1, t - 1] = math.sqrt(var)
        means[t - 1] = slope * means[t] + shift
    cov = rows @ rows.T
    gain = cov[1:, 0] / cov[0, 0]
    p = MultivariateNormal(means[1:] + gain * (x0 - means[0]), cov[1:, 1:] - torch.outer(gain, cov[0, 1:]))
    a = TOY[1:]
    low, high = torch.maximum(a[:, None], a[None]), torch.minimum(a[:, None], a[None])
    q = MultivariateNormal(a.sqrt() * x0, (high / low).sqrt() * (1 - low))
    log_p = Normal(means[0], cov[0, 0].sqrt()).log_prob(torch.tensor(x0, dtype=torch.float64))
    return float(log_p - kl_divergence(q, p))


def toy_chains(count: int = 200_000, x0: float = 1.1) -> list[Tensor]:
    return d.chain(torch.full((count,), x0, dtype=torch.float64), normal(TOY_STEPS, count), TOY)


def standard_error(x: Tensor) -> float:
    return float(x.std() / len(x) ** 0.5)


@pytest.mark.parametrize("form", [d.denoising_bound, d.consistency_bound])
def test_both_forms_of_the_bound_estimate_the_exact_one(form: Callable[..., d.Bound]) -> None:
    got = form(toy_chains(), toy_reverse, TOY).value
    assert standard_error(got) < 3e-3
    assert abs(float(got.mean()) - toy_bound(1.1)) < 4 * standard_error(got)


def own_draws(bound: d.Bound) -> d.Bound:
    """Every term from walks of its own: rows are independent walks of one x_0, so shifting a term by rows unties it."""
    matching = torch.stack([term.roll(2 + i) for i, term in enumerate(bound.matching)])
    return d.Bound(bound.reconstruction, bound.prior_matching.expand_as(matching[0]).roll(1), matching)


def test_the_form_over_two_random_variables_has_the_larger_variance() -> None:
    xs = toy_chains()
    denoising, consistency = (own_draws(form(xs, toy_reverse, TOY)) for form in (d.denoising_bound, d.consistency_bound))
    same(consistency.value.mean(), denoising.value.mean(), 0.01)
    assert consistency.value.var() > 2 * denoising.value.var()
    assert consistency.matching.sum(0).var() > 4 * denoising.matching.sum(0).var()


def test_with_one_step_drawn_per_row_as_in_training_its_variance_is_larger_too() -> None:
    xs = toy_chains()
    denoising, consistency = (form(xs, toy_reverse, TOY) for form in (d.denoising_bound, d.consistency_bound))
    step = torch.randint(0, TOY_STEPS - 1, (1, len(xs[0])), generator=torch.Generator().manual_seed(0))
    one = [(TOY_STEPS - 1) * bound.matching.gather(0, step)[0] for bound in (denoising, consistency)]
    for estimate, bound in zip(one, (denoising, consistency), strict=True):
        assert abs(float(estimate.mean() - bound.matching.sum(0).mean())) < 5 * standard_error(estimate)
    assert one[1].var() > 2 * one[0].var()


def test_on_one_shared_walk_the_errors_of_neighbouring_terms_cancel() -> None:
    """Why the two tests above give each term its own draws: along one walk the first form may even win."""
    bound = d.consistency_bound(toy_chains(), toy_reverse, TOY)
    tied, untied = bound.value.var(), own_draws(bound).value.var()
    assert tied < 0.7 * untied


def test_taking_the_neighbours_as_independent_gives_another_number() -> None:
    """Why ``consistency_bound`` does not sum KL(q(x_t | x_{t-1}) || p(x_t | x_{t+1})): its mean is not that of the bound."""
    xs = toy_chains()
    literal = torch.stack(
        [d.kl(d.transition(xs[t - 1], TOY[t], TOY[t - 1]), toy_reverse(xs[t + 1], t + 1)) for t in range(1, TOY_STEPS)]
    )
    value = d.consistency_bound(xs, toy_reverse, TOY)._replace(matching=literal).value
    assert float(value.mean()) < toy_bound(1.1) - 100 * standard_error(value)


@pytest.mark.parametrize("form", [d.denoising_bound, d.consistency_bound])
def test_the_bound_touches_the_likelihood_when_the_model_is_true(form: Callable[..., d.Bound]) -> None:
    """Standard normal data stay standard normal: the true reverse is known, and the bound is log p(x_0) itself."""

    def true_reverse(x: Tensor, t: int) -> d.Gaussian:
        alpha = TOY[t] / TOY[t - 1]
        return d.Gaussian(alpha.sqrt() * x, 1 - alpha)

    def wrong_reverse(x: Tensor, t: int) -> d.Gaussian:
        return true_reverse(x + 0.1, t)

    eps = normal(TOY_STEPS, 200_000)
    x0 = torch.full((200_000,), 0.8, dtype=torch.float64)
    got = form(d.chain(x0, eps, TOY), true_reverse, TOY).value
    log_p = Normal(0.0, 1.0).log_prob(x0[0])
    assert abs(float(got.mean() - log_p)) < 4 * standard_error(got)
    # Over all data no model does better than minus the entropy.
    entropy = float(Normal(0.0, 1.0).entropy())
    worse = form(d.chain(normal(200_000, seed=1), eps, TOY), wrong_reverse, TOY).value
    assert float(worse.mean()) < -entropy - 5 * standard_error(worse)


def test_prior_matching_fades_as_the_noise_takes_over() -> None:
    x0 = torch.tensor([1.0], dtype=torch.float64)
    a = AUDIOLDM[STEPS]
    xs = [x0] * (STEPS + 1)
    got = d.denoising_bound(xs, lambda x, t: d.Gaussian(x, torch.ones_like(x)), AUDIOLDM).prior_matching
    same(got, (a * x0**2 + (1 - a) - 1 - (1 - a).log()) / 2, 1e-12)
    assert 0 < float(got) < 1e-3


# ------------------------------------------------------------------------------------------------- Losses and weights


@pytest.mark.parametrize(("t", "s"), EARLIER)
def test_weighted_errors_are_the_denoising_matching_kl(t: int, s: int) -> None:
    x0, eps, error = normal(3, 64)
    a, earlier = AUDIOLDM[t], AUDIOLDM[s]
    xt = d.diffuse(x0, eps, a)
    truth, guess = d.Estimate(x0, eps), d.from_x0(x0 + error, xt, a)
    q = d.posterior(xt, x0, a, earlier)
    expected = d.kl(q, d.Gaussian(d.mu(guess, xt, a, earlier), q.var))
    for weight, got, true in (
        (d.kl_weight_x0, guess.x0, x0),
        (d.kl_weight_eps, guess.eps, eps),
        (d.kl_weight_v, d.velocity(*guess, a), d.velocity(*truth, a)),
        (d.kl_weight_mu, d.mu(guess, xt, a, earlier), q.mean),
    ):
        # Relative: late terms are worth 1e-6 nats and less.
        assert_close(weight(a, earlier) * (got - true) ** 2, expected, rtol=1e-6, atol=1e-15)


def test_the_weight_of_eps_is_equation_12_of_ho() -> None:
    b = d.scaled_linear_betas()[1:]
    a, before = AUDIOLDM[2:], AUDIOLDM[1:-1]
    var = (1 - before) / (1 - a) * b
    same(d.kl_weight_eps(a, before), b**2 / (2 * var * (1 - b) * (1 - a)), 1e-9)


def test_simple_loss_is_the_bound_without_its_weights() -> None:
    x0, eps, guess = normal(3, 999, 4)
    t = torch.arange(2, STEPS + 1)
    a, before = d.per_row(AUDIOLDM, t, x0), d.per_row(AUDIOLDM, t - 1, x0)
    xt = d.diffuse(x0, eps, a)
    q = d.posterior(xt, x0, a, before)
    terms = d.kl(q, d.Gaussian(d.mu(d.from_eps(guess, xt, a), xt, a, before), q.var))
    same(d.weighted_loss(guess, eps, d.kl_weight_eps(a, before)), terms.mean(), 1e-9)
    same(d.simple_loss(guess, eps), (terms / d.kl_weight_eps(a, before)).mean(), 1e-8)


@pytest.mark.parametrize("gamma", [1.0, 5.0])
def test_min_snr_is_one_loss_in_three_parametrisations(gamma: float) -> None:
    t = torch.arange(1, STEPS + 1)
    x0, eps, error = normal(3, STEPS, 1)
    a = d.per_row(AUDIOLDM, t, x0)
    guess = d.from_x0(x0 + error, d.diffuse(x0, eps, a), a)
    ratio = a / (1 - a)
    expected = torch.minimum(ratio, torch.full_like(ratio, gamma)) * error**2
    same(d.min_snr_weight_x0(a, gamma) * error**2, expected, 1e-9)
    same(d.min_snr_weight_eps(a, gamma) * (guess.eps - eps) ** 2, expected, 1e-9)
    same(d.min_snr_weight_v(a, gamma) * (d.velocity(*guess, a) - d.velocity(x0, eps, a)) ** 2, expected, 1e-9)


def test_min_snr_is_finite_for_data_and_for_noise_alone() -> None:
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)  # alpha_bar
    assert d.min_snr_weight_x0(ends).tolist() == [0, 5]
    assert d.min_snr_weight_eps(ends).tolist() == [1, 0]
    assert d.min_snr_weight_v(ends).tolist() == [0, 0]


# ----------------------------------------------------------------------------------------------------------- Guidance


def test_guidance_is_the_step_along_the_implicit_classifier() -> None:
    """Two classes N(+1.2, 0.3) and N(-1.2, 0.3): eps(x) - scale * sqrt(1 - alpha_bar) * grad log p(y | x), by autograd."""
    a = AUDIOLDM[400]
    x = torch.linspace(-3, 3, 61, dtype=torch.float64).requires_grad_()
    var = a * 0.3 + 1 - a
    classes = torch.stack([d.Gaussian(sign * 1.2 * a.sqrt(), var).log_prob(x) for sign in (1, -1)])

    def noise_of(log_density: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(log_density.sum(), x, retain_graph=True)
        return -(1 - a).sqrt() * gradient

    conditional, unconditional = noise_of(classes[0]), noise_of(classes.logsumexp(0) - math.log(2))
    (classifier,) = torch.autograd.grad(classes.log_softmax(0)[0].sum(), x, retain_graph=True)
    assert classifier.max() > 0.1
    for w in (0.0, 1.0, 2.5):
        got = d.guided(conditional, unconditional, scale=w + 1)
        same(got, (w + 1) * conditional - w * unconditional, 1e-12)
        same(got, unconditional - (w + 1) * (1 - a).sqrt() * classifier, 1e-9)
        same(got, conditional - w * (1 - a).sqrt() * classifier, 1e-9)


def test_guidance_of_v_is_guidance_of_eps() -> None:
    xt, first, second = normal(3, 64)
    a = AUDIOLDM[600]
    by_v = d.from_v(d.guided(first, second), xt, a).eps
    same(by_v, d.guided(d.from_v(first, xt, a).eps, d.from_v(second, xt, a).eps), 1e-10)
    same(d.guided(first, second), 3.5 * first - 2.5 * second, 1e-12)


def test_a_tenth_of_the_rows_loses_its_condition_and_no_other_changes() -> None:
    count = 40_000
    condition, nothing = normal(count, 2, 3), torch.zeros(2, 3, dtype=torch.float64)
    rows = d.dropped(count, torch.Generator().manual_seed(0))
    assert abs(float(rows.double().mean()) - 0.1) < 4 * (0.1 * 0.9 / count) ** 0.5
    got = d.without(condition, rows, nothing)
    assert torch.equal(got[~rows], condition[~rows])
    assert not got[rows].any()
    assert torch.equal(rows, d.dropped(count, torch.Generator().manual_seed(0)))


# ----------------------------------------------------------------------------------------------------------- Sampling

KINDS = {"epsilon": d.from_eps, "v_prediction": d.from_v, "sample": d.from_x0}


def in_float64(scheduler: DDPMScheduler | DDIMScheduler) -> DDPMScheduler | DDIMScheduler:
    """The scheduler with its table in float64 (diffusers multiplies it in float32, which alone would be off by 1e-5)."""
    scheduler.alphas_cumprod = AUDIOLDM[1:]
    return scheduler


@pytest.mark.parametrize("kind", KINDS)
def test_ddpm_steps_are_those_of_diffusers(kind: str) -> None:
    theirs = in_float64(DDPMScheduler(STEPS, prediction_type=kind, clip_sample=False))
    output, xt = normal(2, 2, 8, 4, 4)
    for t in (1000, 999, 500, 2, 1):
        generator = torch.Generator().manual_seed(t)
        expected = theirs.step(output, t - 1, xt, generator=generator).prev_sample
        noise = torch.randn(xt.shape, generator=torch.Generator().manual_seed(t), dtype=xt.dtype)
        got = d.ddpm_step(KINDS[kind](output, xt, AUDIOLDM[t]), xt, AUDIOLDM[t], AUDIOLDM[t - 1], noise)
        same(got, expected)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_ddim_steps_are_those_of_diffusers(kind: str, eta: float) -> None:
    theirs = in_float64(DDIMScheduler(STEPS, prediction_type=kind, clip_sample=False))
    theirs.set_timesteps(50)
    output, xt, noise = normal(3, 2, 8, 4, 4)
    for t in (1000, 981, 501, 21, 1):
        expected = theirs.step(output, t - 1, xt, eta=eta, variance_noise=noise if eta else None).prev_sample
        got = d.ddim_step(KINDS[kind](output, xt, AUDIOLDM[t]), AUDIOLDM[t], AUDIOLDM[max(t - 20, 0)], eta, noise)
        same(got, expected)


@pytest.mark.parametrize(("t", "s"), [*EARLIER, (1, 0)])
def test_ddim_with_eta_one_is_ddpm(t: int, s: int) -> None:
    x0, eps, noise = normal(3, 64)
    xt = d.diffuse(x0, eps, AUDIOLDM[t])
    got = d.ddim_step(d.Estimate(x0, eps), AUDIOLDM[t], AUDIOLDM[s], 1.0, noise)
    same(got, d.ddpm_step(d.Estimate(x0, eps), xt, AUDIOLDM[t], AUDIOLDM[s], noise), 1e-9)


def gaussian_denoiser(mean: float, var: float, alpha_bar: Tensor) -> d.Denoise:
    """What a perfect network says of x_t when data are N(mean, var): the expected x0 and eps."""

    def denoise(x: Tensor, t: int) -> d.Estimate:
        a = alpha_bar[t]
        apart = (x - a.sqrt() * mean) / (a * var + 1 - a)
        return d.Estimate(mean + a.sqrt() * var * apart, (1 - a).sqrt() * apart)

    return denoise


def test_ddim_with_the_true_eps_recovers_mean_and_variance() -> None:
    """The sampler is then a line, x_0 = shift + slope * x_T: two points give its moments exactly, without Monte Carlo."""
    errors = []
    for finer in (1, 4):
        alpha_bar = d.alpha_bars(d.zero_terminal_snr(d.scaled_linear_betas(STEPS * finer, 0.0015 / finer, 0.0195 / finer)))
        points = torch.tensor([0.0, 1.0], dtype=torch.float64)
        shift, one = d.sample_ddim(gaussian_denoiser(1.5, 0.25, alpha_bar), points, alpha_bar, times(1, STEPS * finer))
        assert abs(float(shift) - 1.5) < 1e-3
        errors.append(abs(float(one - shift) ** 2 / 0.25 - 1))
    assert errors[0] < 0.02
    assert errors[1] < errors[0] / 3  # a first-order solver: a quarter of the step, a quarter of the error


def test_ddpm_with_the_true_eps_recovers_mean_and_variance() -> None:
    generator = torch.Generator().manual_seed(0)
    x = d.sample_ddpm(gaussian_denoiser(1.5, 0.25, AUDIOLDM), normal(20_000), AUDIOLDM, times(), generator)
    assert abs(float(x.mean()) - 1.5) < 0.02
    assert abs(float(x.var()) / 0.25 - 1) < 0.04


def test_zero_terminal_snr_removes_the_pull_of_the_start_noise() -> None:
    """Started from noise of mean zero, the plain schedule misses the mean of far-off data; the rescaled one does not."""
    betas = d.scaled_linear_betas(STEPS, 0.0015, 0.008)  # stops early: alpha_bar_T is not small
    start = torch.zeros(1, dtype=torch.float64)
    misses = []
    for alpha_bar in (d.alpha_bars(betas), d.alpha_bars(d.zero_terminal_snr(betas))):
        misses.append(abs(float(d.sample_ddim(gaussian_denoiser(5.0, 0.25, alpha_bar), start, alpha_bar, times())) - 5))
    assert misses[0] > 0.1
    assert misses[1] < 0.01


def test_float32_inputs_stay_in_their_dtype() -> None:
    x0, eps = normal(2, 16).float()
    a = AUDIOLDM[300].float()
    estimate = d.from_v(d.velocity(x0, eps, a), d.diffuse(x0, eps, a), a)
    assert estimate.x0.dtype == torch.float32
    assert_close(estimate.x0, x0, rtol=1e-5, atol=1e-5)


# ------------------------------------------------------------------------------------------------------------ Latent


def test_training_targets_are_bit_equal_to_the_formulas_they_replaced() -> None:
    """float32, as training/latent.py calls them: a run that is resumed goes on as if nothing had been renamed."""
    table = DDIMScheduler(STEPS, beta_schedule="scaled_linear", beta_start=0.0015, beta_end=0.0195).alphas_cumprod
    x0, eps = normal(2, 32, 8, 64, 8).float()
    t = torch.randint(0, STEPS, (32,), generator=torch.Generator().manual_seed(1))
    a = table[t][:, None, None, None]
    new = d.per_row(table, t, x0)
    assert torch.equal(d.diffuse(x0, eps, new), a.sqrt() * x0 + (1 - a).sqrt() * eps)
    assert torch.equal(d.velocity(x0, eps, new), a.sqrt() * eps - (1 - a).sqrt() * x0)
