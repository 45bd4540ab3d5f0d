# Writes glmmtmb.json beside it: criteria, coefficients, standard errors and dispersion of glmmTMB's fits to families.csv
# (120 rows for each family, simulated) and to Salamanders (glmmTMB's own data).  sigma: alpha of nbinom2, 1/sqrt(alpha)
# of Gamma, kappa of beta and betabinomial, sigma of t.  Rscript glmmtmb.R, with glmmTMB and jsonlite.
suppressMessages({library(glmmTMB); library(jsonlite)})
family <- list(negativebinomial = nbinom2(), gamma = Gamma(link = "log"), beta = beta_family(),
               beta_binomial = betabinomial(), t = t_family())
control <- glmmTMBControl(optCtrl = list(iter.max = 1000, eval.max = 1000, rel.tol = 1e-14, x.tol = 1e-12))
all <- read.csv("families.csv")
all$h <- factor(all$h)
found <- list()
one <- function(name, right, m) list(family = name, right = right, criterion = -2 * as.numeric(logLik(m)),
  beta = unname(fixef(m)$cond), se = unname(sqrt(diag(vcov(m)$cond))), sigma = sigma(m))
for (name in names(family)) for (right in c("x + (x | g)", "x + (1 | g) + (1 | h)", "x")) {
  left <- if (name == "beta_binomial") "cbind(y, n - y)" else "y"
  m <- glmmTMB(as.formula(paste(left, "~", right)), all[all$family == name, ], family = family[[name]], control = control)
  found[[length(found) + 1]] <- one(name, right, m)
}
m <- glmmTMB(count ~ spp + mined + (1 | site), Salamanders, family = nbinom2, control = control)
found[[length(found) + 1]] <- one("Salamanders", "spp + mined + (1 | site)", m)
write_json(found, "glmmtmb.json", digits = 12, auto_unbox = TRUE, pretty = TRUE)
