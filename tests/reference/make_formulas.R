# What R makes of formulas: the space of model.matrix's columns, lm's sequential tests and lme4's criterion.
# Rscript make_formulas.R formulas.json
# (R 4.2.2, lme4 1.1-31, jsonlite 1.8.4.)  The data are made here and written into the file.
suppressPackageStartupMessages({library(lme4); library(jsonlite)})
set.seed(20240501)
n <- 72
d <- data.frame(
  x = round(rnorm(n), 3), z = round(runif(n, 1, 2), 3),
  f = sample(c("a", "b", "c"), n, TRUE), h = sample(c("u", "v"), n, TRUE), k = sample(c("r", "s", "t"), n, TRUE),
  g = rep(sprintf("g%02d", 1:9), each = 8)
)
d$b <- runif(n) < 0.5
d$c <- runif(n) < 0.4
d$e <- ifelse(d$f == "a", "p", sample(c("p", "q"), n, TRUE))        # f:e has the empty cell a, q
d$m <- ifelse(d$f == "a", "q", sample(c("p", "q"), n, TRUE))        # f:m lacks the cell of the first levels
d$y <- round(1 + 0.5 * d$x + d$b + (d$f == "c") * 0.7 + rnorm(9)[as.integer(factor(d$g))] + rnorm(n, 0, 0.5), 4)
v <- round(rnorm(n), 4)   # projected on each space: two spaces of one dimension with the same projection of it are one

# Formulas as hiermod writes them; R's own form where it differs.
common <- c(
  "1", "x", "0 + x", "f", "0 + f", "0 + f + h", "0 + x + f + h", "f*h", "0 + f*h", "f:h", "0 + f:h", "f:h + f", "f:h + h",
  "f + f:h", "h + f:h", "0 + f:h + h", "0 + f:h + f", "f:h:k", "f:h:k + f", "h + f:h:k", "k + f:h:k", "f + h + f:h:k",
  "f:h + f:h:k", "f:h + h:k", "f:h + f:k + h:k", "(f + h + k)**2", "(f + h + k)**3", "f*h + f:h:k", "0 + f:h:k + h:k",
  "x:f", "x + x:f", "x:f + x", "x:f + f", "x:f:h + x:f", "x:f + x:f:h", "x:f:h", "x + x:f:h", "x:f:h + f", "x:f:h + x:f + x:h",
  "f/x", "f/h", "f/h/k", "x*f*h", "x:z", "x:z:f + x:z", "z:x + x:z:f", "0 + x:f + f", "0 + x:f:h + x",
  "b", "0 + b", "b + c", "0 + b + c", "b:c", "0 + b:c", "b:x", "b + b:x", "x + b:x", "f:b", "f*b", "f:b + b", "b:c:x + x", "b/x",
  "I(x > 0)", "0 + I(x > 0)", "I(x > 0):b", "I(x > 0):x", "I(x > 0):f + f", "I(b * 2)", "b + I(b * 2):f", "I(b)", "0 + I(b) + f",
  "f:e", "f*e", "f + f:e", "e + f:e", "f:m", "f*m", "x:f:m + x", "poly(x, 2):f", "poly(x, 2) + poly(x, 2):h", "f:poly(x, 2):h + h",
  "I(x * 1e-3)", "factor(b)", "factor(h):x", "log(z):f + log(z)"
)
lefts <- c("f:h", "0 + f:h", "b", "0 + b", "f:h + h", "0 + I(x > 0)", "x:b", "x + x:b", "b:c", "f:b + f")
as_r <- function(text) gsub("**", "^", text, fixed = TRUE)

space <- function(text) {
  X <- model.matrix(as.formula(paste("~", as_r(text))), d)
  q <- qr(X, tol = 1e-7)
  Q <- qr.Q(q)[, seq_len(q$rank), drop = FALSE]
  list(formula = text, names = colnames(X), rank = q$rank, projected = drop(Q %*% crossprod(Q, v)))
}
tests <- function(text) {
  fit <- lm(as.formula(paste("y ~", as_r(text))), d)
  a <- anova(fit)
  a <- a[rownames(a) != "Residuals", ]
  list(formula = text, term = rownames(a), df = a$Df, F = a$`F value`, sigma = sigma(fit))
}
mixed <- c(
  "b + (1 | g)", "0 + b + (1 | g)", "b:x + (1 | g)", "f:b + (1 | g)", "x + (b | g)", "x + (0 + b | g)", "x + (0 + I(x > 0) | g)",
  "f:h + f + (1 | g)", "f:h + (1 | g)", "x:f:h + x:f + (1 | g)", "f:e + (1 | g)", "f + x:b + (x | g)"
)
control <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-9), calc.derivs = FALSE)
fitted_by_lme4 <- function(text) {
  fit <- suppressMessages(lmer(as.formula(paste("y ~", text)), d, REML = TRUE, control = control))
  ml <- suppressMessages(lmer(as.formula(paste("y ~", text)), d, REML = FALSE, control = control))
  list(formula = text, reml = REMLcrit(fit), deviance = deviance(ml), fitted = unname(fitted(ml)), sigma = sigma(ml))
}
alone <- c("f:h", "f:h + f", "f:h + h", "x:f:h", "x + x:f:h", "f:b", "b", "b:x", "f:h:k", "f:e", "f + f:e", "I(x > 0)", "x:f + x", "b:c")
out <- list(
  made_by = paste("make_formulas.R,", R.version.string, "lme4", packageVersion("lme4")),
  data = as.list(d), vector = v, common = lapply(common, space), lefts = lapply(lefts, space),
  anova = lapply(alone, tests), mixed = lapply(mixed, fitted_by_lme4)
)
write_json(out, commandArgs(TRUE)[1], digits = 10, auto_unbox = FALSE, pretty = FALSE)
