"""What a prior did to an estimate, in one vocabulary: prior.against, agreement, prior_sensitivity, plots and check().

Each measures in its own way: against by information beside REML's (prior_weight.py), prior_sensitivity by powers of
prior and likelihood, agreement by where posterior and REML differ.  A conflict is one thing for all three: the tail
test of the parameter's own prior (tail_tests.py)."""

from __future__ import annotations

DATA, SAY, DECIDES, CONFLICT = "data decide", "prior has a say", "prior decides", "prior-data conflict"
MEANING = {
    DATA: "neither moves with the prior's strength nor owes it half of what is known",
    SAY: "the prior moves the estimate by what counts, and the data still weigh more",
    DECIDES: "the prior weighs at least as much as the data",
    CONFLICT: "the prior finds values like REML's improbable, also when REML's own error is allowed for",
}
# Where there is nothing to say about the prior, or REML is nothing to set it against.
BOUNDARY, NO_ERROR, FIXED, UNDEFINED = "boundary", "no standard error", "fixed", "undefined"

HALF = 0.5  # the prior's share of the information from which it weighs as much as the data
MOVES = 0.3  # standard errors that count: what a sensitivity of 0.05 is in Kallioinen et al. (2024)


def by_weight(weight: float, shift: float, conflict: bool = False) -> str:
    """The word for a prior with this share of the information that moves the estimate by ``shift`` standard errors."""
    if conflict:
        return CONFLICT
    if weight >= HALF:
        return DECIDES
    return SAY if abs(shift) >= MOVES else DATA


def by_power(prior: float, likelihood: float, threshold: float, conflict: bool = False) -> str:
    """The word for sensitivities to powers of prior and likelihood.

    In a normal model with estimate and prior mean at one place the two are as the shares of the information, so that
    ``prior >= likelihood`` is ``weight >= HALF``."""
    if conflict:
        return CONFLICT
    if prior < threshold:
        return DATA
    return DECIDES if prior >= likelihood else SAY


def p_words(p: float) -> str:
    """A p value in words."""
    if p != p:
        return "p undefined"
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.2g}"
