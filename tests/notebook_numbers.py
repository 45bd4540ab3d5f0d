"""Numbers that the course texts print, and where the notebooks print them: facts to compare with, no text of theirs.

Each line (or part of one, to the next ";") is ``row | numbers``: a row of the cell's output begins with these words,
and its numbers are these, in this order, to half a unit of the last digit printed on either side ("-" skips one)."""

from __future__ import annotations

from typing import NamedTuple


class Rows(NamedTuple):
    """Rows of one cell's output.  rel (of the number), extra: added to the tolerance, the reason in ``origin``."""

    notebook: str
    cell: str
    origin: str
    lines: str
    rel: float = 0.0
    extra: float = 0.0


class Reference(NamedTuple):
    """A whole table of one cell against a file of tests/reference/lme4: "fixef" rows, or "ranef" or "coef" of a factor.

    A text prints these tables in full; the reference files agree with every digit of it (tests/reference/README.md)."""

    notebook: str
    cell: str
    case: str
    table: str
    rel: float = 0.0
    extra: float = 0.0


GLASGOW = "psyTeachR, Introducing linear mixed-effects models (D. Barr)"
SLIDES = "Linear Mixed-Effects Models, slides (D. Barr)"
STANFORD = "Psych 252, Linear mixed effects models 2"
AARHUS = "Methods 3, week 2 (L. M. Andersen)"
EDINBURGH = "DAPR3, week 5"
# lme4's default optimiser stopped at theta = (1.212754, 0.047081, 0.260840); the optimum, the "tight" block of the
# reference, is (1.212762, 0.047088, 0.260835): 1.5e-4 of the smallest one, and as much of what depends on it.
STOPPED = "; the text's optimiser stopped 1.5e-4 short of the optimum (tests/reference/README.md, `tight`)"

