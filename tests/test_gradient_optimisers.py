"""Gradients through the steps of optimisers."""

from __future__ import annotations

import numpy as np
import pytest
from gradients import TRAINING, agrees, drawing, run

f64 = drawing(14)

STEPS = {
    "Adagrad": (3, "decay_factor=0.1, norm_coefficient=0.3, epsilon=0.01"),
    "Momentum": (3, 'alpha=0.9, beta=0.7, norm_coefficient=0.3, mode="standard"'),
    "Nesterov": (3, 'alpha=0.9, beta=0.7, norm_coefficient=0.3, mode="nesterov"'),
    "Adam": (4, "alpha=0.8, beta=0.7, norm_coefficient=0.3, norm_coefficient_post=0.2, epsilon=0.01"),
}


@pytest.mark.parametrize("time", [0, 3])
@pytest.mark.parametrize("name", STEPS)
def test_steps(name: str, time: int) -> None:
    """Of two tensors, by the learning rate and all that belongs to the tensors, of the new tensors and of the states."""
    size, attributes = STEPS[name]
    xs, results = ([f"{letter}{k}{n}" for k in range(size - (letter == "r")) for n in "ab"] for letter in "xr")
    formal = ", ".join(f"double[{3 if x.endswith('a') else '2,2'}] {x}" for x in xs)
    weighted = " ".join(f"w{r} = Sin({r}) s{r} = ReduceSum<keepdims=0>(w{r})" for r in results)
    names = ", ".join(f'"{x}"' for x in ("rate", *xs))
    text = f"""g (double rate, int64 time, {formal}) => (double y, double drate, {formal.replace(" x", " dx")}) {{
        {", ".join(results)} = {TRAINING}.{name.replace("Nesterov", "Momentum")}<{attributes}>(rate, time, {", ".join(xs)})
        {weighted} y = Sum({", ".join(f"s{r}" for r in results)})
        drate, {", ".join(f"d{x}" for x in xs)} = Gradient<xs=[{names}], zs=["time"], y="y">(rate, {", ".join(xs)}, time) }}"""
    values = [np.abs(f64(*((3,) if x.endswith("a") else (2, 2)))) if x[1] == str(size - 1) else f64(*((3,) if x.endswith("a") else (2, 2)))
              for x in xs]
    agrees(text, [np.array(0.1), np.int64(time), *values], [0, *range(2, 2 + len(xs))])


def test_a_step_before_there_was_a_gradient() -> None:
    text = f"""g (float[2] x, float[2] g0, float[2] v, float[2] h, float rate, int64 time) => (float[2] dx, float[2] dg) {{
        y, a, b = {TRAINING}.Adam<alpha=0.5, beta=0.5, epsilon=0.25>(rate, time, x, g0, v, h)
        dx, dg = Gradient<xs=["x", "g0"], zs=["v", "h", "rate", "time"], y="y">(x, g0, v, h, rate, time) }}"""
    zeros = np.zeros(2, np.float32)
    dx, dg = run(text, np.ones(2, np.float32), zeros, zeros, zeros, np.float32(0.1), np.int64(0))
    np.testing.assert_array_equal(dx, [1, 1])
    np.testing.assert_allclose(dg, [-0.2, -0.2], 1e-6)


def test_the_count_of_updates_is_a_number() -> None:
    text = f"""g (float[2] x, float[2] g0, float[2] h, int64 time) => (float d) {{ rate = Constant<value=float {{0.5}}>()
        y, a = {TRAINING}.Adagrad<decay_factor=0.25, epsilon=1.0>(rate, time, x, g0, h)
        d = Gradient<xs=["time"], zs=["x", "g0", "h"], y="y">(time, x, g0, h) }}"""
    (d,) = run(text, *(np.full(2, value, np.float32) for value in (1, 3, 7)), np.int64(2))
    np.testing.assert_allclose(d, 2 * 0.5 * 0.25 / 1.5**2 * 3 / 5, 1e-6)
