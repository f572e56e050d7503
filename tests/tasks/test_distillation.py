"""What teachers agree on, and how far one is from it."""

import math

import pytest
import torch

from growprune.tasks.distillation import agreement, divergence


def softened(row, temperature):
    powers = [math.exp(x / temperature) for x in row]
    return [power / sum(powers) for power in powers]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("teachers", [1, 2, 3])
def test_it_is_the_divergence_from_the_mean_of_softened_distributions(teachers, temperature):
    generator = torch.Generator().manual_seed(0)
    student, *told = 2 * torch.randn(teachers + 1, 2, 3, 5, generator=generator)
    wanted = agreement(told, temperature)
    found = divergence(student, wanted, temperature)
    assert found.shape == (2, 3)
    for place in [(0, 0), (0, 2), (1, 1)]:
        q = softened(student[place].tolist(), temperature)
        ps = [softened(scores[place].tolist(), temperature) for scores in told]
        p = [sum(column) / teachers for column in zip(*ps, strict=True)]
        torch.testing.assert_close(wanted[place].exp(), torch.tensor(p))
        plain = sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True))
        assert float(found[place]) == pytest.approx(temperature**2 * plain, rel=1e-4)


def test_logits_and_log_probabilities_are_the_same():
    student, teacher = torch.randn(2, 4, 6, dtype=torch.float64)
    for temperature in (1.0, 2.0):
        wanted = agreement([teacher], temperature)
        torch.testing.assert_close(agreement([teacher.log_softmax(-1)], temperature), wanted)
        torch.testing.assert_close(
            divergence(student.log_softmax(-1), wanted, temperature),
            divergence(student, wanted, temperature),
        )


def test_gradients_are_the_distance_of_distributions():
    generator = torch.Generator().manual_seed(1)
    student, other = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64)
    student.requires_grad_()
    wanted = agreement([other], 2.0)
    assert torch.autograd.gradcheck(lambda x: divergence(x, wanted, 2.0), student)
    (found,) = torch.autograd.grad(divergence(student, wanted, 2.0).sum(), student)
    torch.testing.assert_close(found, 2 * ((student / 2).softmax(-1) - (other / 2).softmax(-1)))


def test_certainty_has_a_finite_divergence():
    sure = torch.full((1, 3), -200.0)
    sure[..., 1] = 0.0
    unsure = torch.zeros(1, 3)
    torch.testing.assert_close(
        divergence(unsure, agreement([sure], 1.0), 1.0), torch.tensor([math.log(3)])
    )
    both = agreement([sure, sure.roll(1, -1)], 1.0)
    torch.testing.assert_close(divergence(unsure, both, 1.0), torch.tensor([math.log(3 / 2)]))