ROWS = [
    Rows("02", "recode", GLASGOW, "2 | 250.8006 2 308 0\n3 | 321.4398 3 308 1\n7 | 290.1486 7 308 5"),
    Rows("02", "count", GLASGOW, "\n".join(f"{i} | {i} {i + 2} 18" for i in range(8))),
    Rows(
        "02",
        "describe",
        GLASGOW,
        """min | 203.0 2.00 0.00; 25% | 265.2 3.75 1.75; 50% | 303.2 5.50 3.50
        mean | 308.0 5.50 3.50; 75% | 347.7 7.25 5.25; max | 466.4 9.00 7.00""",
    ),
    Rows(
        "02",
        "complete",
        GLASGOW,
        """| -112.284 -26.732 2.143 27.734 140.453
        Intercept | 267.967 7.737 34.633
        days_deprived | 11.435 1.850 6.183 6.32e-09
        Residual standard error | 50.85 142
        Multiple R-squared | 0.2121 0.2066
        F-statistic | 38.23 1 142 6.316e-09""",
    ),
    Rows("02", "complete-coef", GLASGOW, "Intercept | 267.96742\ndays_deprived | 11.43543"),
    Rows(
        "02",
        "none-fit",
        GLASGOW,
        "nobs | 144\nsigma | 25.53\ndf_residual | 108\nr_squared | 0.849\nadj_r_squared | 0.8001\nF | 17.35\ndf | 35",
    ),
    Rows(
        "02",
        "none-residuals",
        GLASGOW,
        "0.00 | -106.521\n0.25 | -8.541\n0.50 | 1.143\n0.75 | 8.889\n1.00 | 128.545",
    ),
    Rows(
        "02",
        "add-offsets",
        GLASGOW,
        "308 | 288.217466666666 21.6904952380953\n335 | 262.874583333333 -4.20899166666667",
    ),
    Rows(
        "02",
        "own-lines",
        GLASGOW,
        """308 | 288. 21.7; 309 | 200. 4.36; 310 | 226. 3.90; 330 | 273. 8.01; 331 | 298. 4.87; 332 | 316. 2.40
        333 | 285. 10.9; 334 | 238. 18.1; 335 | 263. -4.21; 337 | 313. 22.4; 349 | 229. 16.4; 350 | 248. 23.3
        351 | 264. 8.52; 352 | 331. 7.29; 369 | 267. 13.8; 370 | 235. 20.6; 371 | 258. 12.3; 372 | 291. 11.1""",
    ),
    Rows(
        "02",
        "t-test",
        GLASGOW,
        "estimate | 11.43543\nlower | 7.542244\nupper | 15.328613\ndf | 17\nt | 6.1971\np | 9.749e-06",
    ),
    Rows(
        "02",
        "partial",
        GLASGOW + STOPPED,
        """REML criterion at convergence | 1404.1
        | -4.0157 -0.3541 0.0069 0.4681 5.0732
        Subject Intercept | 958.35 30.957
        days_deprived | 45.78 6.766 0.18
        Residual | 651.60 25.526
        Number of obs | 144 18
        Intercept | 267.967 8.266 - 32.418
        days_deprived | 11.435 1.845 - 6.197
        days_deprived | -0.062""",
        rel=2e-5,
    ),
    Rows("02", "fixef", GLASGOW, "Intercept | 267.96742\ndays_deprived | 11.43543"),
    Rows("02", "std-errors", GLASGOW + STOPPED, "Intercept | 8.265896\ndays_deprived | 1.845293", rel=2e-5),
    # The tail beyond z multiplies its relative error by about z^2 = 38.
    Rows("02", "wald", GLASGOW + STOPPED, "Intercept | 32.418437\ndays_deprived | 6.197082 5.75197e-10", rel=6e-4),
    Rows(
        "02",
        "confint",
        GLASGOW + STOPPED + "; lme4 interpolates profiles by splines",
        """1|Subject_sigma | 19.0979934 46.3366599
        Subject_corr[Intercept,days_deprived] | -0.4051073 0.8058951
        days_deprived|Subject_sigma | 4.0079284 10.2487351
        sigma | 22.4666029 29.3494509
        Intercept | 251.3443396 284.5904989
        days_deprived | 7.7245247 15.1463328""",
        rel=7e-4,
    ),
    Rows("02", "sigma", GLASGOW + STOPPED, "| 25.5264"),
    Rows(
        "02",
        "varcorr",
        GLASGOW + STOPPED,
        """0 Subject Intercept NaN | 30.957255 958.3517
        1 Subject days_deprived NaN | 6.765919 45.77766
        2 Subject Intercept days_deprived | 0.1776263 37.20460""",
        rel=2e-4,
    ),
    Rows("02", "correlation", GLASGOW + STOPPED, "| 0.1776263", rel=2e-4),
    Rows(
        "02",
        "fitted",
        GLASGOW,
        """0 | 251. 2 308 0 292. -41.7; 1 | 203. 2 309 0 209. -5.62; 2 | 234. 2 310 0 228. 5.83
        3 | 284. 2 330 0 269. 14.5; 4 | 302. 2 331 0 286. 15.4; 5 | 273. 2 332 0 298. -25.5
        6 | 277. 2 333 0 281. -4.57; 7 | 243. 2 334 0 250. -6.44; 8 | 254. 2 335 0 251. 3.50
        9 | 292. 2 337 0 313. -20.9; 10 | 239. 2 349 0 241. -2.36; 11 | 256. 2 350 0 262. -5.80
        12 | 270. 2 351 0 262. 7.50; 13 | 327. 2 352 0 315. 12.3; 14 | 257. 2 369 0 269. -11.7
        15 | 239. 2 370 0 249. -10.5; 16 | 278. 2 371 0 261. 17.3; 17 | 298. 2 372 0 286. 11.9""",
    ),
    Rows(
        "02",
        "sleepstudy",
        SLIDES + "; printed from an optimiser that stopped 2e-5 short of the optimum",
        """REML criterion at convergence | 1743.6
        | -3.9536 -0.4634 0.0231 0.4634 5.1793
        Subject Intercept | 612.10 24.741
        Days | 35.07 5.922 0.07
        Residual | 654.94 25.592
        Number of obs | 180 18
        Intercept | 251.405 6.825 - 36.838
        Days | 10.467 1.546 - 6.771
        Days | -0.138""",
        rel=2e-5,
    ),
    Rows(
        "02",
        "anova",
        SLIDES,
        "without Days | 5 1785. 1801. -888. 1775.\nwith Days | 6 1764. 1783. -876. 1752. 23.5 1",
    ),
    Rows("02", "anova-p", SLIDES, "p = | 0.00000123"),
    # 3.218759e-12 is 1 - pnorm(z), which loses digits; the exact tail is 3.218650e-12.
    Rows("02", "t-as-z", SLIDES, "t as z | - 3.218759e-12", rel=1e-4),
    Rows("03", "paired-lm", STANFORD, "Intercept | 0.1905239\ncondition[2] | 0.1993528"),
    Rows(
        "03",
        "paired-lmer",
        STANFORD,
        """REML criterion at convergence | 17.3
        | -1.55996 -0.36399 -0.03341 0.34400 1.65823
        participant Intercept | 0.816722 0.90373
        Residual | 0.003796 0.06161
        Number of obs | 40 20
        Intercept | 0.19052 0.20255 - 0.941
        condition[2] | 0.19935 0.01948 - 10.231
        condition[2] | -0.048""",
    ),
    Rows(
        "03",
        "t-test",
        STANFORD,
        """t = | -10.231 19 3.636e-09
        95 percent confidence interval | -0.2401340 -0.1585717
        mean of the differences | -0.1993528""",
    ),
    Rows(
        "03",
        "lecture-simulated",
        STANFORD,
        """REML criterion at convergence | 606.
        | -2.53710 -0.62295 -0.04364 0.67035 2.19899
        participant Intercept | 0.1607 0.4009
        Residual | 1.0427 1.0211
        Number of obs | 200 100
        Intercept | 1.0166 0.1097 - 9.267
        condition[1] | 2.0675 0.1444 - 14.317
        condition[1] | -0.658""",
    ),
    Rows("03", "lrt", STANFORD, "lm | 3 608.6 618.49 -301.3 602.6\nlmer | 4 608.8 621.99 -300.4 600.8"),
    Rows("03", "lrt-p", STANFORD, "lmer | 1.7999 1 0.1797"),
    Rows(
        "03",
        "outlier-data",
        STANFORD,
        """REML criterion at convergence | 74.9
        | -1.9268 -0.5412 -0.1103 0.4868 1.7747
        participant Intercept | 0.1702 0.4125
        Residual | 0.2270 0.4764
        Number of obs | 40 20
        Intercept | 1.0920 0.1409 - 7.75
        condition[1] | 2.0726 0.1507 - 13.76
        condition[1] | -0.535""",
    ),
    Rows(
        "03",
        "outlier-fit",
        STANFORD,
        """REML criterion at convergence | 171.7
        | -1.4038 -0.4678 -0.0094 0.5800 1.3930
        participant Intercept | 46.198 6.7969
        Residual | 0.227 0.4764
        Number of obs | 40 20
        Intercept | 2.5920 1.5236 - 1.701
        condition[1] | 2.0726 0.1507 - 13.758
        condition[1] | -0.049""",
    ),
    Rows(
        "03",
        "slopes-fit",
        STANFORD,
        """REML criterion at convergence | 83.6
        | -3.5808 -0.3184 0.0130 0.4551 2.0913
        participant Intercept | 0.0000 0.0000
        Residual | 0.4512 0.6717
        Number of obs | 40 20
        Intercept | 0.190524 0.150197 - 1.268
        condition[2] | -0.001941 0.212411 - -0.009
        condition[2] | -0.707""",
    ),
    Rows("03", "slopes-error", STANFORD, "(1 + condition | participant) asks for as many random effects |  20 2 40 40"),
    Rows(
        "03",
        "simpson-lm",
        STANFORD,
        """| -5.8731 -0.6362 0.2272 1.0051 2.6410
        Intercept | -7.1151 0.2107 -33.76
        x | 6.3671 0.3631 17.54
        Residual standard error | 1.55 198
        Multiple R-squared | 0.6083 0.6064
        F-statistic | 307.5 1 198""",
    ),
    Rows(
        "03",
        "simpson-lmer",
        STANFORD,
        """REML criterion at convergence | 345.1
        | -2.43394 -0.59687 0.04493 0.62694 2.68828
        participant Intercept | 21.4898 4.6357
        Residual | 0.1661 0.4075
        Number of obs | 200 20
        Intercept | -0.1577 1.3230 - -0.119
        x | -7.6678 1.6572 - -4.627
        x | -0.621""",
    ),
    Rows(
        "03",
        "berkeley",
        STANFORD,
        """A | 825 62 108 82; B | 560 63 25 68; C | 325 37 593 34
        D | 417 33 375 35; E | 191 28 393 24; F | 373 6 341 7""",
    ),
    Rows(
        "03",
        "sleep-start",
        STANFORD,
        """308 | 0 249.56; 308 | 1 258.70; 308 | 2 250.80; 308 | 3 321.44; 308 | 4 356.85
        309 | 0 222.73; 309 | 1 205.27; 309 | 2 202.98; 309 | 3 204.71; 309 | 4 207.72""",
    ),
    Rows(
        "03",
        "sleep-none",
        STANFORD + " (its 0 for the slope of 373 is the lecture's own stand-in for a missing estimate)",
        """308 | 244.1927 21.764702; 309 | 205.0549 2.261785; 310 | 203.4842 6.114899; 330 | 289.6851 3.008073
        331 | 285.7390 5.266019; 332 | 264.2516 9.566768; 333 | 275.0191 9.142045; 334 | 240.1629 12.253141
        335 | 263.0347 -2.881034; 337 | 290.1041 19.025974; 349 | 215.1118 13.493933; 350 | 225.8346 19.504017
        351 | 261.1470 6.433498; 352 | 276.3721 13.566549; 369 | 254.9681 11.348109; 370 | 210.4491 18.056151
        371 | 253.6360 9.188445; 372 | 267.0448 11.298073; 373 | 245.0000; 374 | 286.0000 2.000000""",
    ),
    Rows("04", "line-design", AARHUS, "0 | 1 -3\n1 | 1 1\n2 | 1 2\n3 | 1 5.5\n0 | -6\n3 | 10"),
    Rows("04", "parabola-design", AARHUS, "0 | 1 9 -3\n1 | 1 1 1\n2 | 1 4 2\n3 | 1 30.25 5.5"),
    Rows("04", "factor-data", AARHUS, "0 | 5 1 0\n1 | 7 1 0\n4 | 6 1 0\n5 | 3 0 1\n6 | 5 0 1\n9 | 2 0 1"),
    Rows("04", "coin-probability", AARHUS, "| 0.25"),
    Rows(
        "04",
        "coin-test",
        AARHUS,
        "p-value = | 0.01563\n95 percent confidence interval | 0.5903836 1.0000000\nestimate | 1",
    ),
    Rows("04", "lm", AARHUS, "Intercept | 37.285\nwt | -5.344"),
    # The minimum itself, exactly; then the slides' numbers, from a stop 2e-5 above it where the criterion is flat.
    Rows(
        "04",
        "fixef",
        "lme4/mtcars_boundary.json, `tight`",
        "Intercept | 32.2769646894154 4.75233700417775\nwt | -4.05363738415213 1.1041234655695",
        rel=1e-6,
    ),
    Rows("04", "criterion", "lme4/mtcars_boundary.json, `tight`", "REML criterion | 148.290871618004"),
    Rows(
        "04",
        "fixef",
        AARHUS + ", printed short of the minimum",
        "Intercept | 32.273 4.746 6.801\nwt | -4.052 1.102 -3.676",
        rel=2e-3,
    ),
    Rows(
        "04",
        "summary",
        AARHUS + ", printed short of the minimum",
        "cyl Intercept | 56.92 7.545\nwt | 2.79 1.670 -1.00\nResidual | 5.61 2.369\nNumber of obs | 32 3",
        rel=5e-3,
    ),
    Rows(
        "04",
        "ranef",
        AARHUS + ", printed short of the minimum",
        "4 | 7.135243949 -1.5795832665\n6 | 0.003908138 -0.0008645995\n8 | -7.139152086 1.5804478660",
        extra=8e-3,
    ),
    Rows("04", "ranef-mean", AARHUS, "Intercept | 0.0000\nwt | 0.0000"),
    Rows("04", "rss", AARHUS, "lm | 278.3219"),
    Rows("04", "rss", AARHUS + ", printed short of the minimum", "mixed | 158.2694", rel=2e-5),
    Rows("04", "sigma", AARHUS, "lm | 3.045882"),
    Rows("04", "sigma", AARHUS + ", printed short of the minimum", "mixed | 2.368621", rel=6e-5),
    Rows(
        "05",
        "truth",
        EDINBURGH + ": its estimates, the truth of the simulation, since its data are not public",
        """Intercept | - 405.79
        x1 | - -0.672
        1|subject_sigma | - 72.72
        x1|subject_sigma | - 1.36
        subject_corr[Intercept,x1] | - -0.35
        sigma | - 25.74""",
    ),
    Rows("05", "data", EDINBURGH, "| 185 20"),
]

REFERENCES = [
    Reference("02", "none", "sleep2_lm_no_pooling", "fixef"),
    # Conditional modes move with theta (see STOPPED); 330's slope, in which two large terms cancel, most.
    Reference("02", "ranef", "sleep2_slope", "ranef", extra=1e-3),
    Reference("03", "paired-coef", "paired_t_test", "coef"),
    Reference("03", "sleep-intercept", "sleep_partial_intercept", "coef"),
    # 310: two large terms cancel; lme4's default tolerance of 1e-6 of theta remains.
    Reference("03", "sleep-slope", "sleep_partial_slope_only", "coef", extra=1e-6),
    # The lecture's optimiser stopped at the block tolerance_1e6: the sixth digit differs from the optimum.
    Reference("03", "sleep-both", "sleep_partial_slope", "coef", extra=1e-3),
]
